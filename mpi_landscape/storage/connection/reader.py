"""Reads the file of a path, also while it is being written."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mpi_landscape.storage import files
from mpi_landscape.storage.cells import DONE
from mpi_landscape.storage.connection.schema import KIND, WHAT
from mpi_landscape.storage.connection.value import Connection, Pivots
from mpi_landscape.storage.item_file import (
    open_item_file,
    read_item_attributes,
    read_results,
    read_variable,
)
from mpi_landscape.storage.soundness import damage_named
from mpi_landscape.storage.surface.ending import Ended
from mpi_landscape.storage.texts import plain


def read_connection(path: str | Path, *, ending: Ended | None = None) -> Connection:
    """The path in a file.

    Args:
        path: A file of `mpi_landscape.connect`.
        ending: How its computation ended, where that is known.

    Raises:
        LandscapeError: There is no such file, or it is of another kind.
    """
    place = Path(path)
    with open_item_file(place, "r", kind=KIND, what=WHAT) as file, damage_named(place):
        # The marks first: what is marked now has had its values before.
        done = file["items/status"][...] == DONE
        number = len(done)
        values = {name: np.where(done, each, np.nan) for name, each in read_results(file).items()}
        attributes = read_item_attributes(place, file)
        t = read_variable(place, file, "pivots/t", (None,), "f8")
        count = (len(t),)
        finished = Ended.FINISHED if done.all() else Ended.UNFINISHED
        return Connection(
            path=str(path),
            t=read_variable(place, file, "t", (number,), "f8"),
            length=read_variable(place, file, "length", (number,), "f8"),
            values=values,
            done=done,
            pivots=Pivots(
                t=t,
                distance=read_variable(place, file, "pivots/distance", count, "f8"),
                checkpoints=tuple(read_variable(place, file, "pivots/checkpoint", count, "O")),
                on_path=bool(attributes.get("is_chain", 1)),
            ),
            splits=tuple(str(attributes.get("splits", "")).split(", ")),
            units={name: str(plain(file[name].attrs.get("units", "")) or "") for name in values},
            attributes=files.readable(attributes),
            ending=finished if ending is None or finished is Ended.FINISHED else ending,
        )
