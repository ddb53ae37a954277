"""What a file of a path is called, and what in it is what."""

from __future__ import annotations

from pathlib import Path

from mpi_landscape.storage.item_file import open_item_file

KIND = "connection"
WHAT = "a file of a path (mpi_landscape.connect)"
# What the results of the straight line between the ends begin with.
LINE = "line_"


def check_kind(path: Path) -> None:
    """Refuse a file of another kind.

    Raises:
        LandscapeError: It is one, or cannot be opened.
    """
    open_item_file(path, "r", kind=KIND, what=WHAT).close()
