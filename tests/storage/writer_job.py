"""Every rank writes every third tile through parallel HDF5; rank 0 the points. Run by test_writer.py."""

import sys
from pathlib import Path

import numpy as np

from mpi_landscape.parallel.launcher import open_ranks
from mpi_landscape.storage import cells
from mpi_landscape.storage.writer import choose_writer

path, seed = Path(sys.argv[1]), float(sys.argv[2])
ranks = open_ranks()
assert choose_writer("auto", ranks.size) == ("parallel", "h5py has parallel HDF5")
with cells.open_cells(path, ranks.comm) as store:
    plan = store._plan
    mine = {}
    for index in range(ranks.rank, plan.num_tiles, ranks.size):
        tile = plan.tile(index)
        mine[index] = np.random.default_rng([int(seed), index]).random((tile.num_points, 4))
        store.write_tile(tile, mine[index])
    every = {index: sums for part in ranks.gather(mine) for index, sums in part.items()}
    totals = cells.Totals(plan)
    for index, sums in sorted(every.items()):
        whole = totals.add(plan.tile(index), sums)
        if whole is not None and ranks.is_root:
            store.write_points(plan.tile(index), whole)
    ranks.gather(None)
    if len(sys.argv) > 3:
        # An abort skips every close: the file must not need one.
        ranks.abort(9)
