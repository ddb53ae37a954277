"""Trained parameters from a file or folder of any program into a network, without running code from it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mpi_landscape.errors import LandscapeError
from mpi_landscape.problem.pickled import files
from mpi_landscape.problem.pickled.room import DamagedError, ForeignError
from mpi_landscape.problem.pickled.tensors import Unread
from mpi_landscape.problem.weights import arrays, safetensors_file, shards
from mpi_landscape.problem.weights.arrays import array_of
from mpi_landscape.problem.weights.choosing import chosen
from mpi_landscape.problem.weights.fitting import fitted, load_state
from mpi_landscape.problem.weights.folders import weights_in
from mpi_landscape.problem.weights.foreign import first_bytes, refuse_foreign
from mpi_landscape.problem.weights.names import COUNTER, aligned, part_of, without_prefixes
from mpi_landscape.problem.weights.source import TOP, Source
from mpi_landscape.wording import one_line, reason, shown

__all__ = [
    "Source",
    "Weights",
    "fitted",
    "load",
    "load_state",
    "read_content",
    "read_state",
    "read_weights",
    "under_names",
]

_SAFETENSORS = ".safetensors"
_NUMBERS = frozenset(
    getattr(torch, name)
    for name in (
        *("float16", "bfloat16", "float32", "float64", "bool", "uint8", "int8", "int16", "int32", "int64"),
        *("complex64", "complex128"),
        *("float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz"),
    )
)


@dataclass(frozen=True, kw_only=True)
class Weights:
    """What a checkpoint holds of one network.

    Attributes:
        state: CPU tensors by name.
        lines: What is to be said of the choice that was made, for people.
    """

    state: dict[str, Tensor]
    lines: tuple[str, ...] = ()


def load(model: nn.Module, source: Source, *, where: str) -> list[str]:
    """Put the weights of a checkpoint into a network; messages begin with `where`. Returns lines for people.

    Raises:
        LandscapeError: As `read_weights` and `load_state`.
    """
    weights = read_weights(source)
    return [*weights.lines, *load_state(model, weights.state, where=where)]


def read_state(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """The tensors that a checkpoint holds, found by themselves; see `read_weights`."""
    return read_weights(Source(path=os.fspath(path))).state


def read_weights(source: Source) -> Weights:
    """Read the parameters and buffers that a checkpoint holds.

    Args:
        source: A file of torch.save or pickle.dump (a state dictionary, or a mapping that holds one under a usual name), of
            safetensors, or an archive of numpy's arrays; an index of several files; or a folder of a program that leaves such.

    Returns:
        The tensors, mapped from the file, without the prefixes of wrappers such as `module.` (DataParallel) and `_orig_mod.`
        (torch.compile).

    Raises:
        LandscapeError: It is absent, damaged, of another kind, would run code when loaded, holds no state dictionary or
            several, or one with tensors that are no dense tensors of numbers.
    """
    where, path, lines = source.path, Path(source.path), []
    if path.is_dir():
        try:
            path, line = weights_in(path, where)
        except OSError as error:
            raise LandscapeError(f"{where}: cannot be read ({error.strerror or error})") from error
        lines = [line] if line else []
        where = str(path)
    if path.name.endswith(shards.INDEX):
        first_bytes(path, where)
        content: Any = shards.read(
            path, where, lambda file, name: _numbers_of(_content(file, name), source, name)
        )
    else:
        content = _content(path, where)
    state, further = chosen(content, source, where)
    numbers = without_prefixes(_checked(state, where))
    if source.part is not None and source.part != TOP:
        numbers = part_of(numbers, source.part, where=where, field=source.field)
    lines += further
    if COUNTER in numbers:
        lines.append("the weights are averaged ones (torch.optim.swa_utils.AveragedModel)")
    return Weights(state=numbers, lines=tuple(lines))


def under_names(state: Mapping[str, Tensor], wanted: Sequence[str], *, where: str) -> dict[str, Tensor]:
    """A state under a network's names, where only wrappers or a prefix tell them apart.

    Raises:
        LandscapeError: It holds the network more than once.
    """
    return aligned(state, wanted, wanted, {}, where=where)


def read_content(path: str | os.PathLike[str]) -> Any:
    """Read all that a file of torch.save holds, without running code from it.

    Returns:
        Tensors on the CPU, numbers, texts and their containers, with an `Unread` for every other object, and an empty array
        for one of numpy that holds no numbers. The tensors are the file itself, mapped into memory, and not a copy: what a
        file claims to hold is then never more than what it does hold.

    Raises:
        LandscapeError: The file is absent, damaged, of another kind, would run code when loaded, is nested too deeply, or
            stands for more values than its own bytes and 512 MiB account for.
    """
    where = os.fspath(path)
    if Path(path).is_dir():
        raise LandscapeError(f"{where}: is a folder; expected a checkpoint of torch.save")
    refuse_foreign(Path(path), first_bytes(Path(path), where), where)
    return _pickled(Path(path), where)


def check_harmless(path: str | os.PathLike[str]) -> None:
    """Refuse a file of torch.save from which another reader could run code: it may hold values and tensors alone.

    Raises:
        LandscapeError: As `read_content`, or it holds another object, or no state dictionary.
    """
    where = os.fspath(path)
    first_bytes(Path(path), where)
    state, _ = chosen(_pickled(Path(path), where, is_strict=True), Source(path=where), where)
    _checked(state, where)


def _content(path: Path, where: str) -> Any:
    """All that a file of any kind holds."""
    first = first_bytes(path, where)
    if path.name.endswith(_SAFETENSORS) or _begins_as_safetensors(first):
        return _of_library(path, where)
    refuse_foreign(path, first, where)
    if first.startswith(files.ZIP) and arrays.is_archive_of_arrays(path):
        return arrays.read(path, where)
    return _pickled(path, where)


def _of_library(path: Path, where: str) -> dict[str, Tensor]:
    try:
        return safetensors_file.read(path, where)
    except OSError as error:
        raise LandscapeError(f"{where}: cannot be read ({error.strerror or error})") from error


def _begins_as_safetensors(first: bytes) -> bool:
    """Whether the length of a header comes first, and a brace: links into a cache have no ending."""
    return len(first) > 9 and first[8:10] in (b'{"', b"{ ") and first[5:8] == bytes(3)


def _pickled(path: Path, where: str, *, is_strict: bool = False) -> Any:
    try:
        return files.read(path, where, is_strict=is_strict)
    except LandscapeError:
        raise
    except ForeignError as error:
        raise LandscapeError(_foreign(where, error.name)) from error
    # Depending on where a file ends, or what else it is, almost anything comes out.
    except Exception as error:
        cause = one_line(error) if isinstance(error, DamagedError) else reason(error)
        raise LandscapeError(
            f"{where}: is not a checkpoint of torch.save, or it is damaged ({cause})"
        ) from error


def _numbers_of(content: Any, source: Source, where: str) -> dict[str, Tensor]:
    state, _ = chosen(content, Source(path=where, field=source.field), where)
    return _checked(state, where)


def _checked(state: Mapping[str, Any], where: str) -> dict[str, Tensor]:
    """The tensors of a state dictionary; extra state is left out."""
    for name, value in state.items():
        kind = value.kind if isinstance(value, Unread) else ""
        if isinstance(value, Tensor) and value.dtype not in _NUMBERS:
            kind = str(value.dtype)
        if kind and not name.endswith("_extra_state"):
            raise LandscapeError(
                f"{where}: {shown(name[:100])} is {kind}; expected a dense tensor of numbers"
            )
    # Detectron2's are arrays of numpy.
    tensors = {
        name: value if isinstance(value, Tensor) else array_of(value)
        for name, value in state.items()
        if not isinstance(value, Unread) and hasattr(value, "dtype")
    }
    return {name: value for name, value in tensors.items() if value.dtype in _NUMBERS}


def _foreign(where: str, name: str) -> str:
    named = f" ({name})" if re.fullmatch(r"[\w.]{1,200}", name) else ""
    if name.startswith("torch.nn."):
        return (
            f"{where}: holds Python objects{named}, a whole network, which is not loaded since it could run code; where its "
            f"classes are, save only the tensors: torch.save(model.state_dict(), path)"
        )
    if name == "torch.storage._load_from_bytes":
        return f"{where}: is a pickle of tensors that pickle.dump wrote, which hold files of their own; write it by torch.save"
    return (
        f"{where}: holds Python objects{named}, which are not loaded since they could run code; "
        "save only the tensors: torch.save(model.state_dict(), path)"
    )
