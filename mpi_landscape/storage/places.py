"""Where a file of ours goes in a folder of many users: no link of another's is followed, no file of another's written.

In a folder that everybody may write to and that is sticky, as /tmp is, nobody renames or removes the files of others, but
names are free for all. Linux follows links there only if they are of the user's own or of the folder's owner
(`fs.protected_symlinks`, proc_sys_fs(5)); so do we, on every system, and where links are resolved by name.
"""

from __future__ import annotations

import errno
import glob
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mpi_landscape.errors import LandscapeError

# As many as Linux follows.
_MOST_LINKS = 40
_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def real_place(path: Path) -> Path:
    """The place that a path leads to over all its links; nothing need be there.

    Raises:
        LandscapeError: A link of another user is on the way, in a folder in which everybody may make some.
        OSError: Links lead in a circle, or a folder may not be searched.
    """
    left = list(reversed(path.parts))
    here = Path(left.pop()) if path.is_absolute() else Path.cwd()
    links = 0
    while left:
        part = left.pop()
        if part == os.pardir:
            here = here.parent
            continue
        place = here / part
        try:
            found = place.lstat()
        except (FileNotFoundError, NotADirectoryError):
            here = place
            continue
        if not stat.S_ISLNK(found.st_mode):
            here = place
            continue
        links += 1
        if links > _MOST_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
        _check_link(path, place, found)
        target = Path(place.readlink())
        left.extend(reversed(target.parts))
        if target.is_absolute():
            here = Path(left.pop())
    return here


def _check_link(path: Path, place: Path, link: os.stat_result) -> None:
    folder = place.parent.stat()
    if folder.st_mode & stat.S_IWOTH and link.st_uid not in (os.geteuid(), folder.st_uid):
        raise LandscapeError(
            f"{path}: {place} is a link that another user has made, where everybody may make some; name the file itself"
        )


def is_shared(folder: Path) -> bool:
    """Whether others may make files in a folder, and only remove their own."""
    mode = folder.stat().st_mode
    return bool(mode & stat.S_ISVTX and mode & (stat.S_IWGRP | stat.S_IWOTH))


def is_open_to_all(folder: Path) -> bool:
    """Whether everybody may replace files of others in a folder that is not ours."""
    found = folder.stat()
    return bool(
        found.st_mode & stat.S_IWOTH and not found.st_mode & stat.S_ISVTX and found.st_uid != os.geteuid()
    )


class Replacement:
    """A new file beside another one, which will take its place.

    Attributes:
        descriptor: Of the new file, open for reading and writing.
        path: Where it is until then.
    """

    def __init__(self, real: Path) -> None:
        self._real = real
        try:
            self.path = real.with_name(f".{real.name}.{os.getpid()}.new")
            self.descriptor = os.open(self.path, _NEW, 0o666)
        except FileExistsError:  # of another host, or of somebody who would have us write into his
            self.path = real.with_name(f".{real.name}.{os.getpid()}-{secrets.token_hex(8)}.new")
            self.descriptor = os.open(self.path, _NEW, 0o666)

    def take_place(self) -> None:
        """Put it on disk and give it its name.

        Raises:
            OSError: It cannot, or something else has come to stand under its name meanwhile.
        """
        os.fsync(self.descriptor)
        self._check(self.path)
        self.path.replace(self._real)
        self._check(self._real)

    def _check(self, place: Path) -> None:
        if not os.path.samestat(place.lstat(), os.fstat(self.descriptor)):
            raise OSError(errno.EBUSY, "something else has taken its name", str(place))

    def close(self) -> None:
        """Close it, and remove it where it has not taken its place."""
        with suppress(OSError):
            if os.path.samestat(self.path.lstat(), os.fstat(self.descriptor)):
                self.path.unlink()
        os.close(self.descriptor)


@contextmanager
def replacing(path: Path) -> Iterator[Replacement]:
    """A new file to fill in a `with`, which takes the place of another one, or of none, at its end.

    What is there stays as it is when something is raised within. A link stays a link: the file that it leads to is replaced.

    Args:
        path: Where; its folder exists.

    Raises:
        LandscapeError: A link of another user is on the way.
        OSError: It cannot be written.
    """
    made = Replacement(real_place(path))
    try:
        yield made
        made.take_place()
    finally:
        made.close()


def remove_abandoned(real: Path) -> None:
    """Remove what jobs left that were killed while they made a file; nobody may be making it now."""
    for abandoned in real.parent.glob(f".{glob.escape(real.name)}.*.new"):
        with suppress(PermissionError):  # another user's, who may make some here
            abandoned.unlink(missing_ok=True)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole or not at all; for the rest see `replacing`."""
    with replacing(path) as new, open(new.descriptor, "wb", closefd=False) as stream:
        stream.write(content)
