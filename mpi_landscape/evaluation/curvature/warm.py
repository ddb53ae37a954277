"""Curvature at the points of a tile, each started from a point nearby, with cold runs that check them.

A start from the Ritz vectors of a neighbor saves a factor of 1.3 to 2.3 in products, and can follow the wrong eigenvector: a run
from a vector next to the second-lowest one stops there with a fine residual, whatever random part the start has. No cheap check
sees that, so a fixed sample of points, and those that stand out, are computed again from a random vector; where the two differ,
so may others, and the whole tile is computed again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mpi_landscape.evaluation.curvature.lanczos import Extremes
from mpi_landscape.evaluation.curvature.starts import gaussian

# Both ends at the i-th point of the tile, from a start of shape (n,).
Solve = Callable[[int, Tensor], Extremes]

# Of the neighbor's Ritz vectors, the highest one and the lowest ones, and of a random unit vector. Heavier ones cost three to
# five products a point on a perceptron, and follow a wrong eigenvector as seldom: at one or two of 683 points of three maps.
_WEIGHTS, _RANDOM = (1.0, 1.0, 0.15, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1), 0.1
# Every so many points of the plan are checked, and where |λmin / λmax| is less by so much than at all neighbors.
CHECKED_EVERY, _JUMP = 16, 0.2
# A tile in which a check differs by more is computed again.
MOST_DIFFERENCE = 0.02


@dataclass(frozen=True, kw_only=True)
class Place:
    """A point of a tile.

    Attributes:
        number: In the plan, which tells its random numbers.
        indices: On the axes of the grid.
    """

    number: int
    indices: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Tile:
    """Both ends at the points of a tile.

    Attributes:
        extremes: One of each point, in their order.
        num_products: At each point, checks included.
        checked: Whether a point was computed from a random vector too, or only so.
        difference: The largest relative difference of an end between a start nearby and a random one; NaN if none was checked.
        repaired: Whether that was too large, and the whole tile was computed from random vectors.
    """

    extremes: tuple[Extremes, ...]
    num_products: tuple[int, ...]
    checked: tuple[bool, ...]
    difference: float
    repaired: bool


def cold_start(
    size: int,
    seed: int,
    number: int,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Tensor:
    """The random start (n,) of a point of the plan: Gaussian numbers that seed and point alone decide."""
    return gaussian(size, seed, "point", number, dtype=dtype, device=device)


def warm_start(nearby: Extremes, seed: int, number: int) -> Tensor:
    """The start (n,) at a point from the Ritz vectors at another one, with a random part of seed and point.

    Raises:
        ValueError: The other one has none, as a product was not finite there.
    """
    ritz = nearby.ritz
    if len(ritz) == 0:
        raise ValueError("no Ritz vectors to start from")
    start = gaussian(ritz.shape[1], seed, "beside", number, dtype=torch.float64, device=ritz.device)
    start *= _RANDOM / float(torch.linalg.vector_norm(start))
    for weight, vector in zip(_WEIGHTS, ritz, strict=False):
        start.add_(vector, alpha=weight)
    return start.to(ritz.dtype)


def solve_tile(
    solve: Solve,
    places: Sequence[Place],
    *,
    size: int,
    seed: int,
    warm: bool = True,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Tile:
    """Both ends at every point of a tile; what comes out depends on the operators, the places and the seed alone.

    The first point starts from a random vector, every other one from the point before it on a way through the tile that goes
    from neighbor to neighbor, so that the Ritz vectors of one point at a time are in memory.

    Args:
        solve: Both ends at the i-th of the places from a start.
        places: The tile's points, one or more, in the order of the plan.
        size: n.
        seed: Of all random numbers.
        warm: Otherwise every point starts from a random vector, and nothing is checked.
        dtype: Of the starts.
        device: Where they lie.
    """

    def cold(index: int) -> Extremes:
        return solve(index, cold_start(size, seed, places[index].number, dtype=dtype, device=device))

    by_index: dict[int, Extremes] = {}
    starts_cold: set[int] = set()
    before: Extremes | None = None
    for index in _way(places):
        if before is None or len(before.ritz) == 0:
            starts_cold.add(index)
            before = cold(index)
        else:
            start = warm_start(before, seed, places[index].number)
            before = None  # its vectors go before a basis is there
            before = solve(index, start)
        by_index[index] = _without_vectors(before)
        before = before if warm else None
    found = [by_index[index] for index in range(len(places))]
    checked = [index in starts_cold for index in range(len(places))]
    products = [each.num_products for each in found]
    differences: list[float] = []
    for index in _suspects(found, places, checked):
        again = _without_vectors(cold(index))
        products[index] += again.num_products
        differences.append(_difference(found[index], again))
        found[index], checked[index] = _better(found[index], again), True
    repaired = any(difference > MOST_DIFFERENCE for difference in differences)
    for index in range(len(places)) if repaired else ():
        if not checked[index]:
            again = _without_vectors(cold(index))
            products[index] += again.num_products
            differences.append(_difference(found[index], again))
            found[index], checked[index] = _better(found[index], again), True
    return Tile(
        extremes=tuple(found),
        num_products=tuple(products),
        checked=tuple(checked),
        difference=max(differences, default=math.nan),
        repaired=repaired,
    )


def _way(places: Sequence[Place]) -> list[int]:
    """The places in an order that goes along the last axis and back, so that most are beside the one before."""

    def turned(place: Place) -> tuple[int, ...]:
        # Each further row is gone along in the other direction.
        behind, turns = [], 0
        for index in place.indices:
            behind.append(-index if turns % 2 else index)
            turns += index
        return tuple(behind)

    return sorted(range(len(places)), key=lambda index: (turned(places[index]), index))


def _without_vectors(found: Extremes) -> Extremes:
    return replace(found, ritz=found.ritz[:0].clone())


def _distance(one: Place, other: Place) -> int:
    return sum((a - b) ** 2 for a, b in zip(one.indices, other.indices, strict=True))


def _suspects(found: Sequence[Extremes], places: Sequence[Place], checked: Sequence[bool]) -> list[int]:
    """The points that are checked: a fixed sample of the plan, and those that stand out among their neighbors."""
    ratios = [each.lambda_min / each.lambda_max if each.lambda_max else math.nan for each in found]
    chosen = []
    for index, place in enumerate(places):
        if checked[index] or math.isnan(found[index].lambda_min):
            continue
        beside = [
            ratios[other]
            for other in range(len(places))
            if _distance(place, places[other]) == 1 and math.isfinite(ratios[other])
        ]
        # On the wrong eigenvector λmin is too high, never too low. Corners of a tile have no two neighbors on a line.
        is_between = len(beside) > len(place.indices)
        stands_out = is_between and abs(ratios[index]) < (1 - _JUMP) * min(map(abs, beside))
        if place.number % CHECKED_EVERY == 0 or (stands_out and found[index].resolved):
            chosen.append(index)
    return chosen


def _difference(warm: Extremes, cold: Extremes) -> float:
    """The larger relative difference of the two ends; a lower end that neither tells from zero has none."""
    ends = [(warm.lambda_max, cold.lambda_max)]
    if warm.resolved or cold.resolved:
        ends.append((warm.lambda_min, cold.lambda_min))
    return max(abs(a - b) / (max(abs(a), abs(b)) or 1.0) for a, b in ends)


def _better(warm: Extremes, cold: Extremes) -> Extremes:
    """The outer one at each end: both are Rayleigh quotients, and no Rayleigh quotient is beyond an end."""
    best = cold
    if warm.lambda_max > cold.lambda_max:
        best = replace(best, lambda_max=warm.lambda_max, residual_max=warm.residual_max)
    if warm.lambda_min < cold.lambda_min:
        best = replace(
            best, lambda_min=warm.lambda_min, residual_min=warm.residual_min, resolved=warm.resolved
        )
    return best
