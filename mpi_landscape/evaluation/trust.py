"""Which of the things that a network and a loss lead to can hold state that a pass changes."""

from __future__ import annotations

import datetime
import decimal
import enum
import fractions
import functools
import re
import types
import uuid
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mpi_landscape.origin import is_installed, is_library

# Values that never change, at which a walk ends.
PLAIN = (type(None), bool, int, float, complex, str, bytes, enum.Enum, torch.dtype, torch.device, torch.Size,
          torch.layout, torch.memory_format, np.generic, np.dtype, range, slice, type(...), type(NotImplemented))  # fmt: skip
# Objects of libraries that never change.
_FIXED = (re.Pattern, datetime.date, datetime.time, datetime.timedelta, datetime.tzinfo, decimal.Decimal, fractions.Fraction,
          PurePath, uuid.UUID, torch.finfo, torch.iinfo, np.finfo, np.iinfo, types.MappingProxyType)  # fmt: skip
# What torch keeps of a module.
OF_MODULES = frozenset(vars(nn.Module()))
# Registries of a module.
HOOKS = ("_forward_pre_hooks", "_forward_hooks")


def is_plain(value: Any) -> bool:
    """Whether this is a number, a text, or a container of such."""
    if isinstance(value, Mapping):
        return all(map(is_plain, value.values()))
    if isinstance(value, list | tuple | set | frozenset):
        return all(map(is_plain, value))
    return isinstance(value, PLAIN)


def place_of(tensor: Tensor) -> int:
    """The memory that a tensor lies in; 0 where it has none."""
    try:
        return int(tensor.untyped_storage().data_ptr())
    except Exception:  # sparse, quantized or fake tensors
        return 0


def _has_hooks(module: nn.Module) -> bool:
    return any(not is_torchs(hook) for registry in HOOKS for hook in getattr(module, registry, {}).values())


def may_write(module: nn.Module) -> bool:
    """Whether a module of another network may write to itself, or draw."""
    keeps = bool(list(module.buffers(recurse=False))) or "Dropout" in type(module).__name__
    return not is_library(type(module)) or _has_hooks(module) or (module.training and keeps)


def called(hook: Any) -> str:
    """What messages call a hook."""
    return str(getattr(hook, "__qualname__", type(hook).__qualname__))


def is_torchs(hook: Any) -> bool:
    """Whether a hook is one of torch's own, as those of its old weight_norm, which write to their module alone."""
    return str(getattr(hook, "__module__", "")).startswith("torch.") and not isinstance(
        hook, functools.partial
    )


def is_trusted(value: Any) -> bool:
    """Whether a function, class, module or object is an installed library's or this program's."""
    if isinstance(value, types.MethodType):
        return is_trusted(value.__func__) and is_trusted(value.__self__)
    if isinstance(value, types.FunctionType):
        return is_installed(value.__code__.co_filename)
    if isinstance(value, types.ModuleType):
        return is_installed(getattr(value, "__file__", None))
    if isinstance(value, type):
        return is_library(value)
    if isinstance(
        value, dict | list | set | bytearray | np.ndarray | np.random.Generator | np.random.RandomState
    ):
        return False
    # Of other objects of libraries, such as a deque, an iterator or a generator, calls may change the state.
    fixed = callable(value) or isinstance(value, _FIXED)
    return fixed and is_library(type(value)) and not getattr(value, "__dict__", None)
