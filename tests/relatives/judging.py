"""Runs a case, and compares what it gives with the right values.

Right is what the user's own network gives, built anew for every point, moved in place, in one thread, the loss called on the data
in order: a loop that shares nothing with the program but the file's directions.
"""

from __future__ import annotations

import contextlib
import io
import os
import random
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import default_collate

import mpi_landscape
from mpi_landscape.errors import LandscapeError
from tests.relatives.case import Asked, Case

# Relative, of a value or of the mean of all where that is larger.
TOLERANCE = 1e-5
# In another size than the program's.
BATCH = 20
_GRID = {"alpha": (-1, 1.2, 5), "beta": (-0.6, 1, 3)}
_COMPUTE = {"threads": 2, "batch_size": 16, "device": "cpu"}
_NAMED = {
    "cross_entropy": lambda outputs, targets: F.cross_entropy(outputs, targets.long(), reduction="none"),
    "mse": lambda outputs, targets: (outputs - targets.reshape(outputs.shape)).square().flatten(1).mean(1),
    "hinge": lambda outputs, targets: F.multi_margin_loss(outputs, targets.long(), reduction="none"),
    "nll": lambda outputs, targets: F.nll_loss(outputs, targets.long(), reduction="none"),
}


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a case.

    Attributes:
        case: Which.
        found: `right`, `refused`, or `WRONG`.
        words: Of the refusal, or what is wrong.
        error: The largest one, relative; None without values.
        good: Whether it is what the case expects.
    """

    case: Case
    found: str
    words: str = ""
    error: float | None = None
    good: bool = True


def judge(case: Case, folder: Path, launcher: str | None = None) -> Outcome:
    """Run a case in an empty folder; those of several ranks by a launcher."""
    log = io.StringIO()
    try:
        if case.ranks > 1:
            refusal = _launched(case, folder, launcher)
            if refusal is not None:
                raise LandscapeError(refusal)
            asked = built(case, folder)
        else:
            with contextlib.redirect_stdout(log):
                asked = run(case, folder)
    except LandscapeError as error:
        return _refused(case, str(error).replace(f"{folder}/", ""))
    except Exception as error:  # what the case is there to find
        return _wrong(case, f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")
    said = case.says in log.getvalue()
    error, problem = compare(case, asked, folder, warned="warning" in log.getvalue())
    if problem is not None:
        return _wrong(case, problem, error)
    if not said:
        return _wrong(case, f"the log does not say {case.says!r}", error)
    if case.expected == "refused":
        return Outcome(case=case, found="WRONG", words="not refused", error=error, good=False)
    return Outcome(case=case, found="right", words=f"says {case.says!r}" if case.says else "", error=error)


def _wrong(case: Case, words: str, error: float | None = None) -> Outcome:
    return Outcome(case=case, found="WRONG", words=words, error=error, good=False)


def _refused(case: Case, words: str) -> Outcome:
    if "\n" in words or len(words) > 1000:
        return _wrong(case, f"not one line: {words[:200]!r}")
    good = case.expected != "right" and (case.says in words or case.expected == "either")
    return Outcome(case=case, found="refused", words=words, good=good)


def built(case: Case, folder: Path) -> Asked:
    """The case's problem, the same every time."""
    torch.manual_seed(0)
    np.random.seed(0)
    random.seed(0)
    return case.build(folder)


def run(case: Case, folder: Path) -> Asked:
    """Compute the case's surface, and say what was asked for."""
    asked = built(case, folder)
    before = state_of(asked.net)
    call(asked, folder)
    after = state_of(asked.net)
    changed = [name for name, value in before.items() if not _same(value, after[name])]
    if changed:
        raise AssertionError(f"the caller's network was changed: {changed[0]}")
    if asked.again is not None:
        call(asked.again, folder)
    return asked


def call(asked: Asked, folder: Path) -> None:
    """Call `landscape()` with a case's problem."""
    options: dict[str, Any] = {**_GRID, **asked.options}
    compute = {**_COMPUTE, **options.pop("compute", {})}
    with asked.around():
        mpi_landscape.landscape(
            asked.net, asked.loss, asked.data, output=folder / "surface.h5", compute=compute, **options
        )


def state_of(net: Any) -> dict[str, Tensor]:
    """Parameters and buffers, copied."""
    if not isinstance(net, nn.Module):
        return {}
    tensors = {**dict(net.named_parameters()), **dict(net.named_buffers())}
    return {
        name: each.detach().clone() for name, each in tensors.items() if not torch.nn.parameter.is_lazy(each)
    }


def _same(first: Tensor, second: Tensor) -> bool:
    if first.dtype != second.dtype or first.shape != second.shape:
        return False
    return bool(torch.equal(first, second)) or bool(
        ((first == second) | ((first != first) & (second != second))).all()
    )


def compare(case: Case, asked: Asked, folder: Path, *, warned: bool) -> tuple[float, str | None]:
    """The largest error of a file's values, and what is wrong, in words."""
    with h5py.File(folder / "surface.h5") as file:
        splits = [name.removesuffix("_loss") for name in file if name.endswith("_loss")]
        splits = [name for name in splits if isinstance(file[f"{name}_loss"], h5py.Dataset)]
        found = {split: np.atleast_1d(file[f"{split}_loss"][...]) for split in splits}
        axes = [file[name][...] for name in ("alpha", "beta") if name in file]
        problem = asked.holds(file) if asked.holds is not None else None
        if problem is not None:
            return float("nan"), problem
        wanted = {split: np.zeros(values.shape) for split, values in found.items()}
        for place in np.ndindex(*[len(axis) for axis in axes]):
            point = [float(axis[i]) for axis, i in zip(axes, place, strict=True)]
            for split, value in right_at(case, folder, file, point).items():
                wanted[split][place] = value
    error = max(relative(found[split], wanted[split]) for split in found)
    if not error <= TOLERANCE:
        split = max(found, key=lambda each: relative(found[each], wanted[each]))
        place = np.unravel_index(np.argmax(_errors(found[split], wanted[split])), found[split].shape)
        return (
            error,
            f"{found[split][place]:.9g} at {tuple(map(int, place))}, right is {wanted[split][place]:.9g}",
        )
    return error, None if warned else _ends(asked, found, axes)


def _ends(asked: Asked, found: Mapping[str, Any], axes: list[Any]) -> str | None:
    """Whether the values at coordinate 1 are those of the networks that lie there, where nothing was said."""
    for axis, net in asked.ends.items():
        coordinates = [1.0, 0.0] if axis == "alpha" else [0.0, 1.0]
        place = tuple(
            int(np.argmin(np.abs(each - wanted))) for each, wanted in zip(axes, coordinates, strict=False)
        )
        for split, data in splits_of(asked).items():
            right = mean_loss(asked, net.eval(), data)
            if abs(found[split][place] - right) > 1e-4 * abs(right):
                there = found[split][place]
                return (
                    f"the end of {axis} has the loss {right:.6g}, the surface {there:.6g}, and no word of it"
                )
    return None


def relative(found: Any, wanted: Any) -> float:
    """The largest error relative to a value, or to the mean of all."""
    return float(np.max(_errors(found, wanted)))


def _errors(found: Any, wanted: Any) -> Any:
    with np.errstate(invalid="ignore", over="ignore"):
        finite = np.abs(wanted[np.isfinite(wanted)])
        scale = np.maximum(np.abs(wanted), finite.mean() if finite.size else 0.0)
        gap = np.abs(found - wanted) / np.maximum(scale, 1e-30)
    same = (found == wanted) | (np.isnan(found) & np.isnan(wanted))
    return np.where(same, 0.0, np.where(np.isfinite(gap), gap, np.inf))


def right_at(case: Case, folder: Path, file: h5py.File, point: list[float]) -> dict[str, float]:
    """The mean loss of every split at a point, by a network of its own."""
    asked = built(case, folder)
    if asked.net.training:
        asked.net.eval()
    if any(each.dtype.itemsize < 4 and each.is_floating_point() for each in asked.net.parameters()):
        asked.net.float()
    move(asked.net, file, point)
    with asked.around() if asked.within else contextlib.nullcontext():
        return {split: mean_loss(asked, asked.net, data) for split, data in splits_of(asked).items()}


def move(net: nn.Module, file: h5py.File, point: list[float]) -> None:
    """Write θ* + αδ + βη into the parameters that the network has."""
    tensors = {**dict(net.named_buffers()), **dict(net.named_parameters())}
    rows = [file[f"directions/{name}"][...] for name in ("alpha", "beta") if f"directions/{name}" in file]
    names = [
        name.decode() if isinstance(name, bytes) else name for name in file["directions/tensor_name"][...]
    ]
    for name, start in zip(names, file["directions/tensor_offset"][...], strict=True):
        tensor = tensors[name].detach()
        numbers = torch.view_as_real(tensor) if tensor.is_complex() else tensor
        stop = start + numbers.numel()
        value = numbers.clone()
        for coordinate, row in zip(point, rows, strict=True):
            if coordinate:
                step = torch.from_numpy(row[start:stop]).reshape(numbers.shape).to(numbers.dtype)
                value = value + coordinate * step
        with torch.no_grad():
            tensors[name].copy_(torch.view_as_complex(value) if tensor.is_complex() else value)


def splits_of(asked: Asked) -> dict[str, Any]:
    return dict(asked.data) if isinstance(asked.data, Mapping) else {"train": asked.data}


def mean_loss(asked: Asked, net: nn.Module, data: Any) -> float:
    """The loss called on the data in order."""
    if asked.mean is not None:
        return asked.mean(net)
    losses = []
    for start in range(0, len(data), BATCH):
        batch = default_collate([data[i] for i in range(start, min(start + BATCH, len(data)))])
        if isinstance(asked.loss, str):
            inputs, targets = (batch["input"], batch["target"]) if isinstance(batch, dict) else batch
            with torch.no_grad():
                found = _NAMED[asked.loss](net(inputs), targets)
        else:
            found = asked.loss(net, batch)
        found = found["loss"] if isinstance(found, Mapping) else found
        losses.append(found.detach().double())
    return float(torch.cat(losses).mean())


def _launched(case: Case, folder: Path, launcher: str | None) -> str | None:
    """Run a case on several ranks; its refusal, or None."""
    assert launcher is not None
    house = str(Path(mpi_landscape.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": house, "OMP_NUM_THREADS": "1"}
    words = [
        launcher,
        "-n",
        str(case.ranks),
        sys.executable,
        "-m",
        "tests.relatives.ranks",
        case.name,
        str(folder),
    ]
    done = subprocess.run(words, cwd=house, env=environment, capture_output=True, text=True, timeout=300)
    for line in done.stdout.splitlines():
        if line.startswith("REFUSED "):
            return line.removeprefix("REFUSED ")
    if done.returncode:
        raise RuntimeError(f"exit status {done.returncode}: {done.stderr.strip()[-300:]}")
    return None
