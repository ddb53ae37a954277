"""Whether an example's loss is the same in other batches: a dependence on the others is refused, rounding is none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from mpi_landscape.errors import LandscapeError
from mpi_landscape.evaluation.reference import Reference
from mpi_landscape.evaluation.sums import Floats
from mpi_landscape.evaluation.vectors import Point
from mpi_landscape.loading.batches import Batch
from mpi_landscape.wording import rounded

# Relative, of an example's loss in two batches: another batch size rounds otherwise.
REGROUPED = 1e-4
# Where float32 differs by more, float64 decides: it rounds to a part in 1e16, and a dependence is of the same size in both. And
# beyond this, float64 is not another rounding of the same thing but something else.
_IN_DOUBLE, _MOST_ROUNDING = 1e-8, 1e-2


def check_grouping(
    reference: Reference,
    groupings: Sequence[Sequence[Batch]],
    points: Sequence[Point],
    orders: Sequence[Sequence[int]],
    in_double: Callable[[Sequence[Batch], Point], Floats | None] | None = None,
) -> float:
    """Check that examples have the same losses in other batches and another order, away from the center.

    At the center a loss of the whole batch may be zero, and so may its dependence on the batch. A network may round so much
    that it looks like a dependence: float64 tells the two apart.

    Args:
        reference: The network itself.
        groupings: Batches of the same examples, in several ways.
        points: Where to look.
        orders: For each grouping the numbers of its examples, in their order.
        in_double: Gives the losses of some batches at a point in float64, or None where it cannot; None for what is in float64.

    Returns:
        By how much losses differ by rounding, relative, where that is more than is usual; otherwise 0.

    Raises:
        LandscapeError: An example's loss is another one.
    """
    rounding = 0.0
    for point in points:
        first: Floats | None = None
        exact: Floats | None = None
        for number, (batches, order) in enumerate(zip(groupings, orders, strict=True)):
            losses = _in_order(reference.losses(batches, point), order)
            if first is None:
                first = losses
                continue
            far = _apart(first, losses) > REGROUPED
            if not far.any():
                continue
            place = int(np.argmax(far))
            if in_double is not None:
                if exact is None:
                    exact = _in_order(in_double(groupings[0], point), orders[0])
                found = is_rounding(
                    (first, losses), (exact, _in_order(in_double(groupings[number], point), order))
                )
                if found is not None:
                    rounding = max(rounding, found)
                    continue
            raise LandscapeError(
                f"model: at {rounded(point)} the loss of an example is {first[place]:.9g} in one batch and "
                f"{losses[place]:.9g} in another; the loss of an example must not depend on the other examples of its "
                f"batch, nor on what was evaluated before"
            )
    return rounding


def is_rounding(single: tuple[Floats, Floats], double: tuple[Floats | None, Floats | None]) -> float | None:
    """Whether two float32 results differ by rounding alone: in float64 they do not, and neither is far from there.

    Args:
        single: The same losses found in two ways in float32.
        double: Likewise in float64; None where it cannot be had.

    Returns:
        The largest relative difference of the two; None where it is no rounding.

    Example:
        >>> single = np.array([1.0, 2.0]), np.array([1.0, 2.001])
        >>> round(is_rounding(single, (np.array([1.0, 2.0004]), np.array([1.0, 2.0004]))), 7)
        0.0005
        >>> is_rounding(single, single) is None
        True
    """
    one, other = double
    if one is None or other is None or (_apart(one, other) > _IN_DOUBLE).any():
        return None
    if any((_apart(one, each) > _MOST_ROUNDING).any() for each in single):
        return None
    return float(_apart(*single).max(initial=0.0))


def _apart(first: Floats, second: Floats) -> Floats:
    """How far losses are apart, relative to an example's loss, or to the mean or 2e-3 where these are larger.

    It is infinite where one alone is NaN, and 0 where either is infinite.
    """
    finite = np.isfinite(first) & np.isfinite(second)
    with np.errstate(invalid="ignore", over="ignore"):
        mean = float(np.mean(np.abs(first[finite]))) if finite.any() else 0.0
        apart = np.abs(first - second) / np.maximum(np.abs(first), max(mean, 2e-3))
    return np.where(finite, apart, np.where(np.isnan(first) != np.isnan(second), np.inf, 0.0))


def _in_order(losses: Floats | None, order: Sequence[int]) -> Any:
    if losses is None:
        return None
    found = np.empty(len(order))
    found[list(order)] = losses
    return found
