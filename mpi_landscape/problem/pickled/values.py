"""What the names in a pickle of torch.save stand for: containers, numbers, arrays and tensors, each checked before it is made."""

from __future__ import annotations

import argparse
import re
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from mpi_landscape.errors import LandscapeError
from mpi_landscape.problem.pickled import arrays, tensors
from mpi_landscape.problem.pickled.beside import stands_unread
from mpi_landscape.problem.pickled.room import DamagedError, ForeignError, Room
from mpi_landscape.problem.pickled.tensors import Unread

# CPython computes the hash of a key without counting how deep it is: a million tuples one in another end the process.
DEEPEST = 100
# A tuple of forty tuples, each of which holds the next one twice, has a million million items for whoever walks it.
_MOST_IN_A_KEY = 1000
_CONTAINERS = (list, tuple, dict, OrderedDict, set, frozenset, argparse.Namespace)
_LATIN = ("latin1", "latin-1")


@dataclass(frozen=True)
class Name:
    """A name that is known to hold values only, which is not what it names."""

    text: str


class Values:
    """Makes the values of one pickle.

    Args:
        room: What they may take.
    """

    def __init__(self, room: Room) -> None:
        self._room = room
        # Of tuples that hold tuples, by identity: the tuple, how deep it is, and how many items there are in all.
        self._nested: dict[int, tuple[tuple[Any, ...], int, int]] = {}

    def named(self, text: str) -> Name:
        """A name of a pickle.

        Raises:
            ForeignError: It is not known.
        """
        # As Python 2 named it.
        text = re.sub("^copy_reg[.]", "copyreg.", re.sub("^__builtin__[.]", "builtins.", text))
        is_known = text in _CALLED or text in arrays.CALLED or text in _BESIDE or tensors.is_known(text)
        if not is_known and (self._room.is_strict or not stands_unread(text)):
            raise ForeignError(text.removeprefix("builtins."))
        return Name(text)

    def called(self, function: Any, arguments: Any) -> Any:
        """What a call or a new object comes to.

        Raises:
            LandscapeError: It would take too much.
            DamagedError: It is not called so by torch.save.
        """
        if type(function) is not Name or type(arguments) is not tuple:
            raise DamagedError("it calls what has no name")
        if function.text == "torch._tensor._rebuild_from_type_v2" and len(arguments) == 4:
            # A tensor with attributes, which are left.
            return self.called(arguments[0], arguments[2])
        if function.text in tensors.REBUILT:
            return tensors.rebuilt(function.text, self._plain(arguments), self._room)
        if function.text in arrays.CALLED:
            return arrays.CALLED[function.text](self._room, *arguments)
        call = _CALLED.get(function.text)
        if call is None and stands_unread(function.text):
            return self.unread(function.text)
        if call is None:
            raise DamagedError("it calls what torch.save does not call")
        return call(self, *arguments)

    def build(self, value: Any, state: Any) -> None:
        """Give a value its state.

        Raises:
            LandscapeError: It would take too much.
            DamagedError: It has none of that kind.
            ForeignError: It is an array of other values than numbers.
        """
        if type(value) is Unread:
            return
        if isinstance(value, np.dtype):
            arrays.set_order(value, state)
        elif type(value) is np.ndarray:
            arrays.fill(self._room, value, state)
        elif type(value) is argparse.Namespace and type(state) is dict and all(type(k) is str for k in state):
            self._room.take(256 * (1 + len(state)))
            vars(value).update(state)
        # Attributes of a state dictionary: versions of its layers, which are not needed.
        elif type(value) is not OrderedDict or type(state) is not dict:
            raise DamagedError("it gives a state to what has none")

    def unread(self, name: str) -> Unread:
        """What stands for an object that is not read."""
        self._room.take(128)
        return Unread(name[:200], is_tensor=False)

    def tuple_of(self, items: list[Any]) -> tuple[Any, ...]:
        """A tuple, refused where tuples are nested too deeply in it."""
        self._room.take(64 + 8 * len(items))
        made, inner = tuple(items), [self._extent(each) for each in items if type(each) is tuple]
        if inner:
            self._room.take(256)
            depth = 1 + max(depth for depth, _ in inner)
            if depth > DEEPEST:
                raise self._too_deep()
            self._nested[id(made)] = (made, depth, 1 + len(items) + sum(size for _, size in inner))
        return made

    def check_key(self, key: Any) -> None:
        """Refuse a key whose hash or text would take long, or end the process."""
        if type(key) is tuple and self._extent(key)[1] > _MOST_IN_A_KEY:
            raise LandscapeError(
                f"{self._room.where}: has a key of more than {_MOST_IN_A_KEY} items; expected names and numbers for keys"
            )

    def check_nesting(self, value: Any) -> None:
        """Refuse what holds itself or is nested too deeply, when all of it has been put together.

        Raises:
            LandscapeError: It does, or is.
        """
        self._height(value, 1, {})

    def _height(self, value: Any, depth: int, known: dict[int, int]) -> int:
        """How deep a value is; 0 stands for one that is being looked at."""
        if type(value) not in _CONTAINERS:
            return 0
        height = known.get(id(value))
        if height == 0:
            raise LandscapeError(f"{self._room.where}: has a container that holds itself")
        if depth + (height or 0) > DEEPEST:
            raise self._too_deep()
        if height is None:
            self._room.take(100)
            known[id(value)] = 0
            inner = (self._height(each, depth + 1, known) for each in _items(value))
            height = known[id(value)] = 1 + max(inner, default=0)
        return height

    def _too_deep(self) -> LandscapeError:
        return LandscapeError(f"{self._room.where}: is nested more than {DEEPEST} deep")

    def _extent(self, value: tuple[Any, ...]) -> tuple[int, int]:
        _, depth, size = self._nested.get(id(value), (value, 1, 1 + len(value)))
        return depth, size

    def _plain(self, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        """Arguments with texts in place of names."""
        return tuple(each.text if type(each) is Name else each for each in arguments)

    def _ordered(self, pairs: Any = ()) -> OrderedDict[Any, Any]:
        if type(pairs) not in (tuple, list):
            raise DamagedError("an ordered mapping of what is no list")
        self._room.take(512 * (1 + len(pairs)))
        made: OrderedDict[Any, Any] = OrderedDict()
        for key, value in pairs:
            self.check_key(key)
            made[key] = value
        return made

    def _counter(self, counts: Any = None) -> dict[Any, Any]:
        if counts is not None and type(counts) is not dict:
            raise DamagedError("counts that are no mapping")
        self._room.take(256 + 128 * len(counts or ()))
        return dict(counts or {})

    def _with_default(self, factory: Any = None) -> dict[Any, Any]:
        if factory is not None and type(factory) is not Name:
            raise DamagedError("a default that has no name")
        self._room.take(256)
        return {}

    def _namespace(self) -> argparse.Namespace:
        self._room.take(512)
        return argparse.Namespace()

    def _set(self, items: Any = ()) -> set[Any]:
        if type(items) not in (tuple, list):
            raise DamagedError("a set of what is no list")
        self._room.take(256 + 128 * len(items))
        for each in items:
            self.check_key(each)
        return set(items)

    def _encoded(self, text: Any, encoding: Any) -> bytes:
        if type(text) is not str or encoding not in _LATIN:
            raise DamagedError("bytes that are no text in Latin-1")
        self._room.take(64 + len(text))
        return text.encode("latin1")

    def _changeable(self, *content: Any) -> bytearray:
        made = content[0] if len(content) == 1 else self._encoded(*content) if content else b""
        if type(made) is not bytes:
            raise DamagedError("bytes that are none")
        self._room.take(64 + len(made))
        return bytearray(made)

    def _complex(self, real: Any, imaginary: Any) -> complex:
        if not all(type(each) in (int, float) for each in (real, imaginary)):
            raise DamagedError("a complex number that is none")
        return complex(real, imaginary)

    def _frozen(self, items: Any = ()) -> frozenset[Any]:
        return frozenset(self._set(items))

    def _beside(self, *_: Any) -> Unread:
        return self.unread("no tensor")


def _items(value: Any) -> Iterable[Any]:
    found: Iterable[Any] = value
    if isinstance(value, argparse.Namespace):
        found = vars(value).values()
    elif isinstance(value, dict):
        found = (each for pair in value.items() for each in pair)
    return found


_CALLED: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": Values._ordered,
    "collections.Counter": Values._counter,
    "collections.defaultdict": Values._with_default,
    "argparse.Namespace": Values._namespace,
    "builtins.set": Values._set,
    "builtins.frozenset": Values._frozen,
    "builtins.bytearray": Values._changeable,
    "builtins.complex": Values._complex,
    "_codecs.encode": Values._encoded,
    "torch.device": Values._beside,
    "torch.serialization._get_layout": Values._beside,
}
# Named and not called: types of arrays and tensors, and what a mapping makes where it has nothing.
_BESIDE = {"numpy.ndarray", "torch._tensor._rebuild_from_type_v2"} | {
    f"builtins.{name}" for name in ("int", "float", "bool", "str", "list", "dict", "tuple", "object")
}
