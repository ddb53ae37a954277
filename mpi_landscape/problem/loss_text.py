"""What tells one loss from another of the same name: its code, and the values that it has been made with."""

from __future__ import annotations

import functools
import hashlib
import sys
import types
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mpi_landscape.origin import is_installed

# Objects inside one another, after which only the class counts.
_DEEPEST = 8


def loss_text(loss: Callable[..., Any], name: str | None = None) -> str:
    """Identify a user's loss: its name, and a fingerprint in brackets.

    The fingerprint is of the code (not of its place in a file, nor of its docstring), of defaults, of the arguments of a partial,
    and of the numbers, texts, arrays and tensors that the loss finds in closures, in globals that it names, and in the attributes
    of networks and of objects of the user's. Functions and classes of the user's are followed; what installed libraries do is
    not looked at. It is the same in every process of one version of Python, whose code it is of.

    Args:
        loss: A function, a partial, a method, or an object that is called.
        name: What comes before the brackets; the qualified name, or the class, by default.

    Returns:
        Such as "weighted [python 3.11, 3f0c8d2a9b71e465]".

    Example:
        >>> def made(weight):
        ...     return lambda model, batch: weight * model(batch)
        >>> loss_text(made(2)) == loss_text(made(2)), loss_text(made(2)) == loss_text(made(3))
        (True, False)
    """
    found = _Fingerprint(loss)
    name = name or str(getattr(loss, "__qualname__", type(loss).__name__))
    return f"{name} [python {sys.version_info[0]}.{sys.version_info[1]}, {found.text}]"


class _Fingerprint:
    """SHA-256 over everything that is visited, each object once."""

    def __init__(self, loss: Callable[..., Any]) -> None:
        self._hash = hashlib.sha256()
        self._seen: dict[int, int] = {}
        self._kept: list[Any] = []  # so that no other object gets the id of one that was made on the way
        self._visit(loss, 0)

    @property
    def text(self) -> str:
        """The first 16 hexadecimal digits."""
        return self._hash.hexdigest()[:16]

    def _add(self, *words: object) -> None:
        for word in words:
            self._hash.update(f"{len(str(word))} {word} ".encode())

    def _visit(self, value: Any, depth: int) -> None:
        if value is None or isinstance(value, bool | int | float | complex | str | bytes):
            self._add(type(value).__name__, repr(value))
            return
        if isinstance(value, torch.dtype | torch.device | torch.Size | np.dtype | range | slice):
            self._add(repr(value))
            return
        if isinstance(value, tuple | frozenset | types.CodeType | np.generic) and depth <= _DEEPEST:
            # Whether two constants are one object depends on whether the code was compiled now or before.
            self._object(value, depth + 1)
            return
        if id(value) in self._seen or depth > _DEEPEST:
            # By the order of first visits, which does not depend on where objects lie.
            self._add("again", self._seen.get(id(value), "deep"))
            return
        self._seen[id(value)] = len(self._seen)
        self._kept.append(value)
        self._object(value, depth + 1)

    def _object(self, value: Any, depth: int) -> None:
        if isinstance(value, Tensor):
            self._tensor(value)
        elif isinstance(value, np.ndarray | np.generic):
            self._array(np.asarray(value))
        elif isinstance(value, types.CodeType):
            self._code(value, depth)
        elif isinstance(value, types.FunctionType):
            self._function(value, depth)
        elif isinstance(value, types.MethodType):
            self._each("method", (value.__func__, value.__self__), depth)
        elif isinstance(value, functools.partial):
            self._each("partial", (value.func, *value.args), depth)
            self._mapping(value.keywords, depth)
        elif isinstance(value, list | tuple):
            self._each(type(value).__name__, value, depth)
        elif isinstance(value, set | frozenset):
            self._each(type(value).__name__, _ordered(value), depth)
        elif isinstance(value, Mapping):
            self._add(type(value).__name__)
            self._mapping(value, depth)
        elif isinstance(value, type):
            self._class(value, depth)
        elif isinstance(value, types.ModuleType | types.BuiltinFunctionType):
            self._add(value.__name__)
        else:
            self._instance(value, depth)

    def _each(self, kind: str, values: Iterable[Any], depth: int) -> None:
        listed = list(values)
        self._add(kind, len(listed))
        for value in listed:
            self._visit(value, depth)

    def _mapping(self, values: Mapping[Any, Any], depth: int) -> None:
        self._add(len(values))
        for key in _ordered(values):
            self._visit(key, depth)
            self._visit(values[key], depth)

    def _tensor(self, tensor: Tensor) -> None:
        if tensor.is_meta or tensor.layout != torch.strided or tensor.is_quantized:
            self._add("tensor", tensor.dtype, tuple(tensor.shape))
            return
        plain = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous()
        self._add("tensor", plain.dtype, tuple(plain.shape))
        self._hash.update(plain.reshape(-1).view(torch.uint8).numpy().data)

    def _array(self, array: np.ndarray[Any, Any]) -> None:
        self._add("array", array.dtype.str, array.shape)
        if not array.dtype.hasobject:
            self._hash.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)

    def _function(self, function: types.FunctionType, depth: int) -> None:
        self._add(function.__module__, function.__qualname__)
        if is_installed(function.__code__.co_filename):
            return
        self._code(function.__code__, depth, doc=function.__doc__)
        # The two steps of a loss, see `loading.parted`.
        for step in ("outputs", "loss_of_outputs"):
            if step in vars(function):
                self._add(step)
                self._visit(vars(function)[step], depth)
        self._each("defaults", function.__defaults__ or (), depth)
        self._mapping(function.__kwdefaults__ or {}, depth)
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            self._add(name)
            try:
                self._visit(cell.cell_contents, depth)
            except ValueError:  # not set yet
                self._add("empty")
        for name in sorted(_names_of(function.__code__) & function.__globals__.keys()):
            self._add(name)
            self._visit(function.__globals__[name], depth)

    def _code(self, code: types.CodeType, depth: int, doc: str | None = None) -> None:
        self._add("code", code.co_argcount, code.co_kwonlyargcount, code.co_flags, code.co_code.hex())
        self._add(code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)
        constants = code.co_consts
        if doc is not None and constants[:1] == (doc,):
            constants = constants[1:]
        self._each("constants", constants, depth)

    def _class(self, kind: type, depth: int) -> None:
        """Its name, and of a user's what its functions do."""
        self._add(kind.__module__, kind.__qualname__)
        if _is_users(kind):
            functions = {
                name: each for name, each in vars(kind).items() if isinstance(each, types.FunctionType)
            }
            self._mapping(functions, depth)
            self._each("bases", kind.__bases__, depth)

    def _instance(self, value: Any, depth: int) -> None:
        """Its class, and its attributes where they are a user's, or numbers of a network; others may differ every time."""
        kind = type(value)
        self._visit(kind, depth)
        attributes = dict(getattr(value, "__dict__", {}))
        if isinstance(value, nn.Module):
            # Not the hooks and the like, of which some are numbered.
            kept = ("_parameters", "_buffers", "_modules")
            attributes = {name: each for name, each in attributes.items() if name[:1] != "_" or name in kept}
        elif not _is_users(kind) and kind.__module__.partition(".")[0] != "torch":
            return
        self._mapping(attributes, depth)


def _ordered(values: Iterable[Any]) -> list[Any]:
    """Texts and numbers in an order of their own, anything else in that which it has."""
    listed = list(values)
    return (
        sorted(listed, key=repr)
        if all(isinstance(each, str | bytes | int | float) for each in listed)
        else listed
    )


def _is_users(kind: type) -> bool:
    file = getattr(sys.modules.get(kind.__module__), "__file__", None)
    return kind.__module__ == "__main__" or (file is not None and not is_installed(file))


def _names_of(code: types.CodeType) -> set[str]:
    """Names that a function, and those inside it, may look up in its module."""
    inner = (each for each in code.co_consts if isinstance(each, types.CodeType))
    return set(code.co_names).union(*map(_names_of, inner))
