"""What a network and a loss reach besides the network's own modules: what a copy would leave behind, or threads share.

A deep copy copies what hangs on modules as data; functions it does not copy, and what these capture is the original's. So
functions are read: those on the network, those of its classes, its hooks, and the loss. Code of installed libraries is trusted.
"""

from __future__ import annotations

import builtins
import dis
import functools
import types
import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as modules_module

from mpi_landscape.evaluation.outside import Outside
from mpi_landscape.evaluation.trust import (
    HOOKS,
    OF_MODULES,
    PLAIN,
    called,
    is_plain,
    is_torchs,
    is_trusted,
    may_write,
    place_of,
)
from mpi_landscape.loading.results import users_own
from mpi_landscape.origin import is_library

_STORES = ("STORE_GLOBAL", "DELETE_GLOBAL")
_CELL_STORES = ("STORE_DEREF", "DELETE_DEREF")
# Methods by which an object may give itself, or share what it holds, in place of a copy.
_COPYING = ("__deepcopy__", "__reduce__", "__reduce_ex__")


@dataclass(frozen=True, kw_only=True)
class Reach:
    """Where a network and its loss lead, in words for people; None where they lead nowhere.

    Attributes:
        network: A second way to the network: a copy would not be all that moves.
        shared: Something outside of the network that a pass may write to.
        tensors: Tensors outside of the network that a pass reads, and may write to.
    """

    network: str | None = None
    shared: str | None = None
    tensors: tuple[Outside, ...] = field(default=(), repr=False, compare=False)

    def written(self) -> str | None:
        """What has been written to of the tensors since, in words."""
        return next((each.path for each in self.tensors if each.is_written()), None)


def reach_of(model: nn.Module, loss: Callable[..., Any]) -> Reach:
    """What a pass of a network through a loss may reach outside of the network's modules.

    Example:
        >>> seen, net = {}, nn.Linear(2, 1)
        >>> def loss(model, batch):
        ...     seen["last"] = batch
        ...     return model(batch)[:, 0] + net.weight.sum()
        >>> reach_of(net, loss)
        Reach(network='loss: net: is the network itself', shared='loss: seen: a dict outside of the network')
    """
    walk = _Walk(model)
    for prefix, module in model.named_modules():
        walk.module(module, prefix or type(model).__name__)
    walk.visit(users_own(loss), "loss")
    for registry in ("_global_forward_pre_hooks", "_global_forward_hooks"):
        if getattr(modules_module, registry, None):
            walk.shared.append("a hook on all modules")
    return Reach(
        network=next(iter(walk.network), None),
        shared=next(iter(walk.shared), None),
        tensors=tuple(walk.tensors),
    )


class _Walk:
    """Goes from function to function, each object once."""

    def __init__(self, model: nn.Module) -> None:
        self._modules = {id(module) for module in model.modules()}
        tensors = [*model.parameters(), *model.buffers()]
        self._parameters = {id(tensor) for tensor in tensors}
        self._memory = {place_of(tensor) for tensor in tensors} - {0}
        self._seen: set[int] = set()
        self._kept: list[Any] = []  # so that no other object gets the id of one that was made on the way
        self.network: list[str] = []
        self.shared: list[str] = []
        self.tensors: list[Outside] = []

    def module(self, module: nn.Module, name: str) -> None:
        """What hangs on a module of the network, and the code of its class."""
        for registry in HOOKS:
            for hook in getattr(module, registry, {}).values():
                if not is_torchs(hook):
                    self.shared.append(f"{name}: a hook ({called(hook)})")
                    self.visit(hook, f"{name}: hook")
        attributes = vars(module) if not isinstance(module, torch.jit.ScriptModule) else {}
        for key, value in attributes.items():
            if key not in OF_MODULES:
                self._attribute(value, f"{name}.{key}")
        for kind in type(module).__mro__:
            if not is_library(kind):
                self._class(kind, name)

    def _attribute(self, value: Any, path: str) -> None:
        """What a deep copy copies, but for functions."""
        if isinstance(value, Tensor):
            # A parameter's place is taken by name; a view of its memory has none.
            if id(value) not in self._parameters and place_of(value) in self._memory:
                self.network.append(f"{path}: is a view of the network's parameters")
        elif isinstance(value, types.FunctionType | functools.partial):
            self.visit(value, path)
        elif isinstance(value, types.MethodType):
            if path.endswith(".forward") or id(value.__self__) not in self._modules:
                self.visit(value, path)
        elif isinstance(value, Mapping):
            for key, each in value.items():
                self._attribute(each, f"{path}[{key!r}]"[:120])
        elif isinstance(value, list | tuple | set):
            for each in value:
                self._attribute(each, path)
        elif not isinstance(value, nn.Module | type) and not is_library(type(value)):
            self._carried(value, path)

    def _carried(self, value: Any, path: str) -> None:
        """An object of a user's class, which the network holds: a copy has one of its own, but not of its class's code."""
        if id(value) in self._seen:
            return
        self._seen.add(id(value))
        for kind in type(value).__mro__:
            if not is_library(kind):
                self._class(kind, path)
        for key, each in getattr(value, "__dict__", {}).items():
            self._attribute(each, f"{path}.{key}"[:120])

    def _class(self, kind: type, name: str) -> None:
        for key, value in vars(kind).items():
            if key in _COPYING:
                self.shared.append(f"{name}: has a {key} of its own, which may share what is copied")
            if isinstance(value, staticmethod | classmethod):
                self.visit(value.__func__, f"{name}.{key}")
            elif isinstance(value, property):
                for function in (value.fget, value.fset):
                    self.visit(function, f"{name}.{key}")
            elif isinstance(value, types.FunctionType):
                self.visit(value, f"{name}.{key}")
            elif not key.startswith("__") and isinstance(value, dict | list | set | Tensor):
                self.shared.append(f"{kind.__name__}.{key}: a {type(value).__name__} of the class")

    def visit(self, value: Any, path: str) -> None:
        """Anything that is reached by another way than through the network's modules."""
        if isinstance(value, PLAIN) or id(value) in self._seen:
            return
        self._seen.add(id(value))
        self._kept.append(value)
        if isinstance(value, Tensor):
            if id(value) in self._parameters or place_of(value) in self._memory:
                self.network.append(f"{path}: leads to the network's parameters")
            else:
                self.tensors.append(Outside.of(path, value))
        elif isinstance(value, weakref.ref):
            self.visit(value(), path)
        elif isinstance(value, nn.Module):
            self._other(value, path)
        elif isinstance(value, types.FunctionType):
            if not is_trusted(value):
                self._function(value, path)
        elif isinstance(value, types.MethodType):
            self.visit(value.__func__, path)
            self.visit(value.__self__, path)
        elif isinstance(value, functools.partial):
            known = is_trusted(value.func)
            for each in (value.func, *value.args, *value.keywords.values()):
                # A library's function reads what it is given.
                if not (known and is_plain(each)):
                    self.visit(each, path)
        elif isinstance(value, tuple | frozenset):
            self._each(value, path)
        elif isinstance(value, type):
            pass  # what it makes is new
        elif not isinstance(value, types.ModuleType | types.BuiltinFunctionType) and not is_trusted(value):
            self._object(value, path)

    def _object(self, value: Any, path: str) -> None:
        self.shared.append(f"{path}: a {type(value).__name__} outside of the network")
        if isinstance(value, Mapping):
            self._each(value.values(), path)
        elif isinstance(value, list | set):
            self._each(value, path)
        else:
            self._each(getattr(value, "__dict__", {}).values(), path)
            call = getattr(type(value), "__call__", None)  # noqa: B004 - its code is read
            self.visit(call, path)

    def _each(self, values: Iterable[Any], path: str) -> None:
        for each in list(values)[:1000]:
            self.visit(each, path)

    def _other(self, module: nn.Module, path: str) -> None:
        """A network beside the network: a teacher, or the outer one."""
        if id(module) in self._modules:
            self.network.append(f"{path}: is the network itself" if module else path)
        elif any(
            id(tensor) in self._parameters or place_of(tensor) in self._memory
            for tensor in module.parameters()
        ):
            self.network.append(f"{path}: has parameters of the network")
        elif any(may_write(each) for each in module.modules()):
            self.shared.append(f"{path}: another network ({type(module).__name__})")

    def _function(self, function: types.FunctionType, path: str) -> None:
        code = function.__code__
        for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
            if name != "__class__":
                try:
                    self.visit(cell.cell_contents, f"{path}: {name}")
                except ValueError:  # not set yet
                    continue
        self._each(function.__defaults__ or (), path)
        self._each((function.__kwdefaults__ or {}).values(), path)
        self._code(code, function.__globals__, path, frozenset(code.co_freevars))

    def _code(
        self, code: types.CodeType, names: dict[str, Any], path: str, enclosing: frozenset[str]
    ) -> None:
        last: Any = None
        for instruction in dis.get_instructions(code):
            if instruction.opname in _STORES:
                self.shared.append(f"{path}: writes the global {instruction.argval}")
            elif instruction.opname in _CELL_STORES and instruction.argval in enclosing:
                self.shared.append(f"{path}: writes {instruction.argval}, which all calls share")
            elif instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
                last = names.get(instruction.argval, getattr(builtins, str(instruction.argval), None))
                if last is globals:
                    self.shared.append(f"{path}: may write to all globals")
                self.visit(last, f"{path}: {instruction.argval}")
                continue
            elif instruction.opname in ("LOAD_ATTR", "LOAD_METHOD") and isinstance(
                last, types.ModuleType | type
            ):
                if not is_trusted(last):
                    last = getattr(last, instruction.argval, None)
                    self.visit(last, f"{path}: {instruction.argval}")
                    continue
            elif instruction.opname == "STORE_ATTR" and isinstance(last, type | types.ModuleType):
                self.shared.append(f"{path}: writes {getattr(last, '__name__', '')}.{instruction.argval}")
            if instruction.opname not in ("PRECALL", "CACHE", "RESUME", "EXTENDED_ARG"):
                last = None
        for constant in code.co_consts:
            if isinstance(constant, types.CodeType):
                self._code(constant, names, path, enclosing)
