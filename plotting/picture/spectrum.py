"""What a picture of a spectrum says: a smooth density of the bulk, the eigenvalues that stand apart, what is negative."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mpi_landscape.storage.spectrum.value import APART, Spectrum
from plotting.picture.levels import format_value
from plotting.picture.quantities import OPERATORS

Floats = NDArray[np.float64]

# The standard deviation of the Gaussian that stands for each node, over the width of the bulk.
SMOOTHING = 0.02
# Nodes of less than this share of one eigenvalue are rounding.
_LEAST = 1e-3
# Standard deviations beyond which a Gaussian is nothing, and points of a curve.
_REACH, _POINTS = 5.0, 1201


@dataclass(frozen=True, kw_only=True)
class Density:
    """A spectrum as it is drawn: sticks for the eigenvalues that stand apart and a curve for all others.

    Attributes:
        nodes: (m,) float64, ascending: where the rest of the eigenvalues lie.
        weights: (m,) float64: the share of all eigenvalues at each.
        outliers: (k,) float64, ascending: eigenvalues of either sign beyond twice the edge of the rest.
        one: The share of one eigenvalue, 1/n.
        bulk: The least and the greatest of the nodes, or of all without any.
        is_wide: Whether these differ.
        width: The standard deviation of the Gaussians, in units of the eigenvalues, above 0.
    """

    nodes: Floats
    weights: Floats
    outliers: Floats
    one: float
    bulk: tuple[float, float]
    width: float
    is_wide: bool = True

    @property
    def one_height(self) -> float:
        """The height of the curve of a single eigenvalue."""
        return self.one / (self.width * math.sqrt(2 * math.pi))

    @property
    def ends(self) -> tuple[float, float]:
        """The least and the greatest of all."""
        every = [*self.bulk, *self.outliers.tolist()]
        return min(every), max(every)

    @property
    def share_negative(self) -> float:
        """The share of all eigenvalues that lie below zero by more than the width of the smoothing."""
        below = float(self.weights[self.nodes < -self.width].sum())
        return below + self.one * int((self.outliers < 0).sum())

    def curve(self, low: float, high: float) -> tuple[Floats, Floats]:
        """Places from `low` to `high`, and the density there per unit of the eigenvalues; all of it has the integral 1.

        Returns:
            (m,) float64 each. Eigenvalues that stand apart are not in it.
        """
        reach = _REACH * self.width
        low, high = max(low, self.bulk[0] - reach), min(high, self.bulk[1] + reach)
        places = np.linspace(low, high, _POINTS)
        distance = (places[:, None] - self.nodes[None, :]) / self.width
        heights = (np.exp(-(distance**2) / 2) * self.weights).sum(axis=1)
        return places, heights / (self.width * math.sqrt(2 * math.pi))


def density_of(spectrum: Spectrum) -> Density | None:
    """The density of a spectrum; None as long as nothing is known of it.

    Without a probe that is done all that is known are eigenvalues of both ends, each of which is a stick.
    """
    known = spectrum.eigenvalues[np.isfinite(spectrum.eigenvalues)]
    one = 1 / spectrum.num_parameters
    nodes, weights = (each[known.size :] for each in spectrum.density())
    kept = weights > _LEAST * one
    nodes, weights = nodes[kept], weights[kept]
    if not known.size and not nodes.size:
        return None
    apart = np.abs(known) > APART * np.abs(nodes).max() if nodes.size else np.ones(known.size, dtype=bool)
    nodes = np.concatenate([known[~apart], nodes])
    weights = np.concatenate([np.full(nodes.size - weights.size, one), weights])
    order = np.argsort(nodes, kind="stable")
    inside = nodes if nodes.size else known
    low, high, size = float(inside.min()), float(inside.max()), float(np.abs([*nodes, *known]).max())
    is_wide = high - low > 1e-9 * size
    return Density(
        nodes=nodes[order],
        weights=weights[order],
        outliers=np.sort(known[apart]),
        one=one,
        bulk=(low, high),
        is_wide=is_wide,
        width=SMOOTHING * (high - low if is_wide else size or 1.0),
    )


def operator_name(spectrum: Spectrum) -> str:
    """What the eigenvalues are of."""
    return OPERATORS.get(spectrum.operator, spectrum.operator)


def count_of(density: Density) -> str:
    """How many eigenvalues stand apart, and where; of a spectrum without a probe how many are known.

    Example:
        >>> both = Density(
        ...     nodes=np.zeros(1), weights=np.ones(1), outliers=np.array([-3.0, 5.0, 6.0]), one=0.01, bulk=(0.0, 0.0), width=1.0
        ... )
        >>> count_of(both)
        '3 outliers (1 negative)'
    """
    if not density.nodes.size:
        return f"{density.outliers.size} known"
    number, below = density.outliers.size, int((density.outliers < 0).sum())
    if not number:
        return "no outlier"
    return f"{number} outlier{'s' * (number > 1)}" + (f" ({below} negative)" if below else "")


def facts_of(spectrum: Spectrum, kind: str) -> tuple[str, ...]:
    """What stands below the title of the spectrum of one network, in a picture of one of `SPECTRUM_KINDS`."""
    facts = [f"{spectrum.num_parameters:,} eigenvalues"]
    density = density_of(spectrum) if kind == "density" else None
    if density is not None:
        facts.append(count_of(density))
    for name, value in (("λmax", spectrum.lambda_max), ("λmin", spectrum.lambda_min)):
        if math.isfinite(value):
            facts.append(f"{name} {format_value(value)}")
    if density is not None and math.isfinite(spectrum.trace):
        stderr = spectrum.moments.trace_stderr
        error = f" ± {format_value(stderr, 1)}" if math.isfinite(stderr) else ""
        facts.append(f"trace {format_value(spectrum.trace)}{error}")
    if density is not None and spectrum.done[1:].any():
        facts.append(f"{format_value(density.share_negative, percent=True)} negative (below −σ)")
    return (*facts, *progress_of([spectrum]))


def progress_of(spectra: Sequence[Spectrum]) -> tuple[str, ...]:
    """How far files are that are not finished."""
    done, total = sum(int(each.done.sum()) for each in spectra), sum(each.done.size for each in spectra)
    return () if done == total else (f"partial: {done} of {total} parts",)


def smoothing_words(densities: Sequence[Density]) -> str:
    """What the curves were smoothed with."""
    share, smoothed = format_value(SMOOTHING, percent=True), [each for each in densities if each.nodes.size]
    if not smoothed:
        return "no probe is done: eigenvalues of both ends alone"
    if len(smoothed) > 1:
        return f"smoothed by Gaussians of σ = {share} of the width of each bulk"
    of = "the width of the bulk" if smoothed[0].is_wide else "the largest eigenvalue"
    return f"smoothed by a Gaussian of σ = {format_value(smoothed[0].width, 2)}, {share} of {of}"


def tail_of(spectrum: Spectrum, *, upper: bool) -> tuple[NDArray[np.int64], Floats, Floats]:
    """The known eigenvalues of one end by rank, from 1 for the largest to n for the least.

    Returns:
        (k,) each: ranks, eigenvalues, residuals.
    """
    values = spectrum.largest if upper else spectrum.smallest
    residuals = (
        spectrum.residuals[: spectrum.num_largest] if upper else spectrum.residuals[spectrum.num_largest :]
    )
    last = values.size if upper else spectrum.num_parameters
    ranks = np.arange(last - values.size + 1, last + 1)
    known = np.isfinite(values)
    return ranks[known], values[known], np.nan_to_num(residuals[known])
