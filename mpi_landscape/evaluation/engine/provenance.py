"""Where the numbers in a tensor come from, kept by the memory in which they lie, so that views and writes in place count."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

from mpi_landscape.loading.nests import tensor_bytes


class Source(IntEnum):
    """What numbers depend on, the strongest last."""

    CONSTANTS = 0
    DATA = 1
    PARAMETERS = 2


class Place(NamedTuple):
    """Where a tensor lies: two tensors at one place hold the same numbers as long as nothing writes."""

    memory: int
    start: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass
class _Memory:
    # Keeps the address from being given to another memory, and not the memory.
    kept: Any
    source: Source
    # Which result of the pass it holds, in their order; None for what the pass was given, and for constants.
    number: int | None = None
    # First and last byte of each parameter that lies in it.
    parameters: list[tuple[int, int, str]] = field(default_factory=list)


class Provenance:
    """The memory that one pass touches.

    Args:
        moving: The tensors that move with the point, by name.
        constants: Other tensors of the network, which stay.
    """

    def __init__(self, moving: Mapping[str, Tensor], constants: Iterable[Tensor]) -> None:
        self._known: dict[int, _Memory] = {}
        self._count = 0
        for name, tensor in moving.items():
            self._memory(tensor, Source.PARAMETERS).parameters.append((*_extent(tensor), name))
        for tensor in constants:
            self._memory(tensor, Source.CONSTANTS)

    def source(self, tensor: Tensor) -> Source:
        """What its numbers depend on; what nobody has made before is data."""
        return self._memory(tensor, Source.DATA).source

    def made(self, tensor: Tensor, source: Source) -> None:
        """A tensor is what an operation gave; where that is a view, its memory keeps the number that it has."""
        if _key(tensor) in self._known:
            memory = self._memory(tensor, source)
            memory.source = max(memory.source, source)
        else:
            self.written(tensor, source)

    def written(self, tensor: Tensor, source: Source) -> None:
        """A tensor was written in place: from now on its memory holds another result, as if it were a new one."""
        memory = self._memory(tensor, source)
        memory.source = max(memory.source, source)
        if memory.source > Source.CONSTANTS:
            self._count += 1
            memory.number = self._count

    def parameters(self, tensor: Tensor) -> tuple[str, ...]:
        """The moving tensors that it lies in."""
        start, stop = _extent(tensor)
        known = self._memory(tensor, Source.DATA).parameters
        return tuple(name for first, last, name in known if first < stop and start < last)

    def place(self, tensor: Tensor) -> Place:
        """Where it lies."""
        return _place(tensor)

    def label(self, tensor: Tensor) -> str:
        """The same for the same tensor in another pass: a parameter, a numbered result, or else its very numbers."""
        memory, place = self._memory(tensor, Source.DATA), _place(tensor)
        kind = f"{str(tensor.dtype).removeprefix('torch.')}{list(place.shape)}"
        where = f"{kind}@{place.start}{list(place.strides)}"
        if memory.number is not None:
            return f"#{memory.number} {where}"
        return f"{memory.parameters[0][2]} {where}" if memory.parameters else f"{kind} {_digest(tensor)}"

    def _memory(self, tensor: Tensor, source: Source) -> _Memory:
        key = _key(tensor)
        if key not in self._known:
            self._known[key] = _Memory(tensor if key < 0 else _weak(tensor), source)
        return self._known[key]


def _weak(tensor: Tensor) -> StorageWeakRef:
    return StorageWeakRef(tensor.untyped_storage())  # type: ignore[no-untyped-call]


def _key(tensor: Tensor) -> int:
    try:
        return int(tensor.untyped_storage()._cdata)
    except (RuntimeError, NotImplementedError):  # sparse, opaque: it is its own memory, and is kept
        return -id(tensor)


def _place(tensor: Tensor) -> Place:
    key = _key(tensor)
    if key < 0:
        return Place(key, 0, tuple(tensor.shape), ())
    return Place(key, int(tensor.storage_offset()), tuple(tensor.shape), tuple(tensor.stride()))


def _extent(tensor: Tensor) -> tuple[int, int]:
    """First byte in its memory, and the one after the last."""
    place = _place(tensor)
    if tensor.numel() == 0:
        return 0, 0
    last = sum((size - 1) * step for size, step in zip(place.shape, place.strides, strict=False))
    return place.start * tensor.itemsize, (place.start + last + 1) * tensor.itemsize


def _digest(tensor: Tensor) -> str:
    try:
        return hashlib.sha256(tensor_bytes(tensor)).hexdigest()[:16]
    except (RuntimeError, NotImplementedError, TypeError):
        return f"of {torch.typename(tensor)}"
