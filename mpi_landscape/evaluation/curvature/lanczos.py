"""The ends of a symmetric operator's spectrum: one Lanczos run for both, stopped by residuals relative to each."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from mpi_landscape.evaluation.curvature.krylov import Agree, Floats, Krylov, Operator, check_steps, identity

Only = Literal["both", "max", "min"]

# Before so many products from a random vector, any vector of the nearly null space passes for an eigenvector. Of 125 operators of
# a rank below 8 one run that stopped after 6 missed the lowest eigenvalue.
_FEWEST, _FEWEST_OF_MAX = 8, 5
# A space of so few numbers is filled, and then nothing is missed.
_FILLED = 20
# An end is called zero only after so many, and when it has not moved for a while.
_FEWEST_FOR_ZERO, _STILL = 20, 5
# Ritz vectors with which a full basis begins anew, of the low and of the high end.
_LOW, _HIGH = 8, 4
# The lowest Ritz vectors that are given back, for a start nearby.
_LOWEST = 8


@dataclass(frozen=True, kw_only=True)
class Extremes:
    """Both ends of a spectrum.

    Attributes:
        lambda_max: The largest eigenvalue; NaN where a product was not finite.
        lambda_min: The smallest, likewise. An end that was not asked for has not converged: its residual says how far.
        residual_max: |H u − λ u| of its unit vector u, with the rounding of a product: an eigenvalue lies that near.
        residual_min: Likewise.
        floor: What a product's rounding may move an eigenvalue by: noise times max |λ|.
        num_products: Products made.
        resolved: Whether λmin is told from zero: |λmin| beyond 10 floors, and its residual a tenth of it or less. Where not, it
            is 0 within ± (|lambda_min| + residual_min + 10 floor), and no more is known.
        ritz: (up to 9, n) unit vectors: of the highest Ritz value, then of the lowest, the second lowest and so on.
    """

    lambda_max: float
    lambda_min: float
    residual_max: float
    residual_min: float
    floor: float
    num_products: int
    resolved: bool
    ritz: Tensor


@dataclass(frozen=True, kw_only=True)
class _Rule:
    """When an end has converged: see `extremes`."""

    tolerance: float
    floor: float  # relative to the scale
    only: Only

    def holds(self, values: Floats, residuals: Floats, lows: list[float], highs: list[float]) -> bool:
        """Whether the wanted ends have converged; `lows` and `highs` are the ends after each product."""
        scale = max(abs(values[0]), abs(values[-1]))
        least = self.floor * scale
        top = residuals[-1] <= max(min(0.1 * self.tolerance * scale, self.tolerance * abs(values[-1])), least)
        low = residuals[0] <= max(0.5 * self.tolerance * abs(values[0]), least)
        # Of an end that is zero nothing relative holds; the other one is the scale, and must stand first.
        low = low or (top and self._zero(-values[0], residuals[0], lows, scale))
        top = top or (low and self._zero(values[-1], residuals[-1], highs, scale))
        return (top or self.only == "min") and (low or self.only == "max")

    def _zero(self, beyond: float, residual: float, history: list[float], scale: float) -> bool:
        """Whether an end is zero as far as can be seen; or so little beyond it that its error matters to nobody."""
        if len(history) < _FEWEST_FOR_ZERO:
            return False
        moved = abs(history[-1] - history[-1 - _STILL])
        is_beyond = beyond > 10 * self.floor * scale
        most_left, most_moved = (1e-3, 1e-4) if is_beyond else (1e-2, 1e-2)
        return residual <= most_left * self.tolerance * scale and moved <= most_moved * self.tolerance * scale


def extremes(
    product: Operator,
    start: Tensor,
    *,
    tolerance: float = 1e-2,
    most_steps: int = 60,
    most_products: int = 600,
    noise: float = 0.0,
    only: Only = "both",
    agree: Agree = identity,
) -> Extremes:
    """The largest and the smallest eigenvalue by one Lanczos run with full reorthogonalization.

    With s = max |λ|, the run ends when the residual of λmax is 0.1 · tolerance · s at most (and tolerance · |λmax|), and that of
    λmin 0.5 · tolerance · |λmin|: relative to itself, as an eigenvalue's error is quadratic in its residual only where that is
    smaller than the gap to the next one, and near the bottom of a spectrum gaps are of the size of λmin. An end at zero, as the
    lower one of a convex loss, never passes: after 20 products it is taken where its residual is 0.01 · tolerance · s and it has
    moved by no more in 5 steps. Nothing is taken before 8 products (5 for λmax alone), and a space of 20 numbers or fewer is
    filled. What has not converged after `most_products` is given back with its residual.

    Args:
        product: The operator.
        start: (n,) the first vector, of any length; its type (float32 or float64) is the basis's.
        tolerance: Of the residuals.
        most_steps: Vectors of the basis before it begins anew with 8 of its lowest and 4 of its highest Ritz vectors; 8 or more.
        most_products: After which the run ends in any case.
        noise: The rounding error of a product relative to max |λ|, if it is more than that of the basis's type.
        only: One end alone, for fewer products.
        agree: Through which numbers go that decide; see `Krylov`.

    Raises:
        LandscapeError: The start is zero or not finite, or `most_steps` is too small.

    Example:
        >>> import torch
        >>> values = torch.linspace(-1, 30, 500, dtype=torch.float64)
        >>> found = extremes(lambda vector: values * vector, torch.ones(500, dtype=torch.float64), tolerance=1e-4)
        >>> round(found.lambda_max, 4), round(found.lambda_min, 4), found.resolved
        (30.0, -1.0, True)
    """
    check_steps(most_steps)
    is_small = len(start) <= _FILLED
    process = Krylov(product, start, capacity=max(most_steps, _FILLED * is_small), agree=agree)
    rule = _Rule(tolerance=tolerance, floor=max(noise, process.epsilon), only=only)
    lows: list[float] = []
    highs: list[float] = []
    begun, injected = 0, False
    fewest = _FEWEST_OF_MAX if only == "max" else _FEWEST
    while True:
        if process.is_full:
            process.restart(_kept(process.size))
        process.expand()
        if not process.finite:
            return _undefined(process, start)
        values, _, residuals = process.ritz()
        lows.append(float(values[0]))
        highs.append(float(values[-1]))
        settled = process.num_products - begun >= fewest and rule.holds(values, residuals, lows, highs)
        if process.is_exhausted or process.num_products >= most_products:
            break
        if process.is_invariant:
            # The start may have no part along an end: one random vector shows it.
            if injected:
                break
            process.inject()
            injected, begun = True, process.num_products
        elif settled and not is_small:
            break
    return _found(process, rule)


def _kept(size: int) -> list[int]:
    """The places of the Ritz vectors that a full basis begins anew with."""
    low, high = min(_LOW, size // 3), min(_HIGH, size // 4)
    return [*range(low), *range(size - high, size)]


def _found(process: Krylov, rule: _Rule) -> Extremes:
    values, vectors, residuals = process.ritz()
    floor = float(rule.floor * max(abs(values[0]), abs(values[-1])))
    residual = float(residuals[0]) + floor
    places = [process.size - 1, *range(min(_LOWEST, process.size))]
    low, high = float(values[0]), float(values[-1])
    return Extremes(
        lambda_max=high,
        lambda_min=low,
        residual_max=float(residuals[-1]) + floor,
        residual_min=residual,
        floor=floor,
        num_products=process.num_products,
        resolved=abs(low) > 10 * floor and residual <= 0.1 * abs(low),
        ritz=process.vectors(vectors[:, places]),
    )


def _undefined(process: Krylov, start: Tensor) -> Extremes:
    nan = math.nan
    return Extremes(
        lambda_max=nan,
        lambda_min=nan,
        residual_max=nan,
        residual_min=nan,
        floor=nan,
        num_products=process.num_products,
        resolved=False,
        ritz=start.new_empty((0, len(start))),
    )
