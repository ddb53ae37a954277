"""Small surfaces, never square, whose values are known."""

import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mpi_landscape.plan.grid import Axis, Grid
from mpi_landscape.plan.quantities import Quantities
from mpi_landscape.plan.tiles import Plan, Tile
from mpi_landscape.storage.surface.creation import Contents, create

GRID = Grid(Axis(-0.5, 1.0, 4), Axis(0.0, 2.0, 3))
LINE = Grid(Axis(-0.5, 1.0, 7))
SHARDS = (("train", 3), ("test", 1))


@pytest.fixture
def contents() -> Callable[..., Contents]:
    """Make what a file holds; by default a 4 x 3 grid in tiles of 5 points, train in three shards and test in one."""

    def make(
        grid: Grid = GRID,
        *,
        points_per_tile: int = 5,
        shards=SHARDS,
        accuracy=True,
        returned=(),
        **attributes,
    ) -> Contents:
        directions = {"alpha": np.arange(7, dtype=np.float32) - 3}
        if grid.beta is not None:
            directions["beta"] = np.arange(7, dtype=np.float32) * 2
        return Contents(
            grid=grid,
            plan=Plan(num_points=grid.num_points, points_per_tile=points_per_tile, shards=shards),
            quantities=Quantities(accuracy=accuracy, returned=returned),
            center=np.arange(7, dtype=np.float32) / 8,
            directions=directions,
            layout=[
                {"name": "dense.weight", "shape": (2, 3), "offset": 0, "kind": "weight"},
                {"name": "dense.bias", "shape": (1,), "offset": 6, "kind": "bias"},
            ],
            attributes=attributes,
        )

    return make


@pytest.fixture
def sums_of() -> Callable[[Tile], np.ndarray]:
    """Planted sums of a tile: of its split, shard and positions alone, so that every cell has a value of its own."""

    def make(tile: Tile) -> np.ndarray:
        positions = np.arange(tile.start, tile.stop)
        offset = zlib.crc32(tile.split.encode()) % 97
        examples = np.full(positions.size, 10.0 + tile.shard)
        loss = (positions + 1) * (tile.shard + 1) / 3 + offset
        return np.stack([loss, positions % 10 + tile.shard / 4, examples, loss**2], axis=1)

    return make


@pytest.fixture
def whole_of(contents, sums_of) -> Callable[[Contents, str], tuple[np.ndarray, np.ndarray]]:
    """The loss and accuracy of every point of a split, by a plain loop over shards and points."""

    def make(made: Contents, split: str) -> tuple[np.ndarray, np.ndarray]:
        totals = np.zeros((made.grid.num_points, 4))
        for index in range(made.plan.num_tiles):
            tile = made.plan.tile(index)
            if tile.split == split:
                totals[tile.start : tile.stop] += sums_of(tile)
        loss, accuracy = np.full(made.grid.shape, np.nan), np.full(made.grid.shape, np.nan)
        for position, (loss_sum, correct, examples, _) in enumerate(totals):
            place = np.unravel_index(int(made.grid.points(np.array([position]))[0]), made.grid.shape)
            loss[place], accuracy[place] = loss_sum / examples, correct / examples
        return loss, accuracy

    return make


@pytest.fixture
def surface_file(tmp_path, contents) -> Callable[..., tuple[Path, Contents]]:
    """Make a file with nothing done in it."""

    def make(name: str = "surface.h5", **settings) -> tuple[Path, Contents]:
        made = contents(**settings)
        create(tmp_path / name, made)
        return tmp_path / name, made

    return make
