"""What of a network moves along the directions of a plane, by groups of tensors: a table, and a word where it is little."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from mpi_landscape.geometry.directions import array_of
from mpi_landscape.geometry.kept import KeptPlane
from mpi_landscape.geometry.layout import Entry, Kind
from mpi_landscape.geometry.plane import Plane

# Below this share of the numbers, or of the center's norm, a picture shows little of the network.
_LITTLE = 0.01
_HEADS = ("kind", "filters by", "tensors", "filters", "numbers")


@dataclass(frozen=True, kw_only=True)
class Group:
    """Tensors of one kind that fall into filters alike.

    Attributes:
        kind: As `ignore` calls it.
        rule: How they fall into filters, in words.
        tensors: How many.
        filters: Of all of them.
        numbers: Of all of them.
        moving: Share of the numbers that lie in a filter that moves, by direction; 0 to 1.
    """

    kind: Kind
    rule: str
    tensors: int
    filters: int
    numbers: int
    moving: Mapping[str, float]


def groups(plane: Plane | KeptPlane) -> list[Group]:
    """What moves, by kind and rule, in the order of their first tensors.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from mpi_landscape.geometry.layout import layout_of
        >>> layout = layout_of(nn.Linear(2, 3))
        >>> direction = torch.tensor([1.0, 1, 0, 0, 1, 1, 0, 0, 0])  # two rows of the weight
        >>> plane = Plane(layout=layout, center=torch.ones(9), directions={"alpha": direction})
        >>> [(each.kind, each.rule, each.filters, round(each.moving["alpha"], 2)) for each in groups(plane)]
        [('weight', 'axis 0', 3, 0.67), ('bias', 'whole', 1, 0.0)]
    """
    members: dict[tuple[Kind, str], list[int]] = {}
    every, numbers_of = plane.layout.entries, _numbers(plane)
    for place, entry in enumerate(every):
        members.setdefault((entry.kind, _rule(entry)), []).append(place)
    return [
        Group(
            kind=kind,
            rule=rule,
            tensors=len(places),
            filters=sum(every[place].num_filters for place in places),
            numbers=(numbers := sum(every[place].size for place in places)),
            moving={
                name: sum(found[place] for place in places) / max(1, numbers)
                for name, found in numbers_of.items()
            },
        )
        for (kind, rule), places in members.items()
    ]


def describe(plane: Plane | KeptPlane) -> list[str]:
    """The table in lines for people."""
    heads = (*_HEADS, *plane.directions)
    rows = [
        (
            each.kind,
            each.rule,
            f"{each.tensors:,}",
            f"{each.filters:,}",
            f"{each.numbers:,}",
            *(f"{100 * share:.3g} %" for share in each.moving.values()),
        )
        for each in groups(plane)
    ]
    widths = [max(len(row[column]) for row in (heads, *rows)) for column in range(len(heads))]
    lines: list[str] = []
    for row in (heads, *rows):
        words = [
            text.ljust(width) if column < 2 else text.rjust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append(f"{'' if lines else 'moves':<12}{'  '.join(words).rstrip()}")
    return lines


def warnings_of(plane: Plane | KeptPlane) -> list[str]:
    """A phrase for every direction along which little of the network moves: of its numbers, or of its norm."""
    layout = plane.layout
    lines: list[str] = []
    squares = _squares(plane)
    whole_norm = sqrt(sum(squares))
    for name, found in _numbers(plane).items():
        numbers = sum(found)
        moved = sqrt(sum(square for square, moves in zip(squares, found, strict=True) if moves))
        share, of_norm = numbers / layout.size, moved / whole_norm if whole_norm else 1.0
        if share < _LITTLE or of_norm < _LITTLE:
            lines.append(
                f"{name}: moves {100 * share:.2g} % of the numbers, which make {100 * of_norm:.2g} % of the center's norm; "
                f"the picture shows little of the network"
            )
    return lines


def _rule(entry: Entry) -> str:
    """How a tensor falls into filters, in words."""
    if not entry.filter_axes:
        return "whole"
    axes = ", ".join(map(str, entry.filter_axes))
    word = "axis" if len(entry.filter_axes) == 1 else "axes"
    return f"{word} {axes}" if entry.filter_view == entry.real_shape else f"{word} {axes} in groups"


def _numbers(plane: Plane | KeptPlane) -> dict[str, list[int]]:
    """Numbers of each entry that lie in filters that move, by direction."""
    if isinstance(plane, KeptPlane):
        return plane.moving
    return {
        name: [_moving(entry, array_of(vector)) for entry in plane.layout.entries]
        for name, vector in plane.directions.items()
    }


def _squares(plane: Plane | KeptPlane) -> list[float]:
    """The squared norm of each entry at the center; 0 of running statistics."""
    if isinstance(plane, KeptPlane):
        found = [sum(look.products[0]) for look in plane.looks]
    else:
        center = array_of(plane.center)
        parts = [center[entry.offset : entry.stop] for entry in plane.layout.entries]
        found = [float(np.dot(part, part)) for part in parts]
    return [
        0.0 if entry.kind == "buffer" else square
        for entry, square in zip(plane.layout.entries, found, strict=True)
    ]


def _moving(entry: Entry, direction: NDArray[np.floating]) -> int:
    """Numbers of a tensor that lie in filters that move."""
    tensor = direction[entry.offset : entry.stop].reshape(entry.filter_view) != 0
    over = tuple(axis for axis in range(tensor.ndim) if axis not in entry.filter_axes)
    moves = tensor.any(axis=over)
    return int(moves.sum()) * (entry.size // max(1, entry.num_filters))
