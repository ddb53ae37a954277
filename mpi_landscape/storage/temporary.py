"""A place for a file that nobody has named, for as long as somebody holds on to it."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from pathlib import Path

from mpi_landscape.errors import LandscapeError


class TemporaryPlace:
    """A new folder, for this user alone, in that of the system (TMPDIR); removed with this object, or at the end of the process.

    Attributes:
        path: Of a file in it, which is not there yet.

    Raises:
        LandscapeError: The system has no such folder that can be written.

    Example:
        >>> place = TemporaryPlace("surface.h5")
        >>> path = place.path
        >>> path.parent.exists(), path.exists()
        (True, False)
        >>> del place
        >>> path.parent.exists()
        False
    """

    def __init__(self, name: str) -> None:
        try:
            folder = Path(tempfile.mkdtemp(prefix="mpi_landscape-"))
        except OSError as error:
            raise LandscapeError(
                f"output is None, and there is no temporary folder to write to ({error.strerror}); set TMPDIR, or name a file"
            ) from error
        self.path = folder / name
        weakref.finalize(self, _remove, folder, os.getpid())

    def __deepcopy__(self, _: object) -> TemporaryPlace:
        return self

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        # In another process there is nothing to hold on to.
        return type(None), ()


def _remove(folder: Path, process: int) -> None:
    # A child of the process that ends earlier leaves it alone.
    if os.getpid() == process:
        shutil.rmtree(folder, ignore_errors=True)
