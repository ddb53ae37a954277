"""Memory of a node, shared by its ranks. Run by test_shared_memory.py; rank 0 prints what every rank saw."""

import json
import sys

import numpy as np

from mpi_landscape.errors import EchoedError, LandscapeError
from mpi_landscape.parallel.launcher import open_ranks
from mpi_landscape.parallel.shared_memory import Node

ranks = open_ranks()
LENGTH = 10_007
seen = {}


def refuse(rank):
    if node.rank == rank:
        raise LandscapeError(f"words of rank {rank}")


with Node(ranks) as node:
    seen["place"] = [node.rank, node.size]
    seen["shared"] = node.share(f"of {node.rank}")
    memory = node.allocate(LENGTH)
    seen["length"], seen["aligned"] = memory.size, memory.ctypes.data % 64 == 0
    # Each rank writes its part, all read the whole.
    start, stop = (LENGTH * each // node.size for each in (node.rank, node.rank + 1))
    memory[start:stop] = node.rank + 1
    node.gather(None)
    parts = [LENGTH * each // node.size for each in range(node.size + 1)]
    expected = np.repeat(np.arange(1, node.size + 1), np.diff(parts)).astype(np.uint8)
    seen["whole"] = bool(np.array_equal(memory, expected))
    node.gather(None)
    other = node.allocate(LENGTH)
    other[start:stop] = 77
    node.gather(None)
    seen["apart"] = bool(np.array_equal(memory, expected) and (other == 77).all())
    node.gather(None)
    node.release(other)
    seen["after release"] = bool(np.array_equal(memory, expected))
    if "large" in sys.argv:
        # Beyond 2^31 bytes: the last of them are there, and are others than those 2^32 or 2^31 before.
        large = node.allocate(2**31 + 2**20)
        if node.rank == 0:
            large[:8], large[2**20 : 2**20 + 8], large[-8:] = 1, 2, 3
        node.gather(None)
        seen["large"] = [int(large[0]), int(large[2**20]), int(large[-1]), large.size]
        node.gather(None)
    seen["room"] = [node.has_room(1), node.has_room(2**60)]
    try:
        with node.together():
            refuse(node.size - 1)
    except EchoedError as error:
        seen["refusal"] = f"echo: {error}"
    except LandscapeError as error:
        seen["refusal"] = str(error)
    try:
        with ranks.together(), node.together():
            refuse(node.size - 1)
    except LandscapeError as error:
        seen["agreed"] = str(error)
every = ranks.gather(seen)
if ranks.is_root:
    json.dump(every, sys.stdout)
