"""Large arrays from rank 0 to all, and sums over ranks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mpi_landscape.parallel.ranks import Ranks

# A broadcast of more than 2^31 elements fails on Open MPI 5.0.11; slices of 2^28 bytes work everywhere and cost nothing.
SLICE = 2**28


def broadcast(
    ranks: Ranks, array: NDArray[np.generic] | None, *, slice_size: int = SLICE
) -> NDArray[np.generic]:
    """Rank 0's array on every rank, sent in slices.

    Args:
        ranks: The job.
        array: On rank 0, any shape and number type; ignored elsewhere.
        slice_size: Bytes per message.

    Returns:
        Rank 0's array itself on rank 0, an equal one elsewhere.
    """
    if ranks.comm is None:
        assert array is not None
        return array
    shape, dtype = ranks.share(None if array is None else (array.shape, array.dtype.str))  # type: ignore[misc]
    whole = array if ranks.is_root and array is not None else np.empty(shape, dtype=dtype)
    # As bytes: Open MPI knows no float16, and no MPI a foreign byte order.
    flat = np.ascontiguousarray(whole).reshape(-1).view(np.uint8)
    for start in range(0, flat.size, slice_size):
        ranks.comm.Bcast(flat[start : start + slice_size], root=0)
    return whole


def sum_over_ranks(ranks: Ranks, array: NDArray[np.float64]) -> NDArray[np.float64]:
    """The elementwise sum over all ranks, on every rank.

    Exact, whatever the order, where each element is non-zero on one rank only, which is how it is used.
    """
    if ranks.comm is None:
        return array
    # Not empty_like: it would keep a Fortran order, and the sums would land in the wrong elements.
    total = np.empty(array.shape)
    ranks.meet()
    ranks.comm.Allreduce(np.ascontiguousarray(array, dtype=np.float64), total)
    return total
