"""Writing where a disk may be full: errors are kept from HDF5, which cannot bear them, and told in the system's words."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

from mpi_landscape.errors import LandscapeError


def write_failure(error: BaseException) -> str | None:
    """The cause in an error of HDF5 that could not write, in the system's words; None in any other error."""
    # A disk that fills up is an OSError or, when h5py notices it late, a RuntimeError; both quote the system. The parallel
    # driver does not.
    text = str(error)
    quoted = re.search(r"error message = '([^']*)'", text)
    if not isinstance(error, (OSError, RuntimeError)) or not (quoted or "write failed" in text):
        return None
    return quoted[1] if quoted else "file write failed"


def not_kept(path: str | Path, cause: str) -> LandscapeError:
    """The refusal of a tile that could not be written."""
    return LandscapeError(
        f"{path}: cannot be written: {cause}; what is finished is kept: see to the disk and run the same command again"
    )


class Patient(io.FileIO):
    """A file for HDF5 to write into, whose errors are for us and not for HDF5.

    Where a write fails, HDF5 2.0 cannot close the file, and the process crashes at its end. So it is not told; after the first
    error nothing is written any more, and whoever writes asks for it in time.

    Attributes:
        failure: The first error, None when all was written.
    """

    failure: OSError | None = None

    def check(self) -> None:
        """Raise the first error, if there was one.

        Raises:
            LandscapeError: Something could not be written.
        """
        if self.failure is not None:
            raise not_kept(str(self.name), str(self.failure.strerror)) from self.failure

    def write(self, data: Any) -> int:
        """Write all, or note the error."""
        whole = memoryview(data).cast("B")
        done = 0
        try:
            while self.failure is None and done < len(whole):
                done += super().write(whole[done:]) or 0
        except OSError as error:
            self.failure = self.failure or error
        return len(whole)

    def truncate(self, size: int | None = None) -> int:
        """Cut or lengthen, or note the error."""
        try:
            return super().truncate(size) if self.failure is None else size or 0
        except OSError as error:
            self.failure = self.failure or error
            return size or 0
