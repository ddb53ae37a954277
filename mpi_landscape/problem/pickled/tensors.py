"""Tensors of a file of torch.save, as views of the file's own bytes."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mpi_landscape.problem.pickled.room import DamagedError, Room

# A tensor object with what torch keeps of it.
_TENSOR = 1024
_MOST_DIMENSIONS = 64
_STORAGES = {
    "torch.DoubleStorage": torch.float64,
    "torch.FloatStorage": torch.float32,
    "torch.HalfStorage": torch.float16,
    "torch.BFloat16Storage": torch.bfloat16,
    "torch.LongStorage": torch.int64,
    "torch.IntStorage": torch.int32,
    "torch.ShortStorage": torch.int16,
    "torch.CharStorage": torch.int8,
    "torch.ByteStorage": torch.uint8,
    "torch.BoolStorage": torch.bool,
    "torch.ComplexDoubleStorage": torch.complex128,
    "torch.ComplexFloatStorage": torch.complex64,
    "torch.QUInt8Storage": torch.quint8,
    "torch.QInt8Storage": torch.qint8,
    "torch.QInt32Storage": torch.qint32,
    "torch.QUInt4x2Storage": torch.quint4x2,
    "torch.QUInt2x4Storage": torch.quint2x4,
    "torch.storage.UntypedStorage": torch.uint8,
}
_TYPES = {f"torch.{name}": each for name, each in vars(torch).items() if isinstance(each, torch.dtype)}
_SCHEMES = {
    f"torch.per_{kind}"
    for kind in ("tensor_affine", "tensor_symmetric", "channel_affine", "channel_symmetric")
} | {"torch.per_channel_affine_float_qparams"}
_PARAMETER = "torch.nn.parameter.Parameter"


@dataclass(frozen=True)
class Unread:
    """What stands for something that is no dense tensor of numbers, and is not read: its kind, for messages.

    An object of Python, which may stand beside a state dictionary, is no tensor.
    """

    kind: str
    is_tensor: bool = True


@dataclass(frozen=True, kw_only=True)
class Storage:
    """Numbers one after the other.

    Args:
        dtype: Their type.
        num_bytes: What they take.
        content: The bytes of the file; None where they are not looked at.
    """

    dtype: torch.dtype
    num_bytes: int
    content: torch.UntypedStorage | None


def is_known(name: str) -> bool:
    """Whether a pickle may name it."""
    return (
        name in REBUILT or name in _STORAGES or name in _TYPES or name in _SCHEMES or name == "torch.Tensor"
    )


def is_count(value: Any) -> bool:
    """Whether it is a whole number of at least 0."""
    return type(value) is int and 0 <= value < 2**63


def product(numbers: Iterable[int]) -> int:
    """The product of whole numbers; 1 of none."""
    return functools.reduce(operator.mul, numbers, 1)


def storage_type(name: Any) -> torch.dtype:
    """The type of the numbers in a storage of this name.

    Raises:
        DamagedError: There is none.
    """
    text = getattr(name, "text", None)
    if text not in _STORAGES:
        raise DamagedError("a storage of no known type")
    return _STORAGES[text]


def rebuilt(function: str, arguments: tuple[Any, ...], room: Room) -> Any:
    """A tensor, as one of torch's functions would make it.

    Args:
        function: A name of `REBUILT`.
        arguments: Those of the call, with texts for names.
        room: Counts what the values of a tensor would take beyond its storage, as when a stride is 0: whoever copies it
            takes that.

    Raises:
        LandscapeError: It would take too much.
        DamagedError: It does not lie within its storage.
    """
    room.take(_TENSOR)
    return REBUILT[function](room, *arguments)


def _dense(
    room: Room,
    storage: Any,
    offset: Any,
    size: Any,
    stride: Any,
    requires_grad: Any = False,
    _hooks: Any = None,
    metadata: Any = None,
    *,
    dtype: torch.dtype | None = None,
) -> Tensor | Unread:
    if type(storage) is not Storage or type(requires_grad) is not bool:
        raise DamagedError("a tensor without a storage")
    kind = dtype or storage.dtype
    _check_extent(room, storage.num_bytes, kind.itemsize, offset, size, stride)
    if storage.content is None:
        return Unread("without values")
    made = torch.empty(0, dtype=kind).set_(storage.content, offset, tuple(size), tuple(stride))
    if metadata == {"conj": True} and made.is_complex():
        made = made.conj()
    elif metadata:
        raise DamagedError("a tensor that is a view of an unknown kind")
    return made.requires_grad_(requires_grad)


def _check_extent(room: Room, num_bytes: int, itemsize: int, offset: Any, size: Any, stride: Any) -> None:
    shapes = all(isinstance(each, tuple) and len(each) <= _MOST_DIMENSIONS for each in (size, stride))
    if not shapes or len(size) != len(stride) or not all(map(is_count, (offset, *size, *stride))):
        raise DamagedError("a tensor without shape, strides and offset")
    last = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
    if 0 not in size and (last + 1) * itemsize > num_bytes:
        raise DamagedError("a tensor beyond the end of its storage")
    room.take(max(0, product(size) * itemsize - num_bytes))


def _of_type(room: Room, storage: Any, offset: Any, size: Any, stride: Any, *rest: Any) -> Tensor | Unread:
    requires_grad, hooks, dtype, *metadata = rest
    if dtype not in _TYPES:
        raise DamagedError("a tensor of no known type")
    return _dense(room, storage, offset, size, stride, requires_grad, hooks, *metadata, dtype=_TYPES[dtype])


def _parameter(_: Room, data: Any, requires_grad: Any = True, *_rest: Any) -> Any:
    if isinstance(data, Unread):
        return data
    if not isinstance(data, Tensor) or type(requires_grad) is not bool:
        raise DamagedError("a parameter without a tensor")
    return nn.Parameter(data.detach(), requires_grad)


def _size(room: Room, lengths: Any) -> torch.Size:
    if type(lengths) is not tuple or not all(map(is_count, lengths)):
        raise DamagedError("a shape that is none")
    room.take(8 * len(lengths))
    return torch.Size(lengths)


def _unread(kind: str) -> Callable[..., Unread]:
    return lambda _room, *_arguments: Unread(kind)


REBUILT: dict[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor": _dense,
    "torch._utils._rebuild_tensor_v2": _dense,
    "torch._utils._rebuild_tensor_v3": _of_type,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    _PARAMETER: _parameter,
    "torch.Size": _size,
    "torch._utils._rebuild_qtensor": _unread("quantized"),
    "torch._utils._rebuild_sparse_tensor": _unread("sparse"),
    # A tensor of several processes, of which a file of one holds a part.
    "torch._utils._rebuild_wrapper_subclass": _unread("sharded over processes"),
    "torch._utils._rebuild_nested_tensor": _unread("nested"),
    "torch._utils._rebuild_meta_tensor_no_storage": _unread("without values"),
}
