"""Every rank writes every third tile through parallel HDF5; rank 0 the points. Run by test_writer.py."""

import sys
from pathlib import Path

import numpy as np

from mpi_landscape.parallel.launcher import open_ranks
from mpi_landscape.storage.surface import schema
from mpi_landscape.storage.surface.tiles import Totals, open_tiles, published
from mpi_landscape.storage.writer import choose_writer

path, seed = Path(sys.argv[1]), float(sys.argv[2])
ranks = open_ranks()
assert choose_writer("auto", ranks.size) == ("parallel", "h5py has parallel HDF5")
with schema.open_file(path, "r") as file:
    grid, plan, quantities = schema.read_plan(file)
with open_tiles(path, ranks.comm) as store:
    mine = {}
    for index in range(ranks.rank, plan.num_tiles, ranks.size):
        tile = plan.tile(index)
        mine[index] = np.random.default_rng([int(seed), index]).random((tile.num_points, 4))
        store.write(tile.index, mine[index])
    every = {index: sums for part in ranks.gather(mine) for index, sums in part.items()}
    totals = Totals(plan, len(quantities.columns))
    for index, sums in sorted(every.items()):
        whole = totals.add(plan.tile(index), sums)
        if whole is not None and ranks.is_root:
            store.publish(published(grid, plan.tile(index), quantities.values(whole)))
    ranks.gather(None)
    if len(sys.argv) > 3:
        # An abort skips every close: the file must not need one.
        ranks.abort(9)
