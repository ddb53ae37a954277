"""Which examples stand for all: the outstanding ones always, of the others a random order within strata."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mpi_landscape.plan.samples import FIRST_TOTAL, Sample, cut
from mpi_landscape.plan.strata import relative, stratify

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def draw(
    losses: Floats, *, num: int, first: int, step: int, generator: np.random.Generator
) -> tuple[Ints, Sample]:
    """Draw nested samples of a split, from its losses at the trial points.

    The first stratum holds the examples that are largest, relative to the mean, at any trial point. It is no larger than a
    first level, so it is evaluated whole at every point (a certainty stratum: Cochran 1977, section 5.8), and no error bar
    hangs on whether a sample has met an outlier that is known.

    Args:
        losses: (num_trials, N) float64, nats: the loss of each example at each trial point.
        num: Number of strata, at least 1; with 1 all examples are evaluated.
        first: Examples of a first level, a multiple of `step`.
        step: Examples in a batch.
        generator: Of the order within the strata.

    Returns:
        (N,) int64, which example comes first, second, ..., and how this order is cut.

    Example:
        >>> losses = np.concatenate([np.ones(6), [900.0], np.ones(2049)])[None]
        >>> order, sample = draw(losses, num=2, first=8, step=8, generator=np.random.default_rng(0))
        >>> 6 in order[:8], sample.examples
        (True, (8, 1016, 1032))
    """
    whole = np.arange(losses.shape[1])
    if num == 1:
        strata = [whole]
    else:
        weight = np.where(np.isfinite(losses), np.abs(relative(losses)), np.inf).max(axis=0)
        certain = np.argsort(-weight, kind="stable")[:first]
        rest = np.setdiff1d(whole, certain)
        parts = stratify(losses[:, rest], num=num - 1, step=step, least=first)
        strata = [certain, *(rest[members] for members in parts)]
        # Fewer strata than asked for: each has to tell more.
        first = max(first, -(-(FIRST_TOTAL - first) // (step * max(len(parts), 1))) * step)
    order = np.concatenate([generator.permutation(np.sort(members)) for members in strata])
    finite = np.where(np.isfinite(losses), np.abs(losses), 0.0).max(axis=0)
    largest = [float(finite[members].max()) for members in strata]
    return order, cut([members.size for members in strata], first, largest)
