"""The hidden units of a network that may change places, and the network after they have."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from mpi_landscape.evaluation.alignment.axes import Units, moving, resolved
from mpi_landscape.evaluation.alignment.operation import Axes


class Factor(NamedTuple):
    """Positions that lie within each other: so many, and the number of the set of units that they are; None in order."""

    size: int
    units: int | None


# Blocks one after the other; within a block the outermost factor first.
Order = tuple[tuple[Factor, ...], ...]


@dataclass(frozen=True, kw_only=True)
class UnitSet:
    """Units that change places together wherever they stand.

    Attributes:
        name: A tensor and its axis along which they stand, such as `conv1.weight[0]`.
        size: How many.
    """

    name: str
    size: int


@dataclass(frozen=True, kw_only=True)
class Symmetries:
    """Permutations of hidden units that leave what a network computes as it is.

    Attributes:
        sets: Each may be permuted by itself.
        orders: Of each tensor, by all of its names, what stands along its axes; of those along which something moves.
        counted: Names of the parameters among them whose distance counts, shared ones once. Running statistics follow the units
            and do not count, as they are no weights.
        in_order: Why no unit along an axis of a tensor may move, by the tensor's name and the number of the axis.
    """

    sets: tuple[UnitSet, ...]
    orders: Mapping[str, tuple[Order, ...]]
    counted: tuple[str, ...]
    in_order: Mapping[tuple[str, int], str]

    def identity(self) -> list[Tensor]:
        """For each set, its units where they are."""
        return [torch.arange(each.size) for each in self.sets]

    def permuted(
        self, state: Mapping[str, Tensor], permutations: Sequence[Tensor], names: Iterable[str] | None = None
    ) -> dict[str, Tensor]:
        """Tensors by name, with units where the permutations bring them: unit `permutation[i]` becomes unit i.

        Args:
            state: Parameters and buffers.
            permutations: One for each set.
            names: Of the tensors that are asked for; all unless given.
        """
        return {
            name: _permuted(state[name], self.orders.get(name, ()), permutations)
            for name in (state if names is None else names)
        }

    def only(self, kept: Sequence[int], reason: str) -> Symmetries:
        """Those of some sets; the others stay in order."""
        number = {old: new for new, old in enumerate(kept)}
        orders, in_order = {}, dict(self.in_order)
        for name, every in self.orders.items():
            left = tuple(
                tuple(
                    tuple(Factor(size, None if units is None else number.get(units)) for size, units in block)
                    for block in order
                )
                for order in every
            )
            for at, (before, now) in enumerate(zip(every, left, strict=True)):
                if _moves(before) and not _moves(now):
                    in_order[name, at] = reason
            if any(map(_moves, left)):
                orders[name] = left
        return Symmetries(
            sets=tuple(self.sets[old] for old in kept),
            orders=orders,
            counted=tuple(name for name in self.counted if name in orders),
            in_order=in_order,
        )


def symmetries_among(found: Mapping[str, Axes], counted: Iterable[str]) -> Symmetries:
    """What has been found out of the tensors of a network, as a value.

    Args:
        found: The axes of tensors that a pass uses.
        counted: Names of parameters, shared ones once; units that none of them has stay in order.
    """
    free = moving(axis for axes in found.values() for axis in axes)
    numbers: dict[Units, int] = {}
    sets: list[UnitSet] = []
    counted = [name for name in counted if name in found]
    for name in counted:
        for at, axis in enumerate(found[name]):
            for units in (each for block in resolved(axis) for each in block if each in free):
                if units not in numbers:
                    numbers[units] = len(sets)
                    sets.append(UnitSet(name=f"{name}[{at}]", size=units.size))
    orders: dict[str, tuple[Order, ...]] = {}
    in_order: dict[tuple[str, int], str] = {}
    for name, axes in found.items():
        every = tuple(
            tuple(tuple(Factor(each.size, numbers.get(each)) for each in block) for block in resolved(axis))
            for axis in axes
        )
        if any(map(_moves, every)):
            orders[name] = every
        for at, axis in enumerate(axes):
            if not _moves(every[at]):
                reasons = (each.reason for block in resolved(axis) for each in block if each.reason)
                in_order[name, at] = next(reasons, "a single unit")
    return Symmetries(
        sets=tuple(sets),
        orders=orders,
        counted=tuple(name for name in counted if name in orders),
        in_order=in_order,
    )


def places(order: Order, permutations: Sequence[Tensor]) -> Tensor | None:
    """(n,) which position comes to each place along an axis; None where all stay.

    Example:
        >>> places(((Factor(2, 0), Factor(3, None)),), [torch.tensor([1, 0])])
        tensor([3, 4, 5, 0, 1, 2])
    """
    if not _moves(order):
        return None
    found, start = [], 0
    for block in order:
        inside = torch.zeros(1, dtype=torch.int64)
        for size, units in block:
            own = torch.arange(size) if units is None else permutations[units]
            inside = (inside[:, None] * size + own).reshape(-1)
        found.append(start + inside)
        start += math.prod(each.size for each in block)
    return torch.cat(found)


def _permuted(tensor: Tensor, orders: Sequence[Order], permutations: Sequence[Tensor]) -> Tensor:
    for axis, order in enumerate(orders):
        at = places(order, permutations)
        if at is not None:
            tensor = tensor.index_select(axis, at.to(tensor.device))
    return tensor


def _moves(order: Order) -> bool:
    return any(each.units is not None for block in order for each in block)
