"""Ranks agree, refuse and share together. Run by test_ranks.py; rank 0 prints what every rank saw."""

import json
import os
import sys

from mpi_landscape.errors import AgreedError, LandscapeError
from mpi_landscape.parallel.launcher import open_ranks

ranks = open_ranks()
seen = {
    "place": [ranks.rank, ranks.size, ranks.local_rank, ranks.local_size, ranks.is_root, ranks.host],
    "process": os.getpid(),
    "gathered": ranks.gather(ranks.rank * 10),
    "shared": ranks.share([ranks.rank, "text"]),
    "on_root": ranks.on_root(lambda: "of rank 0"),
}
with ranks.together():
    seen["agreed"] = ranks.rank + 1
if ranks.comm is not None:
    from mpi4py import MPI

    seen["own"] = MPI.Comm.Compare(ranks.comm, MPI.COMM_WORLD) == MPI.CONGRUENT


def refuse(*who):
    if ranks.rank in who:
        raise LandscapeError(f"words of rank {ranks.rank}")
    return ranks.rank


def together(*who):
    with ranks.together():
        found = refuse(*who)
    return found


def nested():
    with ranks.together():
        together(ranks.size - 1)


for name, work in {
    "all": lambda: together(*range(ranks.size)),
    "last": lambda: together(ranks.size - 1),
    "root": lambda: ranks.on_root(lambda: refuse(0)),
    "nested": nested,
}.items():
    try:
        seen[name] = work()
    except LandscapeError as error:
        seen[name] = str(error)
        seen[f"{name} agreed"] = isinstance(error, AgreedError)
# Whatever was refused, the ranks are still in step.
seen["after"] = ranks.gather("x")
every = ranks.gather(seen)
if ranks.is_root:
    json.dump(every, sys.stdout)
