"""A file that a job may write: locked, and not somebody else's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mpi_landscape.errors import LandscapeError
from mpi_landscape.storage.lock import exclusive
from mpi_landscape.storage.surface.reader import read_attributes


def named_file(output: str) -> Path:
    """The path of a file that is to be written.

    Raises:
        LandscapeError: It is a folder.
    """
    path = Path(output)
    if path.is_dir():
        raise LandscapeError(f"{path}: is a folder; output is the name of a file")
    return path


@contextmanager
def claimed(path: Path, *, overwrite: bool, look: Callable[[Path], Any] = read_attributes) -> Iterator[None]:
    """Keep other jobs from a file, and refuse one that is not ours before any work is done.

    Args:
        path: The file; it need not exist.
        overwrite: Whether whatever is there may be replaced.
        look: Reads a file that is there, and refuses what is none of its kind: a surface file unless said otherwise.

    Raises:
        LandscapeError: Another job holds it, its folder cannot be written, or it is of another kind.
    """
    with exclusive(path):
        if path.exists() and not overwrite:
            look(path)
        yield
