"""One job per file: the second is refused and told who the first is; a dead job's lock does not block."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path

from mpi_landscape.errors import LandscapeError

# Seconds. A killed process holds its lock until the last of its threads is gone, which may be after its mpiexec has
# ended and the job that continues has started.
DYING = 2.0

_NO_LOCKS = {errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL}


def lock_path(path: Path) -> Path:
    """The lock that belongs to a file, beside it; the same one whatever links lead to the file."""
    # Not Path.resolve(): before Python 3.13 it raises where links lead in a circle.
    real = Path(os.path.realpath(path))
    return real.with_name(f".{real.name}.lock")


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
    place = lock_path(path)
    descriptor = _open(place, path)
    try:
        # Whoever is refused reads it; a full disk must not make of this courtesy a failure.
        with suppress(OSError):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps(_holder()).encode(), 0)
        yield
    finally:
        # Gone while still held; `_open` sees to those who had it open already.
        place.unlink(missing_ok=True)
        os.close(descriptor)


def _open(place: Path, path: Path) -> int:
    """A descriptor that holds the lock on the file that bears the name now, not on one just removed."""
    while True:
        try:
            with suppress(FileNotFoundError):
                path.stat()  # links may lead nowhere, but not in a circle
            place.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(place, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise LandscapeError(
                f"{path}: cannot be written: {error.strerror}; choose another --output"
            ) from error
        try:
            _acquire(descriptor, path)
            with suppress(FileNotFoundError):
                if os.path.samestat(place.stat(), os.fstat(descriptor)):
                    return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


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
