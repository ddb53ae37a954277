"""The tiles of a surface as rows of a file: where each lies, which values they make known, their sums over shards."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from mpi_landscape.plan.grid import Grid
from mpi_landscape.plan.quantities import Quantities
from mpi_landscape.plan.tiles import Plan, Tile
from mpi_landscape.storage import cells
from mpi_landscape.storage.cells import Block, Cells, Published, Row
from mpi_landscape.storage.surface import schema


def blocks(plan: Plan, num_columns: int) -> Callable[[int], Block]:
    """Where the row of each tile lies: sums of its shard at its points."""

    def block(index: int) -> Block:
        tile = plan.tile(index)
        return Block(
            schema.sums_name(tile.split), (tile.shard, tile.start, 0), (1, tile.num_points, num_columns)
        )

    return block


def published(grid: Grid, tile: Tile, values: Mapping[str, Row]) -> Published:
    """What is known of a tile's points.

    Args:
        grid: The points.
        tile: Which of them.
        values: By kind, in the order in which to write them: (tile.num_points,) float64 each.
    """
    places = np.unravel_index(grid.points(np.arange(tile.start, tile.stop)), grid.shape)
    return Published(places, {f"{tile.split}_{kind}": column for kind, column in values.items()})


def open_tiles(path: Path, comm: Any = None, *, mode: str = "r+") -> Cells:
    """The tiles of an existing surface file; see `cells.open_cells`.

    Raises:
        LandscapeError: The file cannot be opened, or is no sound surface file.
    """
    return cells.open_cells(path, comm, mode, open_file=schema.open_file, layout=_layout)


def tiles_of(file: h5py.File) -> Cells:
    """The tiles of an open surface file, to look at."""
    names, block = _layout(file)
    return Cells({name: file[name] for name in names}, block)


def in_memory(grid: Grid, plan: Plan, quantities: Quantities) -> tuple[Cells, dict[str, NDArray[Any]]]:
    """The twin of a surface file, and its arrays to look at."""
    return cells.in_memory(schema.arrays(grid, plan, quantities), blocks(plan, len(quantities.columns)))


def _layout(file: h5py.File) -> tuple[Sequence[str], Callable[[int], Block]]:
    grid, plan, quantities = schema.read_plan(file)
    return list(schema.arrays(grid, plan, quantities)), blocks(plan, len(quantities.columns))


class Totals:
    """Which tiles are in, and their sums over shards, added in the order of the plan.

    Args:
        plan: The tiles.
        num_columns: Of a row.
    """

    def __init__(self, plan: Plan, num_columns: int) -> None:
        self._plan = plan
        self._shards = dict(plan.shards)
        # Few points, then: with enough of them every split has one shard and nothing is kept.
        self._sums = {
            split: np.full((count, plan.num_points, num_columns), np.nan)
            for split, count in plan.shards
            if count > 1
        }
        self._seen = np.zeros(plan.num_tiles, dtype=bool)
        self._missing = {
            (split, chunk): count
            for split, count in plan.shards
            if count > 1
            for chunk in range(plan.num_chunks)
        }

    def add(self, tile: Tile, sums: Row) -> Row | None:
        """Take note of a tile.

        Returns:
            (tile.num_points, num_columns) sums over the whole split when this was the last shard of its points, else None.
        """
        self._seen[tile.index] = True
        if self._shards[tile.split] == 1:
            return sums
        self._sums[tile.split][tile.shard, tile.start : tile.stop] = sums
        key = (tile.split, tile.start // self._plan.points_per_tile)
        self._missing[key] -= 1
        if self._missing[key] > 0:
            return None
        return add_shards(self._sums[tile.split][:, tile.start : tile.stop])

    def left(self) -> Iterator[int]:
        """The tiles that have not been added, in the order of the plan."""
        return (int(index) for index in np.flatnonzero(~self._seen))

    @property
    def num_left(self) -> int:
        """How many they are."""
        return int(self._seen.size - self._seen.sum())


def add_shards(sums: Row) -> Row:
    """Sums over a split from those of its shards, added one after the other.

    Args:
        sums: (num_shards, num_points, num_columns) float64.

    Returns:
        (num_points, num_columns) float64.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        total: Row = np.cumsum(sums, axis=0)[-1]
    return total
