"""What a picture of weights says: densities in common bins, norms per tensor, and the stretch that is worth showing."""

import numpy as np
from numpy.typing import NDArray

from mpi_landscape.storage.weights_file import WeightCounts
from plotting.picture.levels import format_value

# The share of the weights of a checkpoint that lies outside of what is shown by itself.
_OUTSIDE = 1e-3
# Bins that are drawn.
_MOST_BINS = 120


def densities(counts: WeightCounts) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The share of a checkpoint's finite numbers in each bin, over the bin's width, in the stretch that is shown.

    Bins of the file are put together to about a hundred. The integral over all of the file's bins would be 1, less what lies
    outside of them.

    Returns:
        (bins + 1,) float64, the edges; (num_checkpoints, bins) float64.
    """
    first, last = _shown(counts)
    step = max(1, -(-(last + 1 - first) // _MOST_BINS))
    starts = np.arange(first, last + 1, step)
    edges = counts.bin_edges[np.append(starts, last + 1)]
    grouped = np.add.reduceat(counts.count[:, : last + 1], starts, axis=1)
    totals = counts.count.sum(axis=1) + counts.below + counts.above
    return edges, grouped / np.maximum(totals, 1)[:, None] / np.diff(edges)[None, :]


def stretch(counts: WeightCounts) -> tuple[float, float]:
    """The bins' ends without the outermost ones in which next to nothing lies, of all checkpoints."""
    first, last = _shown(counts)
    return float(counts.bin_edges[first]), float(counts.bin_edges[last + 1])


def _shown(counts: WeightCounts) -> tuple[int, int]:
    """The first and the last bin of that stretch."""
    low, high = len(counts.bin_edges) - 1, 0
    for count in counts.count:
        share = np.cumsum(count) / max(1, int(count.sum()))
        low = min(low, int(np.searchsorted(share, _OUTSIDE / 2)))
        high = max(high, min(len(count) - 1, int(np.searchsorted(share, 1 - _OUTSIDE / 2))))
    return min(low, high), high


def facts_of(counts: WeightCounts) -> tuple[str, ...]:
    """What stands below the title of the histograms."""
    numbers, whole = int(counts.sizes[counts.counted].sum()), int(counts.sizes.sum())
    low, high = stretch(counts)
    facts = [
        f"{numbers:,} of {whole:,} numbers in {int(counts.counted.sum())} of {len(counts.tensors)} tensors"
    ]
    if (low, high) != (float(counts.bin_edges[0]), float(counts.bin_edges[-1])):
        ends = [format_value(float(end)) for end in (counts.bin_edges[0], counts.bin_edges[-1])]
        facts.append(f"tails to {ends[0]} and {ends[1]} are not shown")
    outside, undefined = int((counts.below + counts.above).sum()), int(counts.not_finite.sum())
    if outside:
        facts.append(f"{outside:,} outside the bins")
    if undefined:
        facts.append(f"{undefined:,} not finite")
    return tuple(facts)


def norm_facts(counts: WeightCounts) -> tuple[str, ...]:
    """What stands below the title of the norms."""
    counted, whole = int(counts.counted.sum()), len(counts.tensors)
    return () if counted == whole else (f"{counted} of {whole} tensors; the file has the norms of all",)
