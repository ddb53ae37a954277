"""Several eigenpairs of both ends of a symmetric operator's spectrum."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mpi_landscape.errors import LandscapeError
from mpi_landscape.evaluation.curvature.krylov import Agree, Floats, Krylov, Operator, check_steps, identity

# Ritz vectors beside those that are wanted with which a full basis begins anew, of the low and of the high end.
_LOW, _HIGH = 8, 4
# Vectors that may wait for their turn: the run's own, and random ones that joined it.
_PENDING = 4
# Products from a random vector, for what is missing.
_LOOK = 8


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Eigenpairs of both ends.

    Attributes:
        values: (k,) float64, descending: the largest, then the smallest, so that the last is λmin. NaN where a product was not
            finite.
        residuals: (k,) float64, |H x − λ x|, with the rounding of a product.
        vectors: (k, n) unit vectors, orthogonal to each other.
        num_products: Products made.
        settled: Whether all have converged; where not, the residuals say how far they are.
    """

    values: Floats
    residuals: Floats
    vectors: Tensor
    num_products: int
    settled: bool


def most_vectors(largest: int, smallest: int, most_steps: int = 60) -> int:
    """How many vectors `pairs` holds at once, besides 5 during a step and those that it returns.

    A basis of less than twice the wanted ones begins anew so often that it takes twice the products.

    Example:
        >>> most_vectors(10, 5), most_vectors(30, 5)
        (64, 94)
    """
    return max(most_steps, 2 * (largest + smallest) + 20) + _PENDING


def pairs(
    product: Operator,
    start: Tensor,
    *,
    largest: int,
    smallest: int,
    tolerance: float = 1e-2,
    most_steps: int = 60,
    most_products: int | None = None,
    noise: float = 0.0,
    agree: Agree = identity,
) -> Pairs:
    """The `largest` and the `smallest` eigenvalues with their eigenvectors.

    By Lanczos' method with thick restarts. A pair is taken when its residual is 0.1 · tolerance · |λ| at most, or 0.001 ·
    tolerance · s with s = max |λ|: with looser ones a single vector between two close eigenvalues passes for both. The Krylov
    space of one vector holds one vector of each eigenspace, so when all are there, a random vector orthogonal to the basis joins
    it for eight products: a further copy of an eigenvalue, or one that the start had no part along, comes up in them, and then
    the run goes on. No number of products proves that none is missing.

    Args:
        product: The operator.
        start: (n,) the first vector, of any length.
        largest: How many of the largest.
        smallest: How many of the smallest.
        tolerance: Of the residuals.
        most_steps: Vectors of the basis, unless more are needed: see `most_vectors`.
        most_products: After which the run ends in any case; ten times the basis if not given.
        noise: As for `extremes`.
        agree: As for `extremes`.

    Raises:
        LandscapeError: There are fewer eigenvalues than are asked for, or the start is zero or not finite.

    Example:
        >>> import torch
        >>> diagonal = torch.tensor([5.0, 5, 5, 1, 0, 0, -2], dtype=torch.float64)
        >>> found = pairs(lambda vector: diagonal * vector, torch.ones_like(diagonal), largest=4, smallest=1)
        >>> found.values.round(6).tolist()
        [5.0, 5.0, 5.0, 1.0, -2.0]
    """
    wanted, size = largest + smallest, len(start)
    if wanted > size:
        raise LandscapeError(
            f"{largest} largest and {smallest} smallest eigenvalues are asked for of {size}; valid are {size} together"
        )
    check_steps(most_steps)
    if wanted == 0:
        return Pairs(
            values=np.zeros(0),
            residuals=np.zeros(0),
            vectors=start.new_empty((0, size)),
            num_products=0,
            settled=True,
        )
    capacity = most_vectors(largest, smallest, most_steps) - _PENDING
    process = Krylov(product, start, capacity=capacity, most_pending=_PENDING, agree=agree)
    sought = _Wanted(
        largest=largest, smallest=smallest, tolerance=tolerance, floor=max(noise, process.epsilon)
    )
    most = 10 * capacity if most_products is None else most_products
    before: Floats | None = None  # the values when the last random vector joined
    begun, which, settled = 0, -1, False
    while process.num_products < max(most, wanted):
        if process.is_full:
            process.restart(sought.kept(process.size))
        process.expand(which)
        if not process.finite:
            break
        values, vectors, residuals = process.ritz()
        settled = process.is_exhausted or sought.hold(values, residuals)
        if process.is_exhausted:
            break
        is_looking = process.num_products - begun < _LOOK
        if settled and not is_looking:
            if before is not None and sought.same(before, values):
                break
            before, begun, is_looking = values, process.num_products, True
            process.inject()
        elif process.is_invariant:
            process.inject()
        # The random vector's own, while it is being looked at; then what improves the pairs most.
        which = (
            -1
            if is_looking or process.size < wanted
            else process.leading(vectors[:, sought.places(process.size)])
        )
    return sought.pairs(process, settled=settled)


@dataclass(frozen=True, kw_only=True)
class _Wanted:
    """Which Ritz pairs are wanted, and how well."""

    largest: int
    smallest: int
    tolerance: float
    floor: float  # relative to the scale

    def places(self, size: int) -> list[int]:
        """Among ascending ones: the largest, descending, then the smallest, descending."""
        return [*range(size - 1, size - 1 - self.largest, -1), *range(self.smallest - 1, -1, -1)]

    def bounds(self, values: Floats) -> Floats:
        """What the residuals of the wanted may be."""
        scale = np.abs(values).max()
        bounds = 0.1 * self.tolerance * np.abs(values[self.places(len(values))])
        least = max(1e-3 * self.tolerance, self.floor) * scale
        return np.maximum(bounds, least)  # type: ignore[no-any-return]

    def hold(self, values: Floats, residuals: Floats) -> bool:
        """Whether all have converged."""
        if len(values) < self.largest + self.smallest:
            return False
        return bool((residuals[self.places(len(values))] <= self.bounds(values)).all())

    def same(self, before: Floats, values: Floats) -> bool:
        """Whether the wanted values are what they were, as far as they are known."""
        moved = np.abs(before[self.places(len(before))] - values[self.places(len(values))])
        return bool((moved <= self.bounds(values)).all())

    def kept(self, size: int) -> list[int]:
        """The places of the Ritz vectors that a full basis begins anew with: what is wanted and its neighbors."""
        low = self.smallest + _LOW if self.smallest else 0
        high = self.largest + _HIGH if self.largest else 0
        return [*range(low), *range(size - high, size)]

    def pairs(self, process: Krylov, *, settled: bool) -> Pairs:
        """What was found; NaN where a product was not finite."""
        wanted = self.largest + self.smallest
        if not process.finite:
            nan = np.full(wanted, np.nan)
            none = process.vectors(np.zeros((process.size, wanted))).fill_(torch.nan)
            return Pairs(
                values=nan, residuals=nan, vectors=none, num_products=process.num_products, settled=False
            )
        values, vectors, residuals = process.ritz()
        places = self.places(process.size)
        return Pairs(
            values=values[places],
            residuals=residuals[places] + self.floor * np.abs(values).max(),
            vectors=process.vectors(vectors[:, places]),
            num_products=process.num_products,
            settled=settled,
        )
