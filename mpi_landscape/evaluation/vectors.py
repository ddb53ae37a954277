"""The flat vectors of an evaluation: center, directions, and the point that a network follows."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import Tensor, nn

from mpi_landscape.errors import LandscapeError
from mpi_landscape.geometry.layout import Layout

# Convolutions of two axes, whose weights can lie in channels-last order.
_CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)


class Vectors:
    """Center and directions, and one point of the plane between them.

    Args:
        layout: Of all of them.
        center: (n,).
        directions: (n,) each.
        channels_last: Entries of four axes that lie in channels-last order.
        ranges: (start, stop) of what moves; the whole by default.
    """

    def __init__(
        self,
        layout: Layout,
        center: Tensor,
        directions: Sequence[Tensor],
        *,
        channels_last: Collection[str] = (),
        ranges: Sequence[tuple[int, int]] | None = None,
    ) -> None:
        self.layout, self.center, self.directions = layout, center, list(directions)
        self._channels_last = frozenset(channels_last)
        self._ranges = [(0, layout.size)] if ranges is None else list(ranges)
        # What never moves is never touched, and so takes no memory.
        self.point = torch.empty_like(center)
        self._low: Tensor | None = None
        for start, stop in self._ranges:
            self.point[start:stop].copy_(center[start:stop])

    def beside(self) -> Vectors:
        """The same center and directions with a point of its own."""
        return Vectors(
            self.layout, self.center, self.directions, channels_last=self._channels_last, ranges=self._ranges
        )

    def move(self, coordinates: Sequence[float]) -> None:
        """Put the point to center + sum of coordinate * direction, always from the center.

        Args:
            coordinates: One per direction; a missing or zero one leaves its direction out, so that (0, 0) is the
                center bit for bit.
        """
        moves = [(c, d) for c, d in zip(coordinates, self.directions, strict=False) if c != 0]
        for start, stop in self._ranges:
            target, source = self.point[start:stop], self.center[start:stop]
            if not moves:
                target.copy_(source)
            for coordinate, direction in moves:
                torch.add(source, direction[start:stop], alpha=coordinate, out=target)
                source = target
        if self._low is not None:
            self._low.copy_(self.point)

    def points(self, coordinates: Sequence[Sequence[float]]) -> Tensor:
        """(G, n): several points, one in each row."""
        rows = self.center.expand(len(coordinates), -1).clone()
        for axis, direction in enumerate(self.directions):
            steps = rows.new_tensor([each[axis] if axis < len(each) else 0.0 for each in coordinates])
            rows.addcmul_(steps[:, None], direction)
        return rows

    def check(self, coordinates: Sequence[float]) -> None:
        """Refuse a point off the plane.

        Raises:
            LandscapeError: A coordinate that is not zero has no direction.
        """
        if any(coordinates[len(self.directions) :]):
            raise LandscapeError(
                f"point {tuple(coordinates)} lies off the {len(self.directions)} direction(s) of this evaluator; "
                f"valid is one coordinate per direction"
            )

    def point_views(self, lower: torch.dtype | None, *, keep: Collection[str]) -> dict[str, Tensor]:
        """The point's tensors by name, as the network is to see them.

        Args:
            lower: Type of fewer bits that they are rounded to; None for none.
            keep: Names that keep their type.
        """
        views = self.layout_views(self.point)
        if lower is None:
            return views
        if self._low is None:
            self._low = self.point.to(lower)
        lowered = self.layout_views(self._low)
        return {name: views[name] if name in keep else lowered[name] for name in views}

    def layout_views(self, vector: Tensor) -> dict[str, Tensor]:
        """Every tensor of a vector (n,), or of several (G, n), as a view; convolutions in the order they lie in."""
        lead = vector.shape[:-1]
        views = {}
        for entry in self.layout.entries:
            flat = vector[..., entry.offset : entry.stop]
            if entry.name in self._channels_last:
                out, inner, height, width = entry.shape
                lying = flat.view(*lead, out, height, width, inner)
                views[entry.name] = lying.permute(*range(len(lead)), *(len(lead) + k for k in (0, 3, 1, 2)))
            else:
                views[entry.name] = flat.view(*lead, *entry.shape)
        return views


def convolution_weights(network: nn.Module, layout: Layout) -> list[str]:
    """The entries that are weights of two-dimensional convolutions."""
    names = {
        f"{name}.weight" for name, module in network.named_modules() if isinstance(module, _CONVOLUTIONS)
    }
    return [entry.name for entry in layout.entries if entry.name in names and len(entry.shape) == 4]


def reorder(vectors: Sequence[Tensor], layout: Layout, names: Collection[str]) -> None:
    """Bring entries into channels-last order, in place."""
    for vector in vectors:
        views = layout.views(vector)
        for name in names:
            view = views[name]
            view.view(-1).copy_(view.permute(0, 2, 3, 1).reshape(-1))
