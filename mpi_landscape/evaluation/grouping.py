"""Whether an example's loss is the same in other batches: a dependence on the others is refused, rounding is none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mpi_landscape.errors import LandscapeError
from mpi_landscape.evaluation.reference import Reference
from mpi_landscape.evaluation.sums import Floats
from mpi_landscape.evaluation.vectors import Point
from mpi_landscape.loading.batches import Batch
from mpi_landscape.wording import rounded

# Relative, of an example's loss in two batches: another batch size rounds otherwise.
REGROUPED = 1e-4


@dataclass(frozen=True, kw_only=True)
class Rounding:
    """What rounding may do where losses differ by more, and finer numbers decide: a dependence is of the same size in both.

    Attributes:
        finer: How far losses in finer numbers may be apart, relative.
        most: How far losses may be from them; beyond, they are not another rounding of the same thing but something else.
        blind: How far losses may be apart where finer numbers cannot be had.
    """

    finer: float
    most: float
    blind: float = 0.0


# float32 against float64, which rounds to a part in 1e16.
SINGLE = Rounding(finer=1e-8, most=1e-2)
# 16 bits against float32. In bfloat16, losses of tokens of random GPT-2 networks (12 layers, filter-normalized directions) were
# off by 1 % of the mean at (1, 1) and by 35 % at (4, -4), those of sequences by 0.2 % and 3 %. Where a network insists on its
# type, nothing else can tell.
SHORT = Rounding(finer=REGROUPED, most=0.5, blind=0.05)


def rounding_of(dtype: torch.dtype) -> Rounding:
    """What rounding may do to losses in a type."""
    return SHORT if dtype.itemsize < 4 else SINGLE


def check_grouping(
    reference: Reference,
    groupings: Sequence[Sequence[Batch]],
    points: Sequence[Point],
    orders: Sequence[Sequence[int]],
    in_finer: Callable[[Sequence[Batch], Point], Floats | None] | None = None,
    allowed: Rounding = SINGLE,
) -> float:
    """Check that examples have the same losses in other batches and another order, away from the center.

    At the center a loss of the whole batch may be zero, and so may its dependence on the batch. A network may round so much
    that it looks like a dependence: more bits tell the two apart.

    Args:
        reference: The network itself.
        groupings: Batches of the same examples, in several ways.
        points: Where to look.
        orders: For each grouping the numbers of its examples, in their order.
        in_finer: Gives the losses of some batches at a point in more bits, or None where it cannot; None for what is in float64.
        allowed: What rounding may do.

    Returns:
        By how much losses differ by rounding, relative, where that is more than is usual; otherwise 0.

    Raises:
        LandscapeError: An example's loss is another one.
    """
    rounding = 0.0
    for point in points:
        first: Floats | None = None
        exact: Floats | None = None
        # Once for all: it may take longer than the losses.
        with reference.at(point):
            every = [reference.losses_here(batches) for batches in groupings]
        for number, (own, order) in enumerate(zip(every, orders, strict=True)):
            losses = _in_order(own, order)
            if first is None:
                first = losses
                continue
            far = _apart(first, losses) > REGROUPED
            if not far.any():
                continue
            place = int(np.argmax(far))
            if in_finer is not None:
                if exact is None:
                    exact = _in_order(in_finer(groupings[0], point), orders[0])
                finer = exact, _in_order(in_finer(groupings[number], point), order)
                found = is_rounding((first, losses), finer, allowed)
                if found is not None:
                    rounding = max(rounding, found)
                    continue
            raise LandscapeError(
                f"model: at {rounded(point)} the loss of an example is {first[place]:.9g} in one batch and "
                f"{losses[place]:.9g} in another; the loss of an example must not depend on the other examples of its "
                f"batch, nor on what was evaluated before"
            )
    return rounding


def is_rounding(
    found: tuple[Floats, Floats],
    finer: tuple[Floats | None, Floats | None],
    allowed: Rounding = SINGLE,
) -> float | None:
    """Whether two results differ by rounding alone: in finer numbers they do not, and neither is far from there.

    Args:
        found: The same losses found in two ways, such as in float32.
        finer: Likewise in finer numbers, such as float64; None where these cannot be had.
        allowed: What rounding may do.

    Returns:
        The largest relative difference of the two; None where it is no rounding.

    Example:
        >>> single = np.array([1.0, 2.0]), np.array([1.0, 2.001])
        >>> round(is_rounding(single, (np.array([1.0, 2.0004]), np.array([1.0, 2.0004]))), 7)
        0.0005
        >>> is_rounding(single, single) is None
        True
    """
    one, other = finer
    apart = float(_apart(*found).max(initial=0.0))
    if one is None or other is None:
        return apart if apart <= allowed.blind else None
    if (_apart(one, other) > allowed.finer).any():
        return None
    if any((_apart(one, each) > allowed.most).any() for each in found):
        return None
    return apart


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
