"""A spectrum as it lies in a file, finished or not: the value that readers return and plots draw."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpi_landscape.storage.drawing import drawing
from mpi_landscape.storage.surface.ending import Ended

Floats = NDArray[np.float64]
# Times the largest size in the rest of the spectrum, above which an eigenvalue stands apart.
APART = 2.0


@dataclass(frozen=True, kw_only=True)
class Moments:
    """Trace and Frobenius norm with their standard errors; NaN where they are not known."""

    trace: float = math.nan
    trace_stderr: float = math.nan
    frobenius: float = math.nan
    frobenius_stderr: float = math.nan


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Spectrum:
    """The spectrum of the Hessian of a mean loss at a point: both ends, and the density of all between them.

    Attributes:
        path: Where it was read from.
        eigenvalues: (k,) float64, the largest, descending, then the smallest, descending; NaN where not known. Units of the
            loss per squared unit of the parameters.
        residuals: (k,) float64, ‖H v − λ v‖ of the unit vector of each.
        num_largest: How many of them are of the upper end.
        nodes: (probes, steps) float64, of the quadrature of each probe over the rest of the spectrum; NaN where not done.
        weights: (probes, steps) float64, of sum (n − k) / n in each probe.
        num_parameters: Dimensions of the space, n.
        loss: At the point.
        gradient_norm: Of the mean loss over these parameters.
        noise: Error of a product relative to its length, from rounding.
        num_products: (1 + probes,) float64, of the ends, then of each probe; NaN where not done.
        moments: Trace and Frobenius norm.
        kept: (kept,) int64, of which eigenvalues the file has the vectors.
        done: (1 + probes,) bool: the ends, then the probes.
        normalized: The same in coordinates of which each filter's norm is the unit; None where the file has none.
        attributes: Everything else the file says of itself.
        ending: Whether it is finished, or why not.
        kept_by: What keeps the file, where it is a temporary one.
    """

    path: str
    eigenvalues: Floats
    residuals: Floats
    num_largest: int
    nodes: Floats
    weights: Floats
    num_parameters: int
    loss: float
    gradient_norm: float
    noise: float
    num_products: Floats
    moments: Moments
    kept: NDArray[np.int64]
    done: NDArray[np.bool_]
    normalized: Spectrum | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)
    ending: Ended = Ended.FINISHED
    kept_by: Any = None

    @property
    def operator(self) -> str:
        """`hessian`, `gauss_newton` or `remainder`."""
        return str(self.attributes.get("operator", "hessian"))

    @property
    def largest(self) -> Floats:
        """Those of the upper end, descending."""
        return self.eigenvalues[: self.num_largest]

    @property
    def smallest(self) -> Floats:
        """Those of the lower end, descending: the least is last."""
        return self.eigenvalues[self.num_largest :]

    @property
    def lambda_max(self) -> float:
        """The largest eigenvalue, the sharpness; NaN where not known."""
        return float(self.largest[0]) if self.largest.size else math.nan

    @property
    def lambda_min(self) -> float:
        """The least eigenvalue; NaN where not known."""
        return float(self.smallest[-1]) if self.smallest.size else math.nan

    @property
    def trace(self) -> float:
        """The trace, from the eigenvalues and the probes; NaN where there is no probe."""
        return self.moments.trace

    @property
    def frobenius(self) -> float:
        """The Frobenius norm, likewise."""
        return self.moments.frobenius

    @property
    def trace_per_number(self) -> float:
        """The mean of all eigenvalues."""
        return self.trace / self.num_parameters

    @property
    def participation_ratio(self) -> float:
        """(Σ λ)² / Σ λ²: how many eigenvalues carry the spectrum, n where all are equal; NaN without a probe.

        Gao et al. 2017 (bioRxiv 214262), for the eigenvalues of a covariance.
        """
        return self.trace**2 / self.frobenius**2 if self.frobenius else math.nan

    @property
    def ratio(self) -> float:
        """|λmin / λmax|: how far from convex (Li et al. 2018, arXiv:1712.09913, section 6)."""
        return abs(self.lambda_min / self.lambda_max) if self.lambda_max else math.nan

    @property
    def edge(self) -> float:
        """The largest size of a node of the rest of the spectrum, the edge of its bulk; NaN where there is no probe."""
        found = np.abs(self.nodes[np.isfinite(self.nodes) & (self.weights > 0)])
        return float(found.max()) if found.size else math.nan

    @property
    def num_outliers(self) -> int | None:
        """How many of the largest eigenvalues stand apart: above twice the edge of the bulk; None where there is no probe."""
        edge = self.edge
        return None if math.isnan(edge) else int((self.largest > APART * edge).sum())

    def density(self) -> tuple[Floats, Floats]:
        """All nodes with their weights, of sum 1: the known eigenvalues with 1/n each, and the rest by the probes.

        Returns:
            (m,) float64 each; without a probe the known eigenvalues alone, whose weights are then of sum k/n.
        """
        known = self.eigenvalues[np.isfinite(self.eigenvalues)]
        exact = np.full(known.size, 1 / self.num_parameters)
        places = self.done[1:]
        nodes, weights = self.nodes[places], self.weights[places]
        if not nodes.size:
            return known, exact
        real = np.isfinite(nodes) & (weights > 0)
        return np.concatenate([known, nodes[real]]), np.concatenate([exact, weights[real] / len(nodes)])

    def effective_dimension(self, z: float = 1.0) -> float:
        """Σ λ / (λ + z) over the positive eigenvalues: how many directions the data determine (MacKay 1992; Maddox et al. 2020,
        arXiv:2003.02139, section 2).

        Args:
            z: Above 0, in units of the eigenvalues: the precision of a prior.

        Returns:
            A number from 0 to n; NaN without a probe.
        """  # noqa: D205
        nodes, weights = self.density()
        if not self.done[1:].any():
            return math.nan
        positive = np.maximum(nodes, 0.0)
        return float(self.num_parameters * (weights * positive / (positive + z)).sum())

    def __repr__(self) -> str:
        state = (
            "finished"
            if self.ending is Ended.FINISHED
            else f"{int(self.done.sum())} of {len(self.done)} parts done"
        )
        return (
            f"Spectrum({self.path!r}, {self.operator} of {self.num_parameters:,} numbers, λ from {self.lambda_min:.4g} to "
            f"{self.lambda_max:.4g}; {state})"
        )

    def plot(self, kind: str = "density", *, title: str | None = None) -> Any:
        """Draw it as `python -m plotting` does.

        Args:
            kind: `density`, all of the spectrum with its outliers marked, or `eigenvalues`, both ends by rank.
            title: Instead of that in the file.

        Returns:
            The matplotlib figure, which a notebook shows.

        Raises:
            LandscapeError: matplotlib is not installed.
        """
        return drawing().draw_spectrum(self, kind=kind, title=title)


def moments_of(
    eigenvalues: Floats, residuals: Floats, first: Floats, second: Floats, *, is_exact: bool = False
) -> Moments:
    """Trace and Frobenius norm of all, from the eigenvalues that were taken out and what probes say of the rest.

    Args:
        eigenvalues: (k,) those that were taken out.
        residuals: (k,) theirs.
        first: (probes,) what each says is the sum of the other n − k eigenvalues.
        second: (probes,) likewise of their squares.
        is_exact: Whether the probes have filled the space, and nothing was left to chance.

    Example:
        >>> found = moments_of(np.array([3.0]), np.zeros(1), np.array([10.0, 20.0]), np.array([10.0, 40.0]))
        >>> round(found.trace, 9), round(found.trace_stderr, 9), round(found.frobenius**2, 9)
        (18.0, 5.0, 34.0)
    """
    known = (eigenvalues, residuals, first, second)
    if not len(first) or not all(np.isfinite(each).all() for each in known):
        return Moments()
    # |H x|² of a unit vector is λ² and its residual's square.
    norm = math.sqrt(float((eigenvalues**2 + residuals**2).sum() + second.mean()))
    return Moments(
        trace=float(eigenvalues.sum() + first.mean()),
        trace_stderr=0.0 if is_exact else _stderr(first),
        frobenius=norm,
        # To first order: that of the square over twice the norm.
        frobenius_stderr=0.0 if is_exact or not norm else _stderr(second) / (2 * norm),
    )


def _stderr(values: Floats) -> float:
    return float(values.std(ddof=1) / math.sqrt(values.size)) if values.size > 1 else math.nan
