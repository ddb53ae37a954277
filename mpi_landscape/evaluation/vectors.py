"""The flat vectors of an evaluation: center, directions, and the point that a network follows."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from mpi_landscape.errors import LandscapeError
from mpi_landscape.geometry.layout import Layout, empty_vector

Point = tuple[float, ...]

# Numbers of a tensor that are copied at a time: few beside a vector.
_BLOCK = 2**18


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Center and directions, as they lie in memory.

    Attributes:
        layout: Layout of all of them.
        center: (n,).
        directions: (n,) each.
        channels_last: Entries of four axes that lie in channels-last order.
        ranges: (start, stop) of the parts that move with the point; None for the whole.
    """

    layout: Layout
    center: Tensor
    directions: tuple[Tensor, ...]
    channels_last: frozenset[str] = frozenset()
    ranges: tuple[tuple[int, int], ...] | None = None


def row_blocks(tensor: Tensor) -> tuple[Tensor, ...]:
    """Views of a tensor, cut along its first axis: what is made of one of them is small."""
    return torch.split(tensor, max(1, _BLOCK * len(tensor) // max(1, tensor.numel())))


def check_point(coordinates: Sequence[float], number: int) -> None:
    """Refuse a point off the plane of so many directions.

    Raises:
        LandscapeError: A coordinate that is not zero has no direction.
    """
    if any(coordinates[number:]):
        raise LandscapeError(
            f"point {tuple(coordinates)} lies off the {number} direction(s) of this evaluator; "
            f"valid is one coordinate per direction"
        )


class Follower(Protocol):
    """A part of a network that follows the point by its coordinates, and not by the flat vector."""

    def begin(self) -> None:
        """The next pass is one over another batch."""

    def move(self, coordinates: Sequence[float]) -> None:
        """Go to a point."""


class Vectors:
    """Center and directions, shared with others, and one point of the plane between them.

    Attributes:
        followers: What else moves with the point.
    """

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self.followers: list[Follower] = []
        self._ranges = ((0, rows.layout.size),) if rows.ranges is None else rows.ranges
        # What never moves is never touched, and so takes no memory.
        self.point = empty_vector(rows.layout.size, rows.center.dtype, rows.center.device)
        self._low: Tensor | None = None
        for start, stop in self._ranges:
            self.point[start:stop].copy_(rows.center[start:stop])

    def begin(self) -> None:
        """The next pass is one over another batch."""
        for follower in self.followers:
            follower.begin()

    def move(self, coordinates: Sequence[float]) -> None:
        """Put the point to center + sum of coordinate * direction, from the center; see `Evaluator.move`."""
        moves = [(c, d) for c, d in zip(coordinates, self.rows.directions, strict=False) if c != 0]
        for start, stop in self._ranges:
            target, source = self.point[start:stop], self.rows.center[start:stop]
            if not moves:
                target.copy_(source)
            for coordinate, direction in moves:
                torch.add(source, direction[start:stop], alpha=coordinate, out=target)
                source = target
        if self._low is not None:
            self._low.copy_(self.point)
        for follower in self.followers:
            follower.move(coordinates)

    def check(self, coordinates: Sequence[float]) -> None:
        """Refuse a point off the plane.

        Raises:
            LandscapeError: A coordinate that is not zero has no direction.
        """
        check_point(coordinates, len(self.rows.directions))

    def point_views(
        self, lower: torch.dtype | None = None, *, keep: Collection[str] = ()
    ) -> dict[str, Tensor]:
        """The point's tensors by name as the network is to see them: in a `lower` type but for those to `keep`."""
        views = self._views(self.point)
        if lower is None:
            return views
        if self._low is None:
            self._low = self.point.to(lower)
        lowered = self._views(self._low)
        return {name: views[name] if name in keep else lowered[name] for name in views}

    def _views(self, vector: Tensor) -> dict[str, Tensor]:
        """Every tensor of a vector as a view; convolutions in the order in which they lie."""
        views = self.rows.layout.views(vector)
        for name in self.rows.channels_last:
            out, inner, height, width = views[name].shape
            views[name] = views[name].view(out, height, width, inner).permute(0, 3, 1, 2)
        return views
