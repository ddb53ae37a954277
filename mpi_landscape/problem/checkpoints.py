"""Trained parameters from a file of any program into a network, without running code from the file."""

import itertools
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from mpi_landscape.errors import LandscapeError
from mpi_landscape.problem.pickled import files
from mpi_landscape.problem.pickled.room import DamagedError, ForeignError, NewerProtocolError
from mpi_landscape.problem.pickled.tensors import Unread
from mpi_landscape.wording import listed, one_line, reason, shortened, shown

# Where training scripts keep the parameters: the code of Li et al., Lightning, timm, fairseq, tutorials.
_WRAPPERS = ("state_dict", "model_state_dict", "model_state", "model", "net", "network", "weights", "params")
# One inside another: a checkpoint of a checkpoint is known, more is not.
_MOST_WRAPPERS = 3
_PREFIXES = ("module.", "_orig_mod.")
_MOST_PREFIXES = 9
_MOST_NAMED = 3
_NUMBERS = frozenset(
    getattr(torch, name)
    for name in (
        *("float16", "bfloat16", "float32", "float64", "bool", "uint8", "int8", "int16", "int32", "int64"),
        *("complex64", "complex128"),
        *("float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz"),
    )
)


def read_state(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Read the parameters and buffers that a checkpoint holds.

    Args:
        path: File of torch.save: a state dictionary, or a mapping that holds one under a name of `_WRAPPERS`.

    Returns:
        CPU tensors by name, without the prefixes `module.` (DataParallel) and `_orig_mod.` (torch.compile).

    Raises:
        LandscapeError: The file is absent, damaged, of another kind, would run code when loaded, or
            holds no state dictionary, or one with tensors that are no dense tensors of numbers.
    """
    where = os.fspath(path)
    content = read_content(path)
    state = _found(content)
    if state is None:
        first = itertools.islice(content, 8) if isinstance(content, Mapping) else ()
        keys = [_key(key) for key in first]
        held = f"the keys {listed(keys)}" if keys else f"an object of type {type(content).__name__}"
        raise LandscapeError(
            f"{where}: has no state dictionary: it holds {held}; expected tensors by name, or a mapping that "
            f"holds them under one of {listed(_WRAPPERS)}"
        )
    for name, value in state.items():
        kind = value.kind if isinstance(value, Unread) else ""
        if isinstance(value, Tensor) and value.dtype not in _NUMBERS:
            kind = str(value.dtype)
        if kind:
            raise LandscapeError(
                f"{where}: {shown(name[:100])} is {kind}; expected a dense tensor of numbers"
            )
    return _without_prefixes({name: value for name, value in state.items() if isinstance(value, Tensor)})


def read_content(path: str | os.PathLike[str]) -> Any:
    """Read all that a file of torch.save holds, without running code from it.

    Returns:
        Tensors on the CPU, numbers, texts and their containers. The tensors are the file itself, mapped into memory, and
        not a copy: what a file claims to hold is then never more than what it does hold.

    Raises:
        LandscapeError: The file is absent, damaged, of another kind, would run code when loaded, is nested too deeply, or
            stands for more values than its own bytes and 512 MiB account for.
    """
    where = os.fspath(path)
    first = _first_bytes(Path(path), where)
    try:
        return files.read(Path(path), where)
    except LandscapeError:
        raise
    except ForeignError as error:
        raise LandscapeError(_foreign(where, error.name)) from error
    except NewerProtocolError as error:
        if first == files.ZIP:
            raise LandscapeError(
                f"{where}: is of a pickle protocol above 2, which is loaded only by what could run code; save it as torch.save "
                f"does by default, without pickle_protocol"
            ) from error
        raise LandscapeError(f"{where}: is not a checkpoint of torch.save, or it is damaged") from error
    # Depending on where a file ends, or what else it is, almost anything comes out.
    except Exception as error:
        cause = one_line(error) if isinstance(error, DamagedError) else reason(error)
        raise LandscapeError(
            f"{where}: is not a checkpoint of torch.save, or it is damaged ({cause})"
        ) from error


def load_state(model: nn.Module, state: Mapping[str, Tensor], *, where: str) -> None:
    """Copy a state dictionary into a network, all of it or, if anything differs, nothing.

    If one prefix in front of every name of the network is what the state has (as Lightning writes them:
    `model.conv1.weight`), what follows it is taken, and what has another prefix is left. The counters
    `num_batches_tracked`, which no evaluation reads, may be missing.

    Raises:
        LandscapeError: A tensor is missing, left over, of another shape, or complex for a real one; names the first three.
    """
    own = model.state_dict()
    # Extra state is not tensors, and is not read; see read_state.
    expected = {name: value for name, value in own.items() if isinstance(value, Tensor)}
    needed = [name for name in expected if not name.endswith("num_batches_tracked")]
    aligned = _aligned(state, needed, where)
    misfits = [f"{name} is missing" for name in needed if name not in aligned]
    misfits += [f"{shortened(name, 80)} is not in the network" for name in aligned if name not in expected]
    misfits += [
        f"{name} has shape {tuple(value.shape)}, the network's {tuple(expected[name].shape)}"
        for name, value in aligned.items()
        if name in expected and not is_lazy(expected[name]) and value.shape != expected[name].shape
    ]
    misfits += [
        f"{name} is complex, the network's real"
        for name, value in aligned.items()
        if name in expected and value.is_complex() and not expected[name].is_complex()
    ]
    if misfits:
        more = f"; … and {len(misfits) - _MOST_NAMED} more" if len(misfits) > _MOST_NAMED else ""
        raise LandscapeError(
            f"{where}: does not fit the network: {'; '.join(misfits[:_MOST_NAMED])}{more}; "
            "expected the checkpoint of the same architecture"
        )
    try:
        model.load_state_dict({**own, **aligned})
    except Exception as error:  # A user's network may load its state in its own way.
        raise LandscapeError(f"{where}: the network refuses it ({reason(error)})") from error


def _first_bytes(path: Path, where: str) -> bytes:
    if path.is_dir():
        raise LandscapeError(f"{where}: is a folder; expected a checkpoint of torch.save")
    if not path.exists():
        raise LandscapeError(f"{where}: no such checkpoint (working folder {Path.cwd()})")
    if not path.is_file():
        raise LandscapeError(f"{where}: is not a regular file; expected a checkpoint of torch.save")
    if path.suffix == ".safetensors":
        raise LandscapeError(f"{where}: is of the kind safetensors; convert it to a checkpoint of torch.save")
    try:
        with path.open("rb") as file:
            first = file.read(len(files.ZIP))
    except OSError as error:
        raise LandscapeError(f"{where}: cannot be read ({error.strerror or error})") from error
    if not first:
        raise LandscapeError(f"{where}: is empty; expected a checkpoint of torch.save")
    return first


def _foreign(where: str, name: str) -> str:
    named = f" ({name})" if re.fullmatch(r"[\w.]{1,200}", name) else ""
    return (
        f"{where}: holds Python objects{named}, which are not loaded since they could run code; "
        "save only the tensors: torch.save(model.state_dict(), path)"
    )


def _found(content: Any, depth: int = 0, seen: dict[int, int] | None = None) -> Mapping[str, Any] | None:
    seen = {} if seen is None else seen
    # One mapping may be held under many names, in which it would be looked through again and again.
    if (
        not isinstance(content, Mapping)
        or depth > _MOST_WRAPPERS
        or seen.get(id(content), depth + 1) <= depth
    ):
        return None
    seen[id(content)] = depth
    if content and all(isinstance(name, str) for name in content):
        values = [value for name, value in content.items() if not name.endswith("_extra_state")]
        if values and all(isinstance(value, (Tensor, Unread)) for value in values):
            return content
    inner = (_found(content[name], depth + 1, seen) for name in _WRAPPERS if name in content)
    return next((state for state in inner if state is not None), None)


def _key(key: Any) -> str:
    """A key for messages; the text of a tuple may be a thousand times as long as the file."""
    is_plain = key is None or isinstance(key, (str, int, float))
    return shortened(str(key) if is_plain else f"a {type(key).__name__}", 40)


def _without_prefixes(state: dict[str, Tensor]) -> dict[str, Tensor]:
    # One network may have been wrapped several times; only a prefix of all names is one of a wrapper.
    for _ in range(_MOST_PREFIXES):
        prefix = next((each for each in _PREFIXES if all(name.startswith(each) for name in state)), "")
        state = {name.removeprefix(prefix): value for name, value in state.items()} if prefix else state
    return state


def _aligned(state: Mapping[str, Tensor], needed: Sequence[str], where: str) -> dict[str, Tensor]:
    """A state without the prefix that keeps its names from being those of the network."""
    if not needed or any(name in state for name in needed):
        return dict(state)
    candidates = [name.removesuffix(needed[0]) for name in state if name.endswith(f".{needed[0]}")]
    fitting = [prefix for prefix in candidates if all(prefix + name in state for name in needed)]
    if len(fitting) > 1:
        raise LandscapeError(
            f"{where}: holds the network more than once, under {listed(fitting)}; save one of them by itself"
        )
    if not fitting:
        # The network itself has an attribute "module", which read_state took for a wrapper.
        wrapped = [each for each in _PREFIXES if all(name.removeprefix(each) in state for name in needed)]
        return {wrapped[0] + name: value for name, value in state.items()} if wrapped else dict(state)
    return {
        name.removeprefix(fitting[0]): value for name, value in state.items() if name.startswith(fitting[0])
    }
