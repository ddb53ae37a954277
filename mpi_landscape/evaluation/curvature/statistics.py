"""Numbers that sum up a spectrum."""

from __future__ import annotations

import math

import numpy as np

from mpi_landscape.errors import LandscapeError
from mpi_landscape.evaluation.curvature.density import Density


def effective_dimension(density: Density, epsilon: float) -> float:
    """How many directions the data determine: n ∫ λ / (λ + ε) φ(λ) dλ over λ > 0.

    MacKay 1992 (Neural Computation 4, 448), equation 4.9; for networks Maddox, Benton and Wilson 2020 (arXiv:2003.02139),
    equation 2. Negative eigenvalues, which a Gaussian posterior has not, count as zero.

    Args:
        density: The spectrum.
        epsilon: The precision of the prior, in units of λ, more than 0.

    Raises:
        LandscapeError: ε is not above 0.

    Example:
        >>> from mpi_landscape.evaluation.curvature.density import Density
        >>> import numpy as np
        >>> found = Density(
        ...     size=4, outliers=np.array([3.0]), nodes=np.array([[0.0, 1.0]]), weights=np.array([[0.25, 0.5]]), trace=5.0,
        ...     trace_stderr=0.0, frobenius=11.0**0.5, frobenius_stderr=0.0, num_products=2,
        ... )
        >>> effective_dimension(found, 1.0)  # 3/4 + 2 · 1/2
        1.75
    """
    if not epsilon > 0:
        raise LandscapeError(
            f"epsilon {epsilon} of an effective dimension is not valid; valid is more than 0"
        )
    nodes, weights = density.spectrum()
    positive = np.maximum(nodes, 0)
    return float(density.size * np.sum(weights * positive / (positive + epsilon)))


def participation_ratio(density: Density) -> float:
    """How many eigenvalues carry the spectrum: (Σ λ)² / Σ λ², from 0 to n; n where all are equal, NaN where all are zero.

    Gao et al. 2017 (bioRxiv 214262), for the eigenvalues of a covariance.
    """
    return density.trace**2 / density.frobenius**2 if density.frobenius > 0 else math.nan


def mean_curvature(density: Density) -> float:
    """The trace per number, 1/n Σ λ: the curvature of the loss along a random unit vector, in the mean."""
    return density.trace / density.size


def sharpness(density: Density) -> float:
    """The largest eigenvalue, λmax: gradient descent with a step above 2 / λmax leaves the minimum.

    Cohen et al. 2021 (arXiv:2103.00065).
    With no deflated pairs it is the largest node of the probes, which is below it.
    """
    nodes, weights = density.spectrum()
    return float(np.max(nodes[weights > 0]))
