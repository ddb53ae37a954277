"""The density of a symmetric operator's eigenvalues by stochastic Lanczos quadrature, the outliers taken out exactly.

φ(t) = 1/n Σ δ(t − λ_i). A Lanczos run of m steps from a random unit vector v gives the m nodes and weights of the Gaussian
quadrature of vᵀ f(H) v, whose mean over v is ∫ f φ (Golub and Meurant 2010; Ubaru, Chen and Saad 2017, SIAM J. Matrix Anal. Appl.
38, 1075; for networks Ghorbani, Krishnan and Xiao 2019, arXiv:1901.10159). The part of v along a far outlier is random, and with
few probes it, not m, is the error. So known eigenpairs are projected off v and get their exact weight 1/n each.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mpi_landscape.errors import LandscapeError
from mpi_landscape.evaluation.curvature.krylov import Agree, Floats, Krylov, Operator, identity
from mpi_landscape.evaluation.curvature.pairs import Pairs


@dataclass(frozen=True, kw_only=True)
class Probe:
    """What one random vector says about the space without the deflated pairs, of n − k dimensions.

    Attributes:
        nodes: (steps,) ascending; NaN where a product was not finite.
        weights: (steps,), sum (n − k) / n. A run that ends early, as its space is exhausted, has zeros at the end, whose nodes
            repeat the last one.
        trace: Estimate of the sum of eigenvalues of P H P, with P the projection off the deflated pairs.
        square: Estimate of |H P|², the sum of squares of all entries.
        is_exact: Whether the run filled the space, so that all of this is exact.
        num_products: Products made.
    """

    nodes: Floats
    weights: Floats
    trace: float
    square: float
    is_exact: bool
    num_products: int


def probe(
    product: Operator,
    start: Tensor,
    *,
    steps: int,
    deflated: Pairs,
    rest: Tensor | None = None,
    agree: Agree = identity,
) -> Probe:
    """One random vector's quadrature.

    The trace comes from the first step, (n − k) vᵀHv, and the Frobenius norm too, (n − k) |Hv|², without products of their own.
    One product more makes their errors smaller, several times so where the spectrum falls off: within the basis Q of the run both
    are known, tr Q H Qᵀ and Σ |H q|², and only the n − k − m dimensions off it are left to a second random vector (Meyer, Musco,
    Musco and Woodruff 2021, arXiv:2010.09649, with a Krylov space as their sketch).

    Args:
        product: The operator.
        start: (n,) the random vector: Gaussian or Rademacher numbers.
        steps: Of the Lanczos run, each one product; 1 or more.
        deflated: Eigenpairs that are known; none is fine.
        rest: (n,) a second random vector, independent of the first, for that product; without it there is none.
        agree: As for `lanczos.extremes`.

    Raises:
        LandscapeError: Fewer than one step, or nothing is left of the start.

    Example:
        >>> import torch
        >>> from mpi_landscape.evaluation.curvature.pairs import pairs
        >>> values, start = torch.tensor([9.0, 1, 2, 0], dtype=torch.float64), torch.ones(4, dtype=torch.float64)
        >>> outliers = pairs(lambda vector: values * vector, start, largest=1, smallest=0)
        >>> found = probe(lambda vector: values * vector, start, steps=5, deflated=outliers)
        >>> (found.nodes.round(6) + 0.0).tolist(), found.weights.tolist(), round(found.trace, 6)
        ([0.0, 1.0, 2.0, 2.0, 2.0], [0.25, 0.25, 0.25, 0.0, 0.0], 3.0)
    """
    if steps < 1:
        raise LandscapeError(f"{steps} steps of a probe are too few; valid is 1 or more")
    size, known = len(start), len(deflated.values)
    if known == size:
        return _probe(np.zeros(0), np.zeros(0), steps, trace=0.0, square=0.0, is_exact=True, num_products=0)
    process = Krylov(product, start, capacity=steps, against=deflated.vectors, agree=agree)
    while process.size < process.capacity:
        if process.is_invariant:
            # Few more fill the space, and then nothing is left to chance.
            if process.capacity < process.limit:
                break
            process.inject()
        process.expand()
        if not process.finite:
            nan = np.full(steps, np.nan)
            return _probe(
                nan, nan, steps, trace=math.nan, square=math.nan, is_exact=False, num_products=process.size
            )
    nodes, vectors, _ = process.ritz()
    left = process.limit
    if process.is_exhausted:
        square = float(np.sum(nodes**2)) + float(np.sum(deflated.residuals**2))
        weights, trace = np.full(left, 1 / size), float(np.sum(nodes))
    else:
        weights, trace = vectors[0] ** 2 * (left / size), left * float(process.matrix[0, 0])
        square = left * process.norms[0] ** 2
        if rest is not None:
            value, norm = process.outside(rest.to(torch.float64, copy=True))
            left -= process.size
            trace = float(np.sum(nodes)) + left * value
            square = float(np.sum(np.square(process.norms))) + left * norm**2
    return _probe(
        nodes,
        weights,
        steps,
        trace=trace,
        square=square,
        is_exact=process.is_exhausted,
        num_products=process.num_products,
    )


def _probe(
    nodes: Floats,
    weights: Floats,
    steps: int,
    *,
    trace: float,
    square: float,
    is_exact: bool,
    num_products: int,
) -> Probe:
    missing = steps - len(nodes)
    last = float(nodes[-1]) if len(nodes) else 0.0
    return Probe(
        nodes=np.append(nodes, np.full(missing, last)),
        weights=np.append(weights, np.zeros(missing)),
        trace=trace,
        square=square,
        is_exact=is_exact,
        num_products=num_products,
    )
