"""Large rows that each come from one rank, on every rank."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from mpi_landscape.parallel.broadcast import SLICE
from mpi_landscape.parallel.ranks import Ranks


def owner(number: int, ranks: Ranks) -> int:
    """Which rank makes the row of a number.

    Example:
        >>> [owner(number, Ranks(size=3)) for number in range(5)]
        [0, 1, 2, 0, 1]
    """
    return number % ranks.size


def exchanged(
    rows: Mapping[int, NDArray[np.generic]],
    numbers: Sequence[int],
    ranks: Ranks,
    *,
    size: int,
    dtype: str,
    slice_size: int = SLICE,
) -> Iterator[NDArray[np.generic]]:
    """The rows of these numbers in their order, on every rank: as their owners have made them, bit for bit. Collective.

    All ranks have met just before: a broadcast keeps a core busy while it waits.

    Args:
        rows: By number, (size,) each; those that this rank owns.
        numbers: Which are wanted; the same on every rank.
        ranks: The job.
        size: Numbers of a row.
        dtype: Their type.
        slice_size: Bytes per message.
    """
    for number in numbers:
        root = owner(number, ranks)
        row = np.ascontiguousarray(rows[number]) if root == ranks.rank else np.empty(size, dtype=dtype)
        flat = row.view(np.uint8)
        for start in range(0, flat.size if ranks.comm is not None else 0, slice_size):
            ranks.comm.Bcast(flat[start : start + slice_size], root=root)
        yield row
