"""Arrays and numbers of numpy in a pickle, each checked before it is made; of other values than numbers nothing is read."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np

from mpi_landscape.problem.pickled import tensors
from mpi_landscape.problem.pickled.room import DamagedError, ForeignError, Room
from mpi_landscape.problem.pickled.tensors import Unread

# Of numpy's arrays and numbers; u4 is that of its random state.
_ARRAYS = {
    np.dtype(kind).str[1:]
    for kind in ("f2", "f4", "f8", "c8", "c16", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?")
}
_MOST_DIMENSIONS = 32


def set_order(kind: np.dtype[Any], state: Any) -> None:
    """Give a type of numbers its order of bytes.

    Raises:
        DamagedError: It is none.
    """
    order = state[1] if type(state) is tuple and len(state) > 1 else None
    if type(order) is not str or order not in "<>|=" or state[2:] != (None, None, None, -1, -1, 0):
        raise DamagedError("a type of numbers that is none")
    kind.__setstate__((3, order, None, None, None, -1, -1, 0))  # type: ignore[attr-defined]


def _dtype(room: Room, kind: Any, *_: Any) -> np.dtype[Any] | Unread:
    if kind not in _ARRAYS:
        # Texts, dates and objects.
        is_one = type(kind) is str and re.fullmatch("[OSUMmVb][0-9]{0,9}", kind)
        if not is_one:
            raise ForeignError("numpy.dtype")
        room.take(128)
        return Unread(f"numpy.dtypes.{type(np.dtype(kind)).__name__}", is_tensor=False)
    room.take(128)
    # A copy, whose order of bytes can be another one.
    made: np.dtype[Any] = np.dtype(kind, False, True)
    return made


def _number(room: Room, kind: Any, content: Any) -> Any:
    if type(kind) is Unread:
        return kind
    if type(content) is str:
        content = _bytes_of(content)
    if not isinstance(kind, np.dtype) or type(content) is not bytes or len(content) != kind.itemsize:
        raise DamagedError("a number of numpy that is none")
    room.take(128)
    return np.ndarray((), kind, content)[()]


def _array(room: Room, kind: Any, shape: Any, code: Any) -> np.ndarray[Any, Any]:
    if getattr(kind, "text", None) != "numpy.ndarray" or shape != (0,) or type(code) not in (bytes, str):
        raise DamagedError("an array that is not begun empty")
    room.take(256)
    return np.empty(0)


def fill(room: Room, array: np.ndarray[Any, Any], state: Any) -> None:
    """Give an array its values; one of other values than numbers stays empty.

    Raises:
        LandscapeError: It would take too much.
        DamagedError: It is none.
    """
    if type(state) is not tuple or len(state) != 5:
        raise DamagedError("an array without its shape, type and values")
    _, shape, kind, is_fortran, content = state
    if type(kind) is Unread:
        # It stays empty.
        return
    if type(content) is str:
        content = _bytes_of(content)
    is_shape = type(shape) is tuple and len(shape) <= _MOST_DIMENSIONS and all(map(tensors.is_count, shape))
    if not is_shape or not isinstance(kind, np.dtype) or type(content) is not bytes:
        raise DamagedError("an array without its shape, type and values")
    if len(content) != tensors.product(shape) * kind.itemsize:
        raise DamagedError("an array with other values than its shape says")
    room.take(len(content))
    checked: Any = (1, shape, kind, bool(is_fortran), content)
    array.__setstate__(checked)


def _from_buffer(room: Room, content: Any, kind: Any, shape: Any, order: Any, *_: Any) -> Any:
    if type(kind) is Unread:
        return kind
    made = np.empty(0)
    room.take(len(content) if type(content) is bytearray else 0)
    is_fortran = order == "F"
    fill(room, made, (1, shape, kind, is_fortran, bytes(content) if type(content) is bytearray else content))
    return made


def _bytes_of(text: str) -> bytes:
    """Bytes as Python 2 wrote them: texts."""
    try:
        return text.encode("latin1")
    except UnicodeEncodeError as error:
        raise DamagedError("bytes that are none") from error


# numpy 2 moved its core; a checkpoint names the place of the numpy that wrote it.
CALLED: dict[str, Callable[..., Any]] = {
    "numpy.dtype": _dtype,
    **{f"numpy.{core}.multiarray.scalar": _number for core in ("core", "_core")},
    **{f"numpy.{core}.multiarray._reconstruct": _array for core in ("core", "_core")},
    **{f"numpy.{core}.numeric._frombuffer": _from_buffer for core in ("core", "_core")},
}
