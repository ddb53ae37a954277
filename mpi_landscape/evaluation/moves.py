"""How the network itself gets to a point, in the memory that its parameters have, and back to the center."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Protocol

import torch
from torch import Tensor, nn

from mpi_landscape.errors import LandscapeError
from mpi_landscape.evaluation.lending import tensors_of
from mpi_landscape.evaluation.vectors import Point
from mpi_landscape.geometry.kept import KeptPlane, for_each
from mpi_landscape.geometry.layout import Entry, Layout
from mpi_landscape.wording import one_line


class Moves(Protocol):
    """A network's way over a plane; between two of them it is at the center, bit for bit."""

    @property
    def number(self) -> int:
        """How many directions there are."""

    @property
    def tensors(self) -> Sequence[Tensor]:
        """Those of the network that are written to."""

    def go(self, point: Point) -> None:
        """Write the point into the network, always from the center."""

    def back(self) -> None:
        """Write the center into the network."""


class InPlace:
    """By flat vectors: center and directions lie in memory.

    Args:
        model: The network.
        layout: The order of the flat vectors.
        center: (n,) the parameters, in memory other than the network's.
        directions: One or two rows of shape (n,).
    """

    def __init__(
        self, model: nn.Module, layout: Layout, center: Tensor, directions: Sequence[Tensor]
    ) -> None:
        self._directions = [layout.views(each) for each in directions]
        named, views = tensors_of(model), layout.views(center)
        self._moving = [(name, named[name], views[name]) for name in views]
        # What the center has rounded.
        self._finer = {
            name: tensor.detach().clone()
            for name, tensor, view in self._moving
            if tensor.dtype.itemsize > view.dtype.itemsize
        }

    @property
    def number(self) -> int:
        """How many directions there are."""
        return len(self._directions)

    @property
    def tensors(self) -> Sequence[Tensor]:
        """Those of the network that are written to."""
        return [tensor for _, tensor, _ in self._moving]

    def go(self, point: Point) -> None:
        """Write the point into the network."""
        for name, tensor, center in self._moving:
            write(name, tensor, self._value(name, center, point))

    def back(self) -> None:
        """Write the center into the network."""
        for name, tensor, center in self._moving:
            write(name, tensor, self._finer.get(name, center))

    def _value(self, name: str, center: Tensor, point: Point) -> Tensor:
        """A parameter at the point, by the arithmetic of `Vectors.move`."""
        value = self._finer.get(name, center)
        for coordinate, direction in zip(point, self._directions, strict=False):
            if coordinate != 0:
                try:
                    value = torch.add(value, direction[name].to(value), alpha=coordinate)
                except RuntimeError as error:
                    raise LandscapeError(
                        f"grid: the network cannot be moved to {coordinate:g} ({one_line(error, 120)}); valid are coordinates "
                        f"within the range of {str(value.dtype).removeprefix('torch.')}"
                    ) from error
        return value


class InPieces:
    """By tensors that keep their types, and directions that are made anew: nothing of their size is held besides.

    Args:
        model: The network.
        plane: Around its tensors.
        threads: That make directions at the same time, each those of another tensor.
    """

    def __init__(self, model: nn.Module, plane: KeptPlane, *, threads: int = 1) -> None:
        self._plane, self._threads = plane, threads
        named = tensors_of(model)
        also: dict[str, list[str]] = {}
        for name, first in plane.layout.tied:
            also.setdefault(first, []).append(name)
        # A second name of one memory has a memory of its own where the network is on another device.
        self._written = {
            entry.name: [named[name] for name in (entry.name, *also.get(entry.name, ()))]
            for entry in plane.layout.entries
        }
        moving = frozenset().union(*(recipe.moving for recipe in plane.directions.values()))
        self._moving = [entry for entry in plane.layout.entries if entry.name in moving]

    @property
    def number(self) -> int:
        """How many directions there are."""
        return len(self._plane.directions)

    @property
    def tensors(self) -> Sequence[Tensor]:
        """Those of the network that are written to."""
        return [tensor for tensors in self._written.values() for tensor in tensors]

    def go(self, point: Point) -> None:
        """Write the point into the network."""
        if any(point):
            for_each(self._moving, partial(self._write, point), threads=self._threads)
        else:
            self.back()

    def back(self) -> None:
        """Write the center into the network."""
        for entry in self._moving:
            for tensor in self._written[entry.name]:
                write(entry.name, tensor, self._plane.center[entry.name])

    def _write(self, point: Point, entry: Entry) -> None:
        for tensor in self._written[entry.name]:
            if tensor.is_contiguous():
                row = tensor.detach().view(-1)
                for block, value in self._plane.values(entry, point):
                    write(entry.name, row[block.start : block.stop], value)
                continue
            whole = torch.empty_like(self._plane.center[entry.name])
            for block, value in self._plane.values(entry, point):
                whole.view(-1)[block.start : block.stop] = value
            write(entry.name, tensor, whole)


def write(name: str, tensor: Tensor, value: Tensor) -> None:
    """Set a tensor of the network.

    Raises:
        LandscapeError: It cannot be written to.
    """
    try:
        with torch.no_grad():
            tensor.copy_(value)
    except RuntimeError as error:
        raise LandscapeError(
            f"model: {name} cannot be set in place ({one_line(error, 120)}); valid are parameters with memory of their own, "
            f"made outside of torch.inference_mode()"
        ) from error


def write_state(tensors: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
    """Set tensors of the network by their names; those that are not named stay as they are.

    Raises:
        LandscapeError: The network has no tensor of a name, or one of another shape, or it cannot be written to.
    """
    for name, value in state.items():
        own = tensors.get(name)
        if own is None or own.shape != value.shape:
            there = "none" if own is None else f"one of shape {tuple(own.shape)}"
            raise LandscapeError(
                f"model: has {there} of the name {name}, which is to get a tensor of shape {tuple(value.shape)}"
            )
        write(name, own, value)
