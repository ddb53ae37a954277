"""The layout: how one flat vector holds all parameters of a network, and where its filters are.

The order is that of `named_parameters()`, in which a tied tensor appears once, under its first name; complex tensors come
first. A flat vector holds real numbers: a complex one lies in it as a pair, real part and imaginary part, and a view of it
as complex numbers begins at an even place. What a filter is for each type of layer stands in one table in `filters`.
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
from mpi_landscape.geometry.filters import Division, Kind, division, is_normalization, owner
from mpi_landscape.geometry.memory import tied
from mpi_landscape.geometry.naming import wrapping

__all__ = ["Entry", "Kind", "Layout", "layout_of"]

# Types of the real parts of complex numbers that torch computes with.
_PAIRS = (torch.float16, torch.float32, torch.float64)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One tensor's place in the flat vector, and its division into filters.

    Args:
        name: As in `named_parameters()` (or `named_buffers()`).
        shape: The tensor's.
        offset: Index of its first element in the flat vector.
        kind: What `ignore` and the file call it.
        filter_view: Shape to view the tensor's real numbers in, of the same number of elements.
        filter_axes: Axes of that view that enumerate filters, a norm runs over the others; `()` when the whole tensor
            is one filter.
        key: Its name without what the network is wrapped in (`naming.wrapping`).
        trainable: Whether a training moves it (`requires_grad`); of a network that is frozen as a whole, and of running
            statistics, always true.
        is_complex: Whether its elements are complex; two numbers of the flat vector are then one element.
    """

    name: str
    shape: tuple[int, ...]
    offset: int
    kind: Kind
    filter_view: tuple[int, ...]
    filter_axes: tuple[int, ...]
    key: str
    trainable: bool = True
    is_complex: bool = False

    @property
    def real_shape(self) -> tuple[int, ...]:
        """The shape of its real numbers: of a complex tensor with an axis of two at the end."""
        return (*self.shape, 2) if self.is_complex else self.shape

    @property
    def size(self) -> int:
        """Number of real numbers."""
        return prod(self.real_shape)

    @property
    def stop(self) -> int:
        """One past its last element in the flat vector."""
        return self.offset + self.size

    @property
    def num_filters(self) -> int:
        """Number of filters."""
        return prod(self.filter_view[axis] for axis in self.filter_axes)

    def view(self, vector: Tensor) -> Tensor:
        """The tensor as a view of a flat vector.

        Raises:
            LandscapeError: It is complex, and there are no complex numbers of the vector's type.
        """
        numbers = vector[self.offset : self.stop].view(self.real_shape)
        if not self.is_complex:
            return numbers
        if vector.dtype not in _PAIRS:
            raise LandscapeError(
                f"parameter {self.name} is complex, and there are no complex numbers of {vector.dtype}; "
                f"valid are float32 and float64 (compute.precision)"
            )
        return torch.view_as_complex(numbers)


@dataclass(frozen=True, kw_only=True)
class Layout:
    """All entries, contiguous from offset 0, in the order of the flat vector.

    Args:
        entries: The tensors that a flat vector holds.
        tied: Further names of entries, each with the first: parameters on the memory of another one.
        fixed: Parameters that are no floating-point numbers, such as integers, and never move.
        is_frozen: Whether no parameter of the network is trainable, so that all count as such.
    """

    entries: tuple[Entry, ...]
    tied: tuple[tuple[str, str], ...] = ()
    fixed: tuple[str, ...] = ()
    is_frozen: bool = False

    @cached_property
    def size(self) -> int:
        """Number of elements n of the flat vector."""
        return sum(entry.size for entry in self.entries)

    @cached_property
    def num_filters(self) -> int:
        """Number of filters of all entries."""
        return sum(entry.num_filters for entry in self.entries)

    def views(self, vector: Tensor) -> dict[str, Tensor]:
        """Every tensor as a view of a flat vector (n,) of any type and device, tied ones too: nothing is copied.

        Raises:
            LandscapeError: The vector has another shape, or a type without complex numbers where some are needed.
        """
        self.check(vector)
        views = {entry.name: entry.view(vector) for entry in self.entries}
        return views | {name: views[first] for name, first in self.tied}

    def flatten(
        self, tensors: Mapping[str, Tensor], *, where: str, dtype: torch.dtype = torch.float32
    ) -> Tensor:
        """Copy named tensors, such as a state dict, into one new flat vector (n,) on the CPU.

        Args:
            tensors: By name; names that are not in the layout are passed over.
            where: What the tensors come from, for the message.
            dtype: The result's.

        Raises:
            LandscapeError: Tensors are missing or have another shape, or tied ones differ (the first three are named).
        """
        problems = list(_differences(self, tensors))
        if problems:
            more = f"; and {len(problems) - 3} more" if len(problems) > 3 else ""
            raise LandscapeError(f"{where} does not fit this network: {'; '.join(problems[:3])}{more}")
        vector = empty_vector(self.size, dtype)
        for entry in self.entries:
            entry.view(vector).copy_(tensors[entry.name].detach())
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


def _differences(layout: Layout, tensors: Mapping[str, Tensor]) -> Iterator[str]:
    """What keeps these tensors from filling these entries, one phrase each."""
    for entry in layout.entries:
        if entry.name not in tensors:
            yield f"{entry.name} is missing"
            continue
        tensor = tensors[entry.name]
        if tuple(tensor.shape) != entry.shape:
            yield f"{entry.name} has shape {tuple(tensor.shape)}, the network {entry.shape}"
        elif not (tensor.is_complex() if entry.is_complex else tensor.is_floating_point()):
            kind = "complex" if entry.is_complex else "real"
            yield f"{entry.name} has dtype {tensor.dtype}, the network {kind} numbers"
    for name, first in layout.tied:
        if name in tensors and first in tensors and not torch.equal(tensors[name], tensors[first]):
            yield f"{name} differs from {first}, which is the same tensor in the network"


def layout_of(
    model: nn.Module, *, normalization_buffers: bool = False, roles: Mapping[str, Division] | None = None
) -> Layout:
    """The layout of a network: `named_parameters()` in order, then, when asked, floating-point running statistics.

    Only names, shapes, layer types and what lies on one memory are looked at, and whether parameters are trainable.
    Parameters that are no floating-point or complex numbers are left out.

    Args:
        model: The network.
        normalization_buffers: Whether running statistics are a part of the vector.
        roles: What tensors are, by name, where the table in `filters` would be wrong: seen in a pass, or said by hand.

    Raises:
        LandscapeError: There are no parameters, one is not initialized, or two share a part of their memory.

    Example:
        >>> layout = layout_of(nn.Linear(3, 2))
        >>> [(entry.name, entry.offset, entry.stop, entry.num_filters) for entry in layout.entries]
        [('weight', 0, 6, 2), ('bias', 6, 8, 1)]

        A layer that keeps its weight as (in, out), as GPT-2 does, has its filters along the other axis:

        >>> sideways = Division(kind="weight", view=(2, 3), axes=(1,))
        >>> layout_of(nn.Linear(3, 2), roles={"weight": sideways}).entries[0].num_filters
        3
    """
    parameters = dict(model.named_parameters())
    for name, each in parameters.items():
        _check_tensor(name, each)
    moving = [
        (name, each) for name, each in parameters.items() if each.is_floating_point() or each.is_complex()
    ]
    floating = {name for name, _ in moving}
    further = tied(moving)
    own = [(name, each) for name, each in moving if name not in further]
    own.sort(key=lambda pair: not pair[1].is_complex())  # stable
    if not any(each.numel() for _, each in own):
        raise LandscapeError(_nothing_to_move(model))
    statistics = list(_running_statistics(model)) if normalization_buffers else []
    prefix = wrapping(model, parameters)
    trained = {further.get(name, name) for name, each in moving if each.requires_grad}
    entries: list[Entry] = []
    for name, tensor in [*own, *statistics]:
        rule = (roles or {}).get(name) or division(*owner(model, name), tuple(tensor.shape))
        entries.append(
            Entry(
                name=name,
                shape=tuple(tensor.shape),
                offset=entries[-1].stop if entries else 0,
                kind=rule.kind if len(entries) < len(own) else "buffer",
                filter_view=(*rule.view, 2) if tensor.is_complex() else rule.view,
                filter_axes=rule.axes,
                key=name.removeprefix(prefix),
                trainable=not trained or name in trained or len(entries) >= len(own),
                is_complex=tensor.is_complex(),
            )
        )
    return Layout(
        entries=tuple(entries),
        tied=tuple(further.items()),
        fixed=tuple(name for name in parameters if name not in floating),
        is_frozen=not trained,
    )


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


def _nothing_to_move(model: nn.Module) -> str:
    whole = next((f"{name} is of {each.dtype}" for name, each in model.named_parameters()), None)
    # Layers of torch.ao keep their weights packed, as no parameters at all.
    packed = next(
        (name for name, each in model.named_modules() if ".quantized" in f".{type(each).__module__}"), None
    )
    if whole is None and packed is None:
        return "the network has no parameters, so it has no landscape"
    found = whole or f"{packed} is quantized"
    return (
        f"the network has no parameters in floating-point numbers ({found.replace('torch.', '')}), so nothing can move; valid is "
        f"the network as it was before it was quantized, or dequantized"
    )
