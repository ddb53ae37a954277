"""Rows that each come from one rank, on every rank. Run by test_exchange.py; rank 0 prints what came out wrong."""

import json
import sys

import numpy as np

from mpi_landscape.parallel.exchange import exchanged, owner
from mpi_landscape.parallel.launcher import open_ranks

ranks = open_ranks()
found = []
for dtype in ("f4", "f8"):
    for size in (0, 1, 7):
        for slice_size in (11, 56, 10_000):
            every = np.random.default_rng(size).normal(size=(5, size)).astype(dtype)
            own = {number: every[number] for number in range(5) if owner(number, ranks) == ranks.rank}
            wanted = [0, 1, 3, 4]
            ranks.meet()
            rows = list(exchanged(own, wanted, ranks, size=size, dtype=dtype, slice_size=slice_size))
            if [row.tobytes() for row in rows] != [every[number].tobytes() for number in wanted]:
                found.append(f"{dtype} {size} {slice_size}")
gathered = ranks.gather(found)
if ranks.is_root:
    sys.stdout.write(json.dumps(gathered))
