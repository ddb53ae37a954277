"""Trained parameters from a file of any program into a network, without running code from the file."""

import argparse
import collections
import itertools
import os
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from mpi_landscape.errors import LandscapeError
from mpi_landscape.wording import listed, reason, shortened, shown

# Where training scripts keep the parameters: the code of Li et al., Lightning, timm, fairseq, tutorials.
_WRAPPERS = ("state_dict", "model_state_dict", "model_state", "model", "net", "network", "weights", "params")
# One inside another: a checkpoint of a checkpoint is known, more is not.
_MOST_WRAPPERS = 3
_PREFIXES = ("module.", "_orig_mod.")
_MOST_NAMED = 3
_ZIP = b"PK\x03\x04"
_FRAME = pickle.FRAME[0]  # protocols of 4 and above begin with it
# Of numpy's arrays and numbers; u4 is that of its random state.
_ARRAYS = ("f2", "f4", "f8", "c8", "c16", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?")
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
        keys = [shortened(str(key), 40) for key in first]
        held = f"the keys {listed(keys)}" if keys else f"an object of type {type(content).__name__}"
        raise LandscapeError(
            f"{where}: has no state dictionary: it holds {held}; expected tensors by name, or a mapping that "
            f"holds them under one of {listed(_WRAPPERS)}"
        )
    tensors = {name: value for name, value in state.items() if isinstance(value, Tensor)}
    for name, value in tensors.items():
        if value.is_meta or value.layout != torch.strided or value.is_nested or value.dtype not in _NUMBERS:
            kind = "without values" if value.is_meta else f"{value.layout}, {value.dtype}"
            raise LandscapeError(f"{where}: {shown(name)} is {kind}; expected a dense tensor of numbers")
    return _without_prefixes(tensors)


def read_content(path: str | os.PathLike[str]) -> Any:
    """Read all that a file of torch.save holds, without running code from it.

    Returns:
        Tensors on the CPU, numbers, texts and their containers. The tensors of a zip archive are the file itself, mapped
        into memory, and not a copy: what an archive claims to hold is then never more than what it does hold.

    Raises:
        LandscapeError: The file is absent, damaged, of another kind, or would run code when loaded.
    """
    where = os.fspath(path)
    return _unpickled(Path(path), where, is_zip=_first_bytes(Path(path), where) == _ZIP)


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
            first = file.read(len(_ZIP))
    except OSError as error:
        raise LandscapeError(f"{where}: cannot be read ({error.strerror or error})") from error
    if not first:
        raise LandscapeError(f"{where}: is empty; expected a checkpoint of torch.save")
    return first


def _unpickled(path: Path, where: str, *, is_zip: bool) -> Any:
    try:
        if is_zip:
            _refuse_compressed(path, where)
        with warnings.catch_warnings(), torch.serialization.safe_globals(_harmless()):
            # Torch comments on files that are refused below all the same.
            warnings.simplefilter("ignore")
            # Mapped, the length of a tensor is held against the file; read, torch.load believes the archive and takes
            # what lies behind the tensor in memory.
            return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except LandscapeError:
        raise
    except pickle.UnpicklingError as error:
        said = str(error)
        if "Unsupported global" in said or "GLOBAL" in said or "Can only" in said:
            kind = re.search(r"GLOBAL ([\w.]+)|but got <class '([\w.]+)'>", said)
            named = f" ({kind[1] or kind[2]})" if kind else ""
            raise LandscapeError(
                f"{where}: holds Python objects{named}, which are not loaded since they could run code; "
                "save only the tensors: torch.save(model.state_dict(), path)"
            ) from error
        if is_zip and f"Unsupported operand {_FRAME}" in said:
            raise LandscapeError(
                f"{where}: is of a pickle protocol above 2, which is loaded only by what could run code; save it as torch.save "
                f"does by default, without pickle_protocol"
            ) from error
        raise LandscapeError(f"{where}: is not a checkpoint of torch.save, or it is damaged") from error
    # Depending on where a file ends, or what else it is, torch.load lets almost anything out.
    except Exception as error:
        if "TorchScript" in str(error):
            raise LandscapeError(
                f"{where}: is a TorchScript archive; expected torch.save(model.state_dict(), path)"
            ) from error
        # The first sentence; torch adds advice that does not apply.
        cause = reason(error).partition(". ")[0]
        raise LandscapeError(
            f"{where}: is not a checkpoint of torch.save, or it is damaged ({cause})"
        ) from error


def _refuse_compressed(path: Path, where: str) -> None:
    """torch.save stores; what is compressed may be a thousand times as large as the file."""
    with zipfile.ZipFile(path) as archive:
        parts = archive.infolist()
    # TorchScript compresses its code, and is refused by torch.load before any of it is read.
    is_script = any(each.filename.endswith("constants.pkl") for each in parts)
    compressed = next((each for each in parts if each.compress_type != zipfile.ZIP_STORED), None)
    if compressed is not None and not is_script:
        raise LandscapeError(
            f"{where}: {shown(compressed.filename)} in it is compressed; expected a checkpoint as torch.save leaves it"
        )


def _harmless() -> list[Any]:
    """Types that training scripts keep beside the parameters, and that only hold values."""
    scalar: Any = np.float64(0).__reduce__()[0]
    rebuilt: Any = np.zeros(1).__reduce__()[0]
    types = [type(np.dtype(kind)) for kind in _ARRAYS]
    # numpy 2 moved its core; a checkpoint names the place of the numpy that wrote it.
    moved = [
        (function, f"numpy.{core}.multiarray.{function.__name__}")
        for function in (scalar, rebuilt)
        for core in ("core", "_core")
    ]
    return [*moved, np.dtype, np.ndarray, *types, argparse.Namespace, collections.defaultdict]


def _found(content: Any, depth: int = 0) -> Mapping[str, Any] | None:
    # A mapping may hold itself.
    if not isinstance(content, Mapping) or depth > _MOST_WRAPPERS:
        return None
    if content and all(isinstance(name, str) for name in content):
        values = [value for name, value in content.items() if not name.endswith("_extra_state")]
        if values and all(isinstance(value, Tensor) for value in values):
            return content
    inner = (_found(content[name], depth + 1) for name in _WRAPPERS if name in content)
    return next((state for state in inner if state is not None), None)


def _without_prefixes(state: dict[str, Tensor]) -> dict[str, Tensor]:
    # One network may have been wrapped several times; only a prefix of all names is one of a wrapper.
    prefix = next((each for each in _PREFIXES if all(name.startswith(each) for name in state)), None)
    if prefix is None:
        return state
    return _without_prefixes({name.removeprefix(prefix): value for name, value in state.items()})


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
