"""A file whose writer is killed at any instant opens, and what it marks as done is right."""

import random
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest

from mpi_landscape.plan.grid import Axis, Grid
from mpi_landscape.storage.surface.reader import read_surface, verify_tiles
from mpi_landscape.storage.surface.tiles import open_tiles
from tests.exhaustive import values
from tests.storage.known import totals_of

# 1,200 points in 60 x 3 tiles: tens of milliseconds of writing, some 100 kB that the library may hold back.
GRID = Grid(Axis(-1, 1, 40), Axis(0, 3, 30))
SETTINGS = {"grid": GRID, "points_per_tile": 20, "shards": (("train", 2), ("test", 1))}

# Writes what is left, as rank 0 does; says when it begins and when it is through.
WRITER = """
    import sys
    from pathlib import Path
    import numpy as np
    from mpi_landscape.storage.surface import schema
    from mpi_landscape.storage.surface.tiles import Totals, open_tiles, published
    path = Path(sys.argv[1])
    with schema.open_file(path, "r") as file:
        grid, plan, quantities = schema.read_plan(file)
    with open_tiles(path) as store:
        totals = Totals(plan, 4)
        for index in store.marked():
            sums = store.read(int(index))
            whole = None if sums is None else totals.add(plan.tile(int(index)), sums)
            if whole is not None:
                store.publish(published(grid, plan.tile(int(index)), quantities.values(whole)))
        print("begun", flush=True)
        for index in totals.left():
            tile = plan.tile(index)
            sums = np.arange(4.0 * tile.num_points).reshape(-1, 4) + 1000 * index + 1
            store.write(tile.index, sums)
            whole = totals.add(tile, sums)
            if whole is not None:
                store.publish(published(grid, tile, quantities.values(whole)))
    print("done", flush=True)
"""


def planted(tile):
    return np.arange(4.0 * tile.num_points).reshape(-1, 4) + 1000 * tile.index + 1


def check(path, made):
    """Everything that the file marks as done and verifies is right, and nothing else shows; returns tiles verified."""
    surface = read_surface(path)
    verified = 0
    totals = totals_of(made)
    expected = {split: np.full((GRID.num_points, 4), np.nan) for split, _ in made.plan.shards}
    with open_tiles(path, mode="r") as store:
        for index in range(made.plan.num_tiles):
            tile = made.plan.tile(index)
            sums = store.read(tile.index)
            if sums is not None:
                assert sums.tobytes() == planted(tile).tobytes(), f"tile {index} is not what was written"
                verified += 1
                whole = totals.add(tile, sums)
                if whole is not None:
                    expected[tile.split][tile.start : tile.stop] = whole
    flat = GRID.points(np.arange(GRID.num_points))
    for split, done in surface.done.items():
        loss = np.full(GRID.num_points, np.nan)
        loss[flat] = expected[split][:, 0] / expected[split][:, 2]
        shown = done.reshape(-1)
        np.testing.assert_array_equal(surface.values[f"{split}_loss"].reshape(-1)[shown], loss[shown])
        assert not np.isnan(loss[shown]).any(), "done, though a tile of it is not"
    return verified


@pytest.mark.parametrize("seed", values(range(6), 0))
def test_a_file_whose_writer_is_killed_opens_and_its_tiles_are_right(surface_file, seed):
    path, made = surface_file(**SETTINGS)
    generator = random.Random(seed)
    command = [sys.executable, "-c", textwrap.dedent(WRITER), str(path)]
    verified = 0
    # Each job goes on with the file of the one that was killed.
    for _ in range(2):
        writer = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert writer.stdout.readline() == "begun\n", writer.communicate()
        time.sleep(generator.uniform(0, 0.03))
        writer.send_signal(signal.SIGKILL)
        writer.communicate()
        now = check(path, made)
        assert now >= verified, "a tile that was done is lost"
        verified = now
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.stdout == "begun\ndone\n", done.stderr
    assert check(path, made) == made.plan.num_tiles
    assert verify_tiles(path) == (180, 180, 0)
    assert read_surface(path).progress == 1.0
