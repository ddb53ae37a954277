"""Which points of a surface file have their results."""

from __future__ import annotations

from collections.abc import Mapping

import h5py
import numpy as np
from numpy.typing import NDArray

from mpi_landscape.plan.grid import Grid
from mpi_landscape.plan.quantities import Quantities
from mpi_landscape.plan.tiles import Plan
from mpi_landscape.storage.surface import schema
from mpi_landscape.storage.surface.tiles import add_shards

# Points that are looked at together.
_BLOCK = 2**20


def done_points(
    file: h5py.File,
    grid: Grid,
    plan: Plan,
    quantities: Quantities,
    status: NDArray[np.bool_],
    values: Mapping[str, NDArray[np.float64]],
) -> dict[str, NDArray[np.bool_]]:
    """Per split, which points have all their shards done, or an estimate, and their values written.

    Args:
        file: The surface file.
        grid: The points.
        plan: The tiles.
        quantities: What is known at a point.
        status: (num_tiles,) which are marked as done.
        values: By quantity, as read after the status.
    """
    if plan.samples:
        return {split: ~np.isnan(values[f"{split}_loss_stderr"]) for split, _ in plan.shards}
    per_chunk = status.reshape(plan.num_chunks, plan.num_units)
    done = {split: np.zeros(grid.num_points, dtype=bool) for split, _ in plan.shards}
    # Block by block: tables over all of 10^8 points would take 10 GB.
    for start in range(0, grid.num_points, _BLOCK):
        positions = np.arange(start, min(start + _BLOCK, grid.num_points))
        flat, chunk, unit = grid.points(positions), positions // plan.points_per_tile, 0
        for split, shards in plan.shards:
            marked: NDArray[np.bool_] = np.all(per_chunk[chunk, unit : unit + shards], axis=1)
            done[split][flat] = marked & ~_unwritten(file, split, quantities, flat, marked, values, start)
            unit += shards
    return {split: mask.reshape(grid.shape) for split, mask in done.items()}


def _unwritten(
    file: h5py.File,
    split: str,
    quantities: Quantities,
    flat: NDArray[np.int64],
    marked: NDArray[np.bool_],
    values: Mapping[str, NDArray[np.float64]],
    start: int,
) -> NDArray[np.bool_]:
    """Which marked points are NaN only because a writer, at work or killed, has not come to them yet.

    Args:
        file: The surface file.
        split: Name of the split.
        quantities: What is known at a point.
        flat: (n,) flat index of each of consecutive positions.
        marked: (n,) all shards are marked as done.
        values: By quantity.
        start: The first position.

    Returns:
        (n,) bool.
    """
    read = {kind: values[f"{split}_{kind}"] for kind in quantities.kinds}
    empty = {kind: marked & np.isnan(value.reshape(-1)[flat]) for kind, value in read.items()}
    result = np.zeros_like(marked)
    if any(mask.any() for mask in empty.values()):
        totals = add_shards(file[schema.sums_name(split)][:, start : start + flat.size])
        means = quantities.values(totals)
        for kind, mask in empty.items():
            # A count of examples is never NaN, once it is written.
            result |= mask & (~np.isnan(means[kind]) | np.isnan(totals[:, 2]))
    return result
