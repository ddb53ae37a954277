"""The file of a job: made or recognised once, then open for rows and results."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from mpi_landscape.storage.cells import Cells


class Kept(Protocol):
    """A file in which the rows of a job's items are kept."""

    @property
    def path(self) -> Path:
        """Where it is."""

    @property
    def notes(self) -> Mapping[str, float]:
        """What this run notes of itself before its first item: datasets of one element."""

    def ensure(self) -> None:
        """Make the file, or see that the one that is there is of this very run; called on rank 0 alone.

        Raises:
            LandscapeError: It is of another run, or cannot be written.
        """

    def check(self) -> None:
        """See that the file is still the one of this very run; called on rank 0 alone.

        Raises:
            LandscapeError: It is not.
        """

    def open(self, comm: Any | None, mode: str) -> Cells:
        """Open it: for this process alone or, with `comm`, for every rank together."""
