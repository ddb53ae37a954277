"""The operations of a pickle, one after the other, for those that torch.save and pickle.dump write, from protocol 2 on.

A pickle is a program: it may nest, repeat and name anything, and Python's own reader would crash on a deep key and take a
gigabyte for five megabytes of empty sets. Here every value is counted before it is made.
"""

from __future__ import annotations

import pickle
import struct
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from mpi_landscape.problem.pickled.room import DamagedError, Room
from mpi_landscape.problem.pickled.tensors import Unread
from mpi_landscape.problem.pickled.values import Name, Values

# Bytes of memory, or a little more, as CPython 3.10 to 3.14 take them: of any value with its place on the stack, of what is
# empty, of a pair in a mapping that grows, of a name under which a value is kept.
_EACH, _LIST, _MAPPING, _SET, _MARK, _PAIR, _MEMO = 32, 96, 256, 224, 96, 160, 128
_LONGEST_NAME = 500
_EMPTY = {
    pickle.EMPTY_LIST[0]: (_LIST, list),
    pickle.EMPTY_DICT[0]: (_MAPPING, dict),
    pickle.EMPTY_SET[0]: (_SET, set),
    pickle.EMPTY_TUPLE[0]: (0, tuple),
}
_CONSTANTS = {pickle.NONE[0]: None, pickle.NEWFALSE[0]: False, pickle.NEWTRUE[0]: True}
_NUMBERS = {
    operation[0]: struct.Struct(form)
    for operation, form in (
        (pickle.BININT, "<i"),
        (pickle.BININT1, "<B"),
        (pickle.BININT2, "<H"),
        (pickle.BINFLOAT, ">d"),
    )
}
_TUPLES = {pickle.TUPLE1[0]: 1, pickle.TUPLE2[0]: 2, pickle.TUPLE3[0]: 3}
_SHORT, _LONG, _LONGEST = struct.Struct("<B"), struct.Struct("<I"), struct.Struct("<Q")


class Machine:
    """One pickle of several that may lie in a file.

    Args:
        content: All bytes among which it lies; the pickle ends with its own last operation.
        start: Where it begins.
        room: What its values may take.
        storage: The storage for a persistent identifier, which is a tuple as torch.save writes it.
    """

    def __init__(
        self, content: memoryview, start: int, *, room: Room, storage: Callable[[tuple[Any, ...]], Any]
    ) -> None:
        self._content, self.position = content, start
        self._room, self._storage = room, storage
        self._values = Values(room)
        self._stack: list[Any] = []
        self._below: list[list[Any]] = []
        self._memo: dict[int, Any] = {}

    def load(self) -> Any:
        """The value of the pickle; `position` is then behind it.

        Raises:
            LandscapeError: The value would be larger than the file accounts for, or is nested too deeply.
            DamagedError: It is no such pickle.
            ForeignError: It names what is not known.
        """
        while True:
            operation = self._bytes(1)[0]
            if operation == pickle.STOP[0]:
                value = self._stack.pop()
                self._values.check_nesting(value)
                return value
            self._room.take(_EACH)
            self._run(operation)

    def _run(self, operation: int) -> None:
        if operation in _NUMBERS:
            self._stack.append(self._number(_NUMBERS[operation]))
        elif operation in _CONSTANTS:
            self._stack.append(_CONSTANTS[operation])
        elif operation in _EMPTY:
            size, make = _EMPTY[operation]
            self._room.take(size)
            self._stack.append(make())
        elif operation in _TUPLES:
            self._stack.append(self._values.tuple_of(self._popped(_TUPLES[operation])))
        elif operation in _OTHERS:
            _OTHERS[operation](self)
        else:
            raise DamagedError(f"an operation {operation}, which torch.save does not write")

    def _bytes(self, count: int) -> memoryview:
        start = self.position
        if count > len(self._content) - start:
            raise DamagedError("it ends within a pickle")
        self.position += count
        return self._content[start : self.position]

    def _number(self, form: struct.Struct) -> Any:
        return form.unpack(self._bytes(form.size))[0]

    def _line(self) -> str:
        text = bytes(self._content[self.position : self.position + _LONGEST_NAME])
        line, end, _ = text.partition(b"\n")
        if not end:
            raise DamagedError("a name without an end")
        self.position += len(line) + 1
        return line.decode()

    def _popped(self, count: int) -> list[Any]:
        if len(self._stack) < count:
            raise DamagedError("it takes more values than there are")
        items = self._stack[-count:]
        del self._stack[-count:]
        return items

    def _popped_to_mark(self) -> list[Any]:
        items, self._stack = self._stack, self._below.pop()
        return items

    def _mark(self) -> None:
        self._room.take(_MARK)
        self._below.append(self._stack)
        self._stack = []

    def _tuple(self) -> None:
        items = self._popped_to_mark()
        self._stack.append(self._values.tuple_of(items))

    def _text(self, form: struct.Struct) -> None:
        text = self._bytes(self._number(form))
        # Letters beyond Latin-1 take two or four bytes each, and so do all others beside them.
        self._room.take(64 + 4 * len(text) * (not bytes(text).isascii()))
        self._stack.append(str(text, "utf-8", "surrogatepass"))

    def _old_text(self, form: struct.Struct) -> None:
        text = bytes(self._bytes(self._number(form)))
        self._room.take(64 + 4 * len(text))
        try:
            self._stack.append(text.decode())
        except UnicodeDecodeError:
            # Python 2 had no other bytes.
            self._stack.append(text.decode("latin1"))

    def _plain_bytes(self, form: struct.Struct) -> None:
        content = self._bytes(self._number(form))
        self._room.take(64 + len(content))
        self._stack.append(bytes(content))

    def _changeable_bytes(self) -> None:
        content = self._bytes(self._number(_LONGEST))
        self._room.take(64 + len(content))
        self._stack.append(bytearray(content))

    def _whole_number(self) -> None:
        self._room.take(256)
        self._stack.append(int.from_bytes(self._bytes(self._number(_SHORT)), "little", signed=True))

    def _append(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if type(target) is Unread:
            return
        if type(target) is not list:
            raise DamagedError("it appends to what is no list")
        target.extend(items)

    def _set_items(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if type(target) is Unread:
            return
        if type(target) not in (dict, OrderedDict) or len(items) % 2:
            raise DamagedError("it sets pairs of what is no mapping")
        self._room.take(_PAIR * (len(items) // 2) * (1 + (type(target) is OrderedDict)))
        for key, value in zip(items[::2], items[1::2], strict=True):
            self._values.check_key(key)
            target[key] = value

    def _add_items(self) -> None:
        items = self._popped_to_mark()
        target = self._stack[-1]
        if type(target) is Unread:
            return
        if type(target) is not set:
            raise DamagedError("it adds to what is no set")
        self._room.take(_PAIR * len(items))
        for each in items:
            self._values.check_key(each)
            target.add(each)

    def _frozen(self) -> None:
        self._stack.append(self._values.called(Name("builtins.frozenset"), (self._popped_to_mark(),)))

    def _get(self, form: struct.Struct) -> None:
        place = self._number(form)
        if place not in self._memo:
            raise DamagedError("it repeats what it has not kept")
        self._stack.append(self._memo[place])

    def _put(self, form: struct.Struct) -> None:
        self._room.take(_MEMO)
        self._memo[self._number(form)] = self._stack[-1]

    def _memoize(self) -> None:
        self._room.take(_MEMO)
        self._memo[len(self._memo)] = self._stack[-1]

    def _stacked_name(self) -> None:
        module, name = self._popped(2)
        if type(module) is not str or type(name) is not str or len(module) + len(name) > _LONGEST_NAME:
            raise DamagedError("a name that is none")
        self._stack.append(self._values.named(f"{module}.{name}"))

    def _name(self) -> None:
        module = self._line()
        self._stack.append(self._values.named(f"{module}.{self._line()}"))

    def _call(self) -> None:
        function, arguments = self._popped(2)
        self._stack.append(self._values.called(function, arguments))

    def _call_with_names(self) -> None:
        function, arguments, _ = self._popped(3)
        made = self._values.called(function, arguments)
        if type(made) is not Unread:
            raise DamagedError("it calls with names what is called without")
        self._stack.append(made)

    def _build(self) -> None:
        (state,) = self._popped(1)
        self._values.build(self._stack[-1], state)

    def _persistent(self) -> None:
        (identifier,) = self._popped(1)
        if type(identifier) is not tuple:
            raise DamagedError("a storage without its description")
        self._stack.append(self._storage(identifier))


_OTHERS: dict[int, Callable[[Machine], None]] = {
    pickle.PROTO[0]: lambda machine: machine._number(_SHORT),
    pickle.MARK[0]: Machine._mark,
    pickle.TUPLE[0]: Machine._tuple,
    # Where frames begin, which only save reads of a stream.
    pickle.FRAME[0]: lambda machine: machine._number(_LONGEST),
    pickle.SHORT_BINUNICODE[0]: lambda machine: machine._text(_SHORT),
    pickle.BINUNICODE[0]: lambda machine: machine._text(_LONG),
    pickle.BINUNICODE8[0]: lambda machine: machine._text(_LONGEST),
    pickle.SHORT_BINSTRING[0]: lambda machine: machine._old_text(_SHORT),
    pickle.BINSTRING[0]: lambda machine: machine._old_text(_LONG),
    pickle.SHORT_BINBYTES[0]: lambda machine: machine._plain_bytes(_SHORT),
    pickle.BINBYTES[0]: lambda machine: machine._plain_bytes(_LONG),
    pickle.BINBYTES8[0]: lambda machine: machine._plain_bytes(_LONGEST),
    pickle.BYTEARRAY8[0]: Machine._changeable_bytes,
    pickle.LONG1[0]: Machine._whole_number,
    pickle.APPEND[0]: lambda machine: machine._append(machine._popped(1)),
    pickle.APPENDS[0]: lambda machine: machine._append(machine._popped_to_mark()),
    pickle.SETITEM[0]: lambda machine: machine._set_items(machine._popped(2)),
    pickle.SETITEMS[0]: lambda machine: machine._set_items(machine._popped_to_mark()),
    pickle.BINGET[0]: lambda machine: machine._get(_SHORT),
    pickle.LONG_BINGET[0]: lambda machine: machine._get(_LONG),
    pickle.BINPUT[0]: lambda machine: machine._put(_SHORT),
    pickle.LONG_BINPUT[0]: lambda machine: machine._put(_LONG),
    pickle.ADDITEMS[0]: Machine._add_items,
    pickle.FROZENSET[0]: Machine._frozen,
    pickle.MEMOIZE[0]: Machine._memoize,
    pickle.GLOBAL[0]: Machine._name,
    pickle.STACK_GLOBAL[0]: Machine._stacked_name,
    pickle.REDUCE[0]: Machine._call,
    pickle.NEWOBJ[0]: Machine._call,
    pickle.NEWOBJ_EX[0]: Machine._call_with_names,
    pickle.BUILD[0]: Machine._build,
    pickle.BINPERSID[0]: Machine._persistent,
}
