"""Several eigenpairs of both ends of a symmetric operator's spectrum."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mpi_landscape.errors import LandscapeError
from mpi_landscape.evaluation.curvature.krylov import Agree, Floats, Krylov, Operator, check_steps, identity
from mpi_landscape.evaluation.curvature.lanczos import FEWEST

# Ritz vectors beside those that are wanted with which a full basis begins anew, of the low and of the high end.
_LOW, _HIGH = 8, 4


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

    By Lanczos' method with thick restarts. A pair is taken when its residual is tolerance · |λ| at most, or 0.001 · tolerance · s
    with s = max |λ|, and for the largest 0.1 · tolerance · s too. The Krylov space of one vector holds one vector of each
    eigenspace, so when all are there, a random vector orthogonal to the basis joins it for five products: a further copy of an
    eigenvalue, or one that the start had no part along, comes up in them, and then the run goes on. No number of products proves
    that none is missing.

    Args:
        product: The operator.
        start: (n,) the first vector, of any length.
        largest: How many of the largest.
        smallest: How many of the smallest.
        tolerance: Of the residuals.
        most_steps: Vectors of the basis, if no more are needed: largest + smallest + 20 are the fewest.
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
    capacity = max(most_steps, wanted + 20)
    process = Krylov(product, start, capacity=capacity, agree=agree)
    sought = _Wanted(
        largest=largest, smallest=smallest, tolerance=tolerance, floor=max(noise, process.epsilon)
    )
    most = 10 * capacity if most_products is None else most_products
    before: Floats | None = None  # the values when the last random vector joined
    begun, settled = 0, False
    while process.num_products < max(most, wanted):
        process.expand()
        if not process.finite:
            break
        values, _, residuals = process.ritz()
        settled = sought.hold(values, residuals)
        if process.is_exhausted:
            settled = True
            break
        if settled and process.num_products - begun >= FEWEST:
            if before is not None and sought.same(before, values):
                break
            before, begun = values, process.num_products
            sought.make_room(process)
            process.inject()
        elif process.is_invariant:
            sought.make_room(process)
            process.inject()
        elif process.is_full:
            sought.make_room(process)
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
        bounds = self.tolerance * np.abs(values[self.places(len(values))])
        bounds[: self.largest] = np.minimum(bounds[: self.largest], 0.1 * self.tolerance * scale)
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

    def make_room(self, process: Krylov) -> None:
        """Let the basis begin anew with what is wanted and its neighbours, if it has no room for a few more."""
        size = process.size
        if process.capacity == process.limit or size + FEWEST < process.capacity:
            return
        low = self.smallest + _LOW if self.smallest else 0
        high = self.largest + _HIGH if self.largest else 0
        process.restart([*range(low), *range(size - high, size)])

    def pairs(self, process: Krylov, *, settled: bool) -> Pairs:
        """What was found; NaN where a product was not finite."""
        wanted = self.largest + self.smallest
        if not process.finite:
            nan = np.full(wanted, np.nan)
            vectors = torch.full_like(process.vectors(np.zeros((process.size, wanted))), torch.nan)
            return Pairs(
                values=nan, residuals=nan, vectors=vectors, num_products=process.num_products, settled=False
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
