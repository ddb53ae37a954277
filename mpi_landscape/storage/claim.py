"""A file that a job may write: locked, and not somebody else's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mpi_landscape.storage.lock import exclusive
from mpi_landscape.storage.surface.reader import read_attributes


@contextmanager
def claimed(path: Path, *, overwrite: bool) -> Iterator[None]:
    """Keep other jobs from a surface file, and refuse one that is not ours before any work is done.

    Args:
        path: The surface file; it need not exist.
        overwrite: Whether whatever is there may be replaced.

    Raises:
        LandscapeError: Another job holds it, its folder cannot be written, or it is no surface file.
    """
    with exclusive(path):
        if path.exists() and not overwrite:
            read_attributes(path)
        yield
