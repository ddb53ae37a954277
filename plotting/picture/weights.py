"""What a picture of weights says: densities in common bins, norms per tensor, and the stretch that is worth showing."""

import numpy as np
from numpy.typing import NDArray

from mpi_landscape.storage.weights_file import WeightCounts
from plotting.picture.levels import format_value

# The share of the weights of a checkpoint that lies outside of what is shown by itself.
_OUTSIDE = 1e-3


def densities(counts: WeightCounts) -> NDArray[np.float64]:
    """(num_checkpoints, bins) float64: the share of a checkpoint's finite numbers in each bin, over the bin's width.

    Their integral over all bins is 1, less what lies outside of them.
    """
    totals = counts.count.sum(axis=1) + counts.below + counts.above
    widths = np.diff(counts.bin_edges)
    found: NDArray[np.float64] = counts.count / np.maximum(totals, 1)[:, None] / widths[None, :]
    return found


def stretch(counts: WeightCounts) -> tuple[float, float]:
    """The bins' ends without the outermost ones in which next to nothing lies, of all checkpoints."""
    low, high = len(counts.bin_edges) - 1, 0
    for count in counts.count:
        share = np.cumsum(count) / max(1, int(count.sum()))
        low = min(low, int(np.searchsorted(share, _OUTSIDE / 2)))
        high = max(high, min(len(count) - 1, int(np.searchsorted(share, 1 - _OUTSIDE / 2))))
    return float(counts.bin_edges[min(low, high)]), float(counts.bin_edges[high + 1])


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
