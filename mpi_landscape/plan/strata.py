"""Which examples belong together: strata, within which losses are alike at a few trial points.

The mean of a population that is cut into strata of alike members needs far fewer members than that of the whole.
Source: Cochran (1977), "Sampling Techniques", 3rd edition, chapters 5 and 5A.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class _Cut:
    """The best way to cut a stratum in two: what it saves, in relative terms, and the two parts."""

    members: Ints
    spread: Floats
    parts: tuple[Ints, Ints] | None
    saved: Floats


def stratify(losses: Floats, *, num: int, step: int, least: int) -> list[Ints]:
    """Cut a split into strata, one cut after the other, each where it saves most.

    With n_h ∝ N_h s_h examples from stratum h (Neyman's allocation) the standard error of a mean is proportional to
    Σ_h N_h s_h. Of all cuts along the losses at a trial point, the one is made that lowers the logarithm of this sum
    most, summed over the trial points: one near a minimum, where a few examples carry the loss, counts as much as one
    far out, where all do.

    Args:
        losses: (num_trials, N) float64, nats: the loss of each example at each trial point.
        num: Number of strata, at least 1.
        step: All strata but the last have a multiple of this many examples: whole batches.
        least: Examples in a stratum, at least; a multiple of `step`.

    Returns:
        For each stratum the indices of its examples, ascending, int64; each example once. Fewer strata where the data
        is too small or too uniform for more.

    Example:
        >>> [members.tolist() for members in stratify(np.array([[1.0, 9, 1, 1, 9, 9]]), num=2, step=3, least=3)]
        [[0, 2, 3], [1, 4, 5]]
    """
    scaled = relative(losses)
    whole = np.arange(losses.shape[1])
    cuts = [_best_cut(whole, scaled, np.ones(len(scaled)), step, least)]
    while len(cuts) < num:
        total = np.sum([cut.spread for cut in cuts], axis=0)
        weights = 1 / np.where(total > 0, total, np.inf)
        worth = [float(cut.saved @ weights) if cut.parts is not None else 0.0 for cut in cuts]
        chosen = int(np.argmax(worth))
        parts = cuts[chosen].parts
        if worth[chosen] <= 0 or parts is None:
            break
        cuts[chosen : chosen + 1] = [_best_cut(part, scaled, weights, step, least) for part in parts]
    # The one whose size is no multiple of the step comes last.
    return sorted((np.sort(cut.members) for cut in cuts), key=lambda members: members.size % step != 0)


def relative(losses: Floats) -> Floats:
    """Losses over their mean at each trial point; those that are not finite count as the largest that is."""
    finite = np.isfinite(losses)
    largest = np.max(np.abs(losses), axis=1, where=finite, initial=0.0)[:, None]
    known = np.where(finite, losses, largest)
    mean = np.abs(known).mean(axis=1, keepdims=True)
    return known / np.where(mean > 0, mean, 1.0)


def _best_cut(members: Ints, scaled: Floats, weights: Floats, step: int, least: int) -> _Cut:
    """The cut of a stratum that saves most, of all along any trial point's losses."""
    size = members.size
    spread = _spread(scaled[:, members])
    places = np.arange(least, size - least + 1, step)
    best = _Cut(members, spread, None, np.zeros_like(spread))
    if places.size == 0:
        return best
    for row in scaled:
        order = members[np.argsort(row[members], kind="stable")]
        # Deviations, so that sums of squares keep their digits.
        values = scaled[:, order] - scaled[:, order].mean(axis=1, keepdims=True)
        sums, squares = np.cumsum(values, axis=1), np.cumsum(values**2, axis=1)
        left, square = sums[:, places - 1], squares[:, places - 1]
        below = places * square - left**2
        above = (size - places) * (squares[:, -1:] - square) - (sums[:, -1:] - left) ** 2
        saved = spread[:, None] - np.sqrt(np.maximum(below, 0)) - np.sqrt(np.maximum(above, 0))
        place = int(np.argmax(weights @ saved))
        if weights @ saved[:, place] > weights @ best.saved:
            cut = places[place]
            best = _Cut(members, spread, (order[:cut], order[cut:]), saved[:, place])
    return best


def _spread(values: Floats) -> Floats:
    """N s at each trial point."""
    spread: Floats = values.shape[1] * values.std(axis=1)
    return spread
