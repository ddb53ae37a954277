"""One job per file: the second is refused and told who the first is; a dead job's lock does not block."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import stat
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path

from mpi_landscape.errors import LandscapeError
from mpi_landscape.storage.places import is_open_to_all, is_shared, real_place

# Seconds. A killed process holds its lock until the last of its threads is gone, which may be after its mpiexec has
# ended and the job that continues has started.
DYING = 2.0

# Other users may have taken some; nobody needs more.
_MOST_PLACES = 100
_NO_LOCKS = {errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL}


def lock_path(path: Path) -> Path:
    """The lock that belongs to a file, beside it; the same one whatever links lead to the file.

    Raises:
        LandscapeError: A link of another user is on the way.
        OSError: Links lead in a circle, or a folder may not be searched.
    """
    return next(_lock_places(real_place(path)))


def _lock_places(real: Path) -> Iterator[Path]:
    """Names for the lock of a file, to be taken in turn where one is another user's.

    Where others may make files but not remove ours, they could keep a common lock for ever, and they cannot write what is
    ours: each user has locks of his own. Whoever comes second is refused where the file gets its name.
    """
    if not real.parent.exists() or not is_shared(real.parent):
        yield real.with_name(f".{real.name}.lock")
        return
    for number in range(_MOST_PLACES):
        yield real.with_name(f".{real.name}.{os.geteuid()}{f'.{number}' * (number > 0)}.lock")


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Keep every other job from writing a file, for as long as the `with` lasts or this process lives.

    The operating system drops the lock when its process dies, however it dies. Where a file system has no locks,
    this warns and goes on.

    Args:
        path: The surface file; it need not exist, its folder is made.

    Raises:
        LandscapeError: Another job holds it (named), or the folder cannot be written.
    """
    place, descriptor = _open(path)
    try:
        # Whoever is refused reads it; a full disk must not make of this courtesy a failure.
        with suppress(OSError):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps(_holder()).encode(), 0)
        yield
    finally:
        # Gone while still held; `_open` sees to those who had it open already.
        with suppress(OSError):  # its folder may be gone, too
            place.unlink(missing_ok=True)
        os.close(descriptor)


def _open(path: Path) -> tuple[Path, int]:
    """A descriptor that holds the lock on the file that bears the name now, not on one just removed; and that name."""
    while True:
        place, descriptor, is_writable = _find(path)
        try:
            _acquire(descriptor, path)
            with suppress(FileNotFoundError):
                if os.path.samestat(place.lstat(), os.fstat(descriptor)):
                    if is_writable:
                        return place, descriptor
                    # A dead job's, of another user, where everybody may remove what others have made.
                    _remove(place, path)
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _find(path: Path) -> tuple[Path, int, bool]:
    """The lock file, open: its name, the descriptor, and whether it is open for writing, too."""
    try:
        real = real_place(path)
        real.parent.mkdir(parents=True, exist_ok=True)
        own_alone = is_shared(real.parent)
        if is_open_to_all(real.parent):
            warnings.warn(
                f"{path}: everybody may replace what is in its folder; chmod +t {real.parent} keeps files to their owners",
                stacklevel=5,
            )
        for place in _lock_places(real):
            try:
                return place, *_opened(place, own_alone=own_alone)
            except _NotOursError:
                continue
        raise OSError(errno.EEXIST, f"all names of its lock, {place} the last, are other users'")
    except OSError as error:
        raise LandscapeError(
            f"{path}: cannot be written: {error.strerror}; choose another --output"
        ) from error


class _NotOursError(Exception):
    """A lock file is another user's, where each has locks of his own."""


def _opened(place: Path, *, own_alone: bool) -> tuple[int, bool]:
    # A pipe is not waited for, and what a link leads to is never opened.
    flags = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    is_writable = True
    try:
        try:
            descriptor = os.open(place, os.O_RDWR | os.O_CREAT | flags, 0o666)
        except PermissionError:
            # Another user's: whether he still holds it can be asked all the same.
            descriptor, is_writable = os.open(place, os.O_RDONLY | flags), False
    except OSError as error:
        if own_alone:
            raise _NotOursError from error
        if error.errno == errno.ELOOP:
            raise OSError(error.errno, f"its lock {place} is a link; remove it") from error
        raise
    found = os.fstat(descriptor)
    if own_alone and found.st_uid != os.geteuid():
        os.close(descriptor)
        raise _NotOursError
    # Another name of it would be a file of somebody, which the holder's name is not to be written into.
    if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
        os.close(descriptor)
        raise OSError(errno.EEXIST, f"its lock {place} is no file of its own; remove it")
    if found.st_uid == os.geteuid():
        # Whoever comes next asks it, whatever the umask.
        os.fchmod(descriptor, stat.S_IMODE(found.st_mode) | 0o444)
    return descriptor, is_writable


def _remove(place: Path, path: Path) -> None:
    try:
        place.unlink()
    except PermissionError as error:
        raise LandscapeError(
            f"{path}: cannot be written: its lock {place} is of another user's job that has ended; choose another --output"
        ) from error


def _acquire(descriptor: int, path: Path) -> None:
    try:
        _lock(descriptor)
    except BlockingIOError:
        raise LandscapeError(
            f"{path}: is being written by another job ({_describe(descriptor)}); wait for it or stop it"
        ) from None
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise LandscapeError(f"{path}: cannot be locked: {error.strerror}") from error
        warnings.warn(
            f"{path}: its file system has no locks; make sure that no other job writes it", stacklevel=4
        )


def _lock(descriptor: int) -> None:
    end = time.monotonic() + DYING
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > end:
                raise
        time.sleep(0.05)


def _holder() -> dict[str, str | int]:
    job = os.environ.get("SLURM_JOB_ID", "")
    started = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return {
        "host": socket.gethostname(),
        "process": os.getpid(),
        "since": started,
        **({"slurm_job": job} if job else {}),
    }


def _describe(descriptor: int) -> str:
    text = os.pread(descriptor, 4096, 0).decode(errors="replace")
    try:
        return ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in json.loads(text).items())
    # Anybody may write there, also a thousand brackets.
    except (ValueError, AttributeError, RecursionError):
        return "it has not said which"
