"""The layout: how one flat vector holds all parameters of a network, and where its filters are.

The order is that of `named_parameters()`, in which a tied tensor appears once, under its first name.
What a filter is for each type of layer stands in one table in `filters`.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from mpi_landscape.errors import LandscapeError
from mpi_landscape.geometry.filters import Kind, division, is_normalization, owner

__all__ = ["Entry", "Kind", "Layout", "layout_of"]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One tensor's place in the flat vector, and its division into filters.

    Args:
        name: As in `named_parameters()` (or `named_buffers()`).
        shape: The tensor's.
        offset: Index of its first element in the flat vector.
        kind: What `ignore` and the file call it.
        filter_view: Shape to view the tensor in, of the same number of elements.
        filter_axes: Axes of that view that enumerate filters, a norm runs over the others; `()` when the whole tensor
            is one filter.
    """

    name: str
    shape: tuple[int, ...]
    offset: int
    kind: Kind
    filter_view: tuple[int, ...]
    filter_axes: tuple[int, ...]

    @property
    def size(self) -> int:
        """Number of elements."""
        return prod(self.shape)

    @property
    def stop(self) -> int:
        """One past its last element in the flat vector."""
        return self.offset + self.size

    @property
    def num_filters(self) -> int:
        """Number of filters."""
        return prod(self.filter_view[axis] for axis in self.filter_axes)


@dataclass(frozen=True, kw_only=True)
class Layout:
    """All entries, contiguous from offset 0, in the order of the flat vector."""

    entries: tuple[Entry, ...]

    @cached_property
    def size(self) -> int:
        """Number of elements n of the flat vector."""
        return sum(entry.size for entry in self.entries)

    @cached_property
    def num_filters(self) -> int:
        """Number of filters of all entries."""
        return sum(entry.num_filters for entry in self.entries)

    def views(self, vector: Tensor) -> dict[str, Tensor]:
        """Every tensor as a view of a flat vector (n,) of any type and device: nothing is copied.

        Raises:
            LandscapeError: The vector has another shape.
        """
        self.check(vector)
        return {entry.name: vector[entry.offset : entry.stop].view(entry.shape) for entry in self.entries}

    def flatten(
        self, tensors: Mapping[str, Tensor], *, where: str, dtype: torch.dtype = torch.float32
    ) -> Tensor:
        """Copy named tensors, such as a state dict, into one new flat vector (n,) on the CPU.

        Args:
            tensors: By name; names that are not in the layout are passed over.
            where: What the tensors come from, for the message.
            dtype: The result's.

        Raises:
            LandscapeError: Tensors are missing or have another shape (the first three are named).
        """
        problems = list(_differences(self.entries, tensors))
        if problems:
            more = f"; and {len(problems) - 3} more" if len(problems) > 3 else ""
            raise LandscapeError(f"{where} does not fit this network: {'; '.join(problems[:3])}{more}")
        vector = empty_vector(self.size, dtype)
        for name, view in self.views(vector).items():
            view.copy_(tensors[name].detach())
        return vector

    def check(self, vector: Tensor, *, where: str = "vector") -> None:
        """Refuse a vector that is not of shape (n,), by a LandscapeError."""
        if tuple(vector.shape) != (self.size,):
            raise LandscapeError(
                f"{where} has shape {tuple(vector.shape)}; this network's parameters make ({self.size},)"
            )


def empty_vector(size: int, dtype: torch.dtype = torch.float32, device: torch.device | None = None) -> Tensor:
    """Room for a flat vector, on a CPU mapped for it alone, so that it goes back to the system with the vector.

    The C library would keep it, as every block that is freed, for blocks that are no larger.
    """
    if device is not None and device.type != "cpu":
        return torch.empty(size, dtype=dtype, device=device)
    memory = mmap.mmap(-1, max(1, size) * dtype.itemsize, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return torch.frombuffer(memory, dtype=dtype)[:size]


def _differences(entries: tuple[Entry, ...], tensors: Mapping[str, Tensor]) -> Iterator[str]:
    """What keeps these tensors from filling these entries, one phrase each."""
    for entry in entries:
        if entry.name not in tensors:
            yield f"{entry.name} is missing"
        elif tuple(tensors[entry.name].shape) != entry.shape:
            yield f"{entry.name} has shape {tuple(tensors[entry.name].shape)}, the network {entry.shape}"
        elif not tensors[entry.name].is_floating_point():
            yield f"{entry.name} has dtype {tensors[entry.name].dtype}, the network real numbers"


def layout_of(model: nn.Module, *, normalization_buffers: bool = False) -> Layout:
    """The layout of a network: `named_parameters()` in order, then, when asked, floating-point running statistics.

    Only names, shapes and layer types are looked at.

    Raises:
        LandscapeError: There are no parameters, or one is not an initialized tensor of real numbers.

    Example:
        >>> layout = layout_of(nn.Linear(3, 2))
        >>> [(entry.name, entry.offset, entry.stop, entry.num_filters) for entry in layout.entries]
        [('weight', 0, 6, 2), ('bias', 6, 8, 1)]
    """
    named: list[tuple[str, Tensor]] = list(model.named_parameters())
    num_parameters = len(named)
    if normalization_buffers:
        named += _running_statistics(model)
    entries: list[Entry] = []
    for name, tensor in named:
        _check_tensor(name, tensor)
        layer, local = owner(model, name)
        shape = tuple(tensor.shape)
        rule = division(layer, local, shape)
        entry = Entry(
            name=name,
            shape=shape,
            offset=entries[-1].stop if entries else 0,
            kind=rule.kind if len(entries) < num_parameters else "buffer",
            filter_view=rule.view,
            filter_axes=rule.axes,
        )
        entries.append(entry)
    if not any(entry.size for entry in entries[:num_parameters]):
        raise LandscapeError("the network has no parameters, so it has no landscape")
    return Layout(entries=tuple(entries))


def _running_statistics(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """running_mean, running_var and the like; not the integer num_batches_tracked."""
    for name, buffer in model.named_buffers():
        layer, local = owner(model, name)
        if is_normalization(layer) and local.startswith("running_") and buffer.is_floating_point():
            yield name, buffer


def _check_tensor(name: str, tensor: Tensor) -> None:
    if is_lazy(tensor):
        raise LandscapeError(
            f"parameter {name} is not initialised yet; pass one batch through the lazy layers first"
        )
    if not tensor.is_floating_point():
        raise LandscapeError(
            f"parameter {name} has dtype {tensor.dtype}; only real floating-point parameters have a landscape"
        )
