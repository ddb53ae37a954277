"""What a state of nested samples says: estimate, standard error, and the next step of the path.

All three follow from the state and the sums alone, so every run takes the same path, whatever the number of ranks; a wanted
accuracy says only where on the path to stop, and the end of every path is the exact value.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mpi_landscape.plan.samples import Sample

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# A step of the path lowers the squared standard error by this share, or as far as one more level of each stratum can.
STEP = 0.25
# Unseen examples count as if PSEUDO of them were in, off the mean by as much as is plausible. Of n examples that are all alike
# 2 standard errors are then 2 sqrt(2) R / n: the rule of three, by which less than 3 / n of the others differ (at 95 %).
PSEUDO = 2.0
# A path stops at the first state whose error is small enough, so among all states it prefers those whose variance is
# estimated too small: variances are larger by this factor. `benchmarks/error_bars.py` measures what it does and costs.
MARGIN = 1.3
# How far is plausible is no less than what this many times the mean square says, of all strata but that of the outstanding: those
# that are not yet whole may all look harmless.
USUAL = 3.0
# In files of version 0.1.0: PSEUDO with the variance of the whole split, whatever it is, and no margin.
CAUTION = 2.0
_TINY = 1e-280


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What a state says of a chunk of points.

    Attributes:
        means: (num_points, num_columns) float64: each column per example; that of the examples is 1.
        stderr: (num_points,) float64: standard error of the loss, 0 only where all examples are in; infinite where examples are
            left and the loss is not finite, or nothing says how large a loss may be.
    """

    means: Floats
    stderr: Floats

    @property
    def loss(self) -> Floats:
        """(num_points,) float64, nats per example."""
        return self.means[:, 0]

    @property
    def relative_error(self) -> float:
        """The largest standard error relative to its own loss; 0 for a loss of zero known to be so."""
        with np.errstate(invalid="ignore", divide="ignore"):
            # A loss that is not finite stays so, whatever comes.
            relative = np.where(self.stderr > 0, self.stderr / np.abs(self.loss), 0.0)
        return float(np.max(np.where(np.isfinite(self.loss), relative, 0.0)))


def estimate(sample: Sample, levels: Ints, sums: Floats) -> Estimate:
    """Means and the standard error of the loss by the stratified mean.

        loss = Σ_h N_h m_h / N        stderr² = Σ_h N_h² s_h² (1/n_h - 1/N_h) / N²

    with the mean m_h and the variance s_h² over the n_h examples that are in, but s_h² is bounded below by what so few
    examples cannot have shown (`_cautious`): it is never zero while examples are left. Where all are in, the loss is the mean
    of all, its sums added in the order of the shards, and its standard error is 0.

    Source: Cochran (1977), "Sampling Techniques", 3rd edition, equations 5.1 and 5.7.

    Args:
        sample: The cut.
        levels: (num_strata,) levels that are in, at least 1 each.
        sums: (num_shards, num_points, num_columns) float64: loss sum, correct, examples, sum of squared losses, ...

    Example:
        Of strata of 2 and 6 examples, one of loss 10 and three of loss 2 each are in: (2 · 10 + 6 · 2) / 8 = 4.

        >>> sample = Sample(strata=(0, 0, 1, 1), examples=(1, 1, 3, 3))
        >>> sums = np.zeros((4, 1, 4))
        >>> sums[0], sums[2] = [10, 1, 1, 100], [6, 0, 3, 12]
        >>> estimate(sample, np.array([1, 1]), sums).loss
        array([4.])
    """
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        if np.array_equal(levels, sample.num_levels):
            total = np.cumsum(sums, axis=0)[-1]
            return Estimate(means=total / total[:, 2:3], stderr=np.zeros(len(total)))
        seen, shares = _seen(sample, levels, sums), sample.sizes[:, None, None] / sample.sizes.sum()
        means = np.cumsum(shares * seen / seen[:, :, 2:3], axis=0)[-1]
        means[:, 2] = 1.0  # and not the sum of rounded shares
        number = _number(sample, levels)
        variance = _variances(sample, seen) * _factor(sample, number)[:, None]
        stderr = np.sqrt(np.cumsum(variance, axis=0)[-1])
    return Estimate(means=means, stderr=np.where(np.isnan(stderr), np.inf, stderr))


def step(sample: Sample, levels: Ints, sums: Floats) -> Ints:
    """The next state on the path: one more level where it lowers the standard error most for its cost.

    Args:
        sample: The cut.
        levels: (num_strata,) levels that are in.
        sums: (num_shards, num_points, 4) float64.

    Returns:
        (num_strata,) levels, more than before unless all were in.
    """
    more = np.minimum(levels + 1, sample.num_levels)
    before, after = _number(sample, levels), _number(sample, more)
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        seen = _seen(sample, levels, sums)
        # Relative to the point's own loss, so that the points of a chunk can be compared.
        loss = np.sum(sample.sizes[:, None] * seen[:, :, 0] / seen[:, :, 2], axis=0) / sample.sizes.sum()
        variances = _variances(sample, seen) / loss**2
        now, then = (variances * _factor(sample, number)[:, None] for number in (before, after))
        worst = int(np.argmax(np.sum(now, axis=0)))
        gains = (now - then)[:, worst]
        worth = np.where(after > before, gains / (after - before), -np.inf)
    # No number says where to go on: everywhere.
    if not np.isfinite(np.sum(now[:, worst])) or not gains.any():
        return more
    result, missing = levels.copy(), STEP * float(np.sum(now[:, worst]))
    for stratum in np.argsort(-worth, kind="stable"):
        if missing <= 0:
            break
        result[stratum] = more[stratum]
        missing -= gains[stratum]
    return result


def _parts(sample: Sample, levels: Ints) -> list[slice]:
    """The shards of each stratum in a state."""
    return [slice(first, first + count) for first, count in zip(sample.first_shards, levels, strict=True)]


def _number(sample: Sample, levels: Ints) -> Floats:
    """(num_strata,) examples of each stratum in a state."""
    examples = np.array(sample.examples, dtype=np.float64)
    return np.array([examples[part].sum() for part in _parts(sample, levels)])


def _seen(sample: Sample, levels: Ints, sums: Floats) -> Floats:
    """(num_strata, num_points, 4) sums over the levels of a state, added in the order of the shards."""
    return np.stack([np.cumsum(sums[part], axis=0)[-1] for part in _parts(sample, levels)])


def _variances(sample: Sample, seen: Floats) -> Floats:
    """(num_strata, num_points) N_h² s_h² / N²; infinite where nothing says how large a loss may be."""
    number = seen[:, :, 2]
    mean = seen[:, :, 0] / number
    # Rounding of the difference can leave a trifle below zero.
    squares = np.maximum(seen[:, :, 3] - seen[:, :, 0] * mean, 0)
    shares = (sample.sizes / sample.sizes.sum())[:, None]
    bounded = (
        _cautious(sample, seen, mean, squares, shares)
        if sample.largest
        else _cautious_before(number, mean, squares, shares)
    )
    result: Floats = bounded * shares**2
    return result


def _cautious(sample: Sample, seen: Floats, mean: Floats, squares: Floats, shares: Floats) -> Floats:
    """(num_strata, num_points) s_h² = MARGIN (Σ (l - m_h)² + PSEUDO R_h²) / (n_h - 1 + PSEUDO).

    R_h is how far an unseen example may plausibly be off: the largest of the loss, of the size of what carries the loss in the
    stratum, of that in all strata that are not yet whole, and of the root of USUAL times the mean square of the losses in all
    strata but the first, which holds what is outstanding. By size of what carries the loss Σ l² / |Σ l| is meant: 1 for 0-1
    losses, however rare they are, and nearly the largest loss where that one carries all. Where the loss is zero so far, R_h
    is the largest loss at the trial points.

    Source: Hanley and Lippman-Hand (1983), "If nothing goes wrong, is everything all right?", JAMA 249, for the rule of three.
    """
    number, left = seen[:, :, 2], shares * (seen[:, :, 2] < sample.sizes[:, None])
    loss = np.sum(shares * mean, axis=0)
    around = _size(
        np.sum(left * seen[:, :, 3] / number, axis=0),
        np.sum(left * mean, axis=0),
        np.sum((left > 0) * seen[:, :, 3], axis=0),
    )
    # No loss in any that is not whole: as large as in those that are.
    around = np.where(
        around > 0, around, _size(np.sum(shares * seen[:, :, 3] / number, axis=0), loss, np.inf)
    )
    own = _size(seen[:, :, 3], seen[:, :, 0], seen[:, :, 3])
    others = shares[1:] / shares[1:].sum()
    usual = np.sqrt(USUAL * np.sum(others * seen[1:, :, 3] / number[1:], axis=0))
    plausible = np.maximum(np.maximum(own, around), np.maximum(usual, np.abs(loss)))
    plausible = np.where(loss == 0, np.maximum(plausible, max(sample.largest)), plausible)
    # The square of a tiny loss must not become a zero.
    unseen = np.where(plausible > 0, np.maximum(PSEUDO * plausible**2, _TINY), np.inf)
    result: Floats = MARGIN * (squares + unseen) / (number - 1 + PSEUDO)
    return result


def _size(squares: Floats, total: Floats, most: Floats | float) -> Floats:
    """Σ l² / |Σ l|, 0 without losses, and no more than the root of the sum of squares that were seen.

    Only losses of both signs that cancel reach the bound: no example that was seen is larger.
    """
    ratio = np.where(squares > 0, squares / np.abs(total), 0.0)
    result: Floats = np.minimum(ratio, np.sqrt(most))
    return result


def _cautious_before(number: Floats, mean: Floats, squares: Floats, shares: Floats) -> Floats:
    """(num_strata, num_points) s_h² of files of version 0.1.0: with CAUTION examples of the variance of the whole split."""
    whole = np.sum(shares * (squares / number + mean**2), axis=0) - np.sum(shares * mean, axis=0) ** 2
    # All alike so far: nothing is known of the others.
    unseen = np.where(whole == 0, np.inf, CAUTION * np.maximum(whole, 0))
    result: Floats = (squares + unseen) / np.maximum(number - 1 + CAUTION, 1)
    return result


def _factor(sample: Sample, number: Floats) -> Floats:
    """(num_strata,) 1/n - 1/N: exactly 0 where all examples are in."""
    factor: Floats = 1 / number - 1 / sample.sizes
    return factor
