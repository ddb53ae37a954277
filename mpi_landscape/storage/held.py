"""Whether the name of an open file still leads to it, and what is kept of it where it does not."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

from mpi_landscape.errors import LostFileError
from mpi_landscape.storage.places import replacing

# Seconds between two looks, which take microseconds on a local disk and up to a millisecond on a parallel file system.
_OFTEN = 2.0


class Held:
    """A file that this job writes: looked at now and then, for a name may come to lead elsewhere while work goes on.

    Args:
        path: The file, which is there.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._size = os.fstat(self._descriptor).st_size
        self._looked = time.monotonic()

    def close(self) -> None:
        """No longer look."""
        os.close(self._descriptor)

    def look(self) -> None:
        """`check`, where the last look was a moment ago."""
        if time.monotonic() - self._looked >= _OFTEN:
            self.check()
            self._looked = time.monotonic()

    def check(self) -> None:
        """See that the name leads to the open file, and that it has not become shorter.

        Raises:
            LostFileError: It does not; what is finished is kept under another name where that is possible.
        """
        own = os.fstat(self._descriptor)
        try:
            found = self._path.stat()
        except OSError as error:
            found, why = None, error.strerror or str(error)
        if found is not None and os.path.samestat(found, own):
            if found.st_size < self._size:
                raise LostFileError(
                    f"{self._path}: was cut from {self._size:,} to {found.st_size:,} bytes while it was written; what was "
                    f"finished in it is lost: --overwrite begins anew"
                )
            return
        now = self._renamed(own)
        if now is not None:
            raise LostFileError(
                f"{self._path}: is called {now} since it was opened; what is finished is there: move it back, and run the same "
                f"command again"
            )
        what = (
            f"is gone while it was written ({why})"
            if found is None
            else "is another file since it was opened"
        )
        raise LostFileError(f"{self._path}: {what}; {self._rescued()}")

    def _renamed(self, own: os.stat_result) -> Path | None:
        """Its new name, where the system tells it."""
        try:
            now = Path(f"/proc/self/fd/{self._descriptor}").readlink()
            return now if os.path.samestat(now.lstat(), own) else None
        except OSError:
            return None

    def _rescued(self) -> str:
        """Copy what the open file holds to a new one, beside it or where the job was started; in words."""
        for folder in (self._path.parent, Path()):
            place = folder / f"{self._path.stem}.rescued-{os.getpid()}{self._path.suffix}"
            try:
                place.parent.mkdir(parents=True, exist_ok=True)
                if os.path.lexists(place):
                    continue
                with (
                    replacing(place) as new,
                    open(self._descriptor, "rb", closefd=False) as source,
                    open(new.descriptor, "wb", closefd=False) as target,
                ):
                    source.seek(0)
                    shutil.copyfileobj(source, target, 2**20)
            except OSError:
                continue
            return f"what is finished is kept as {place}: move it to the old name, and run the same command again"
        return "what was finished could not be kept under another name"
