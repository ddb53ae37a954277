"""Sums over ranks in an order that the terms alone decide, and vectors of which every rank has made a part."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from mpi_landscape.parallel.broadcast import SLICE
from mpi_landscape.parallel.ranks import Ranks

_Held = TypeVar("_Held")


class Sums(Protocol[_Held]):
    """What is summed, and can take over what another one holds."""

    @property
    def held(self) -> _Held:
        """Parts of the sum."""

    def take(self, held: _Held) -> None:
        """Add the parts of another one."""

    @property
    def total(self) -> NDArray[np.float64]:
        """The sum, when all parts have come."""


def total_over_ranks(ranks: Ranks, sums: Sums[_Held]) -> NDArray[np.float64]:
    """The sum of all terms that the ranks have, neighbors in rank order having neighboring ones; on every rank. Collective."""
    if ranks.comm is None:
        return sums.total
    # One message at a time: many ranks' parts at once would not fit into memory.
    for rank in range(ranks.size - 1):
        ranks.meet()
        if ranks.rank == rank:
            ranks.comm.send(sums.held, dest=rank + 1)
        elif ranks.rank == rank + 1:
            sums.take(ranks.comm.recv(source=rank))
    last = ranks.size - 1
    ranks.meet()
    total: NDArray[np.float64] = ranks.comm.bcast(sums.total if ranks.rank == last else None, root=last)
    return total


def join(ranks: Ranks, array: NDArray[np.generic], parts: Sequence[tuple[int, int]]) -> None:
    """Give every rank the parts of a 1D array that the others have made, in place. Collective.

    Args:
        ranks: The job.
        array: Of one size and type on every rank.
        parts: First place, and one past the last, of what each rank has.
    """
    if ranks.comm is None:
        return
    ranks.meet()
    for root, (start, stop) in enumerate(parts):
        flat = array[start:stop].view(np.uint8)
        for at in range(0, flat.size, SLICE):
            ranks.comm.Bcast(flat[at : at + SLICE], root=root)
