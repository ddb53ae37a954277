"""How far the training in a folder has come: its newest parameters, and those with which it began."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mpi_landscape.problem.checkpoints import read_content
from mpi_landscape.solutions import folder as files
from mpi_landscape.storage.history.records import History, read_history
from mpi_landscape.storage.identity import fingerprint, of_attributes

# In an identity: the parameters with which a training begins.
BEGINNING = "parameters"


def fingerprint_of(state: Mapping[str, Any]) -> str:
    """Of the tensors of a state dictionary, whatever their order."""
    return fingerprint(*(_bytes_of(each) for _, each in sorted(state.items()) if isinstance(each, Tensor)))


def _bytes_of(tensor: Tensor) -> Any:
    # numpy has no bfloat16.
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()


def beginning_of(folder: Path, now: str) -> str:
    """With what the training began that has led to the parameters of now; of a notebook, a cell is run again and again."""
    kept = newest(folder)
    if kept is None or not (folder / files.HISTORY).exists() or fingerprint_of(kept) != now:
        return now
    attributes = read_history(folder / files.HISTORY).attributes
    return of_attributes(attributes).get(BEGINNING, now)


def newest(folder: Path) -> dict[str, Tensor] | None:
    """Parameters and buffers at the end of a training, or as far as it has come; None where it has not begun."""
    if (folder / files.FINAL).exists():
        state = read_content(folder / files.FINAL)["state_dict"]
    elif (folder / files.STATE).exists():
        state = files.read_state(folder / files.STATE)["model"]
    else:
        return None
    return {name: value for name, value in state.items() if isinstance(value, Tensor)}


def history_of(folder: Path, splits: Sequence[str]) -> History:
    """What the folder has; without an epoch, where the training was stopped before it began."""
    path = folder / files.HISTORY
    if path.exists():
        return read_history(path)
    none = np.empty(0, dtype=np.int64)
    return History(
        path=str(path), epoch=none, phase=none, values={}, done=none.astype(bool), attributes={},
        splits=tuple(splits),
    )  # fmt: skip
