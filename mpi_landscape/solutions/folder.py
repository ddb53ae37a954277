"""The folder of one solution: its checkpoints, its history, and the state from which a training goes on.

configuration.yaml   everything that was said, defaults and bases resolved
history.h5           losses, accuracies, learning rate and weight norm of every epoch
epoch_0000.pt, ...   parameters and buffers, from the initial network on
phase_1.pt, ...      the same at the end of each phase, when there are several
final.pt             the same at the end; not there before
state.pt             network and optimizer in the middle; gone at the end
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal

from mpi_landscape.errors import LandscapeError
from mpi_landscape.storage import identity
from mpi_landscape.storage.checkpoints import HISTORY as HISTORY
from mpi_landscape.storage.checkpoints import keep_whole
from mpi_landscape.storage.history.records import read_history
from mpi_landscape.storage.lock import exclusive

CONFIGURATION, FINAL, STATE = "configuration.yaml", "final.pt", "state.pt"
_OURS = (CONFIGURATION, HISTORY, FINAL, STATE, "epoch_*.pt", "phase_*.pt")
_FACTS = {"threads": (1, 2**16), "piece_size": (0, 2**31 - 1), "channels_last": (0, 1)}
_ADVICE = "choose another training.output, or --overwrite to train again"

Standing = Literal["new", "begun", "complete"]


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Make a folder and keep every other training out of it.

    Raises:
        LandscapeError: Another training holds it, or it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LandscapeError(
            f"{folder}: cannot be made: {error.strerror}; choose another training.output"
        ) from error
    with exclusive(folder / "training"):
        for name in _OURS:  # patterns among them
            for abandoned in folder.glob(f".{name}.*.new"):
                abandoned.unlink(missing_ok=True)
        yield


def standing(folder: Path, now: Mapping[str, str]) -> Standing:
    """How far the training of this identity has come in a folder, which need not exist.

    Raises:
        LandscapeError: Another training is there, or checkpoints that belong to none.
    """
    history = folder / HISTORY
    if not history.exists():
        found = next((path for name in _OURS if name != CONFIGURATION for path in folder.glob(name)), None)
        if found is not None:
            raise LandscapeError(f"{found}: is there without a {HISTORY}; {_ADVICE}")
        return "new"
    identity.check_same(history, read_history(history).attributes, now, advice=_ADVICE)
    if (folder / FINAL).exists():
        return "complete"
    return "begun" if (folder / STATE).exists() else "new"


def clear(folder: Path) -> None:
    """Remove what a training left in a folder, and nothing else."""
    # The history last: without it, what is left would belong to no training.
    for name in sorted(_OURS, key=lambda each: each == HISTORY):
        for path in folder.glob(name):
            path.unlink()


def keep_network(path: Path, state: Mapping[str, Any], epoch: int) -> None:
    """Write a checkpoint: parameters and buffers by name."""
    # Without the channels-last strides of a training: other programs may look at raw memory.
    plain = {
        name: value.contiguous() if hasattr(value, "contiguous") else value for name, value in state.items()
    }
    keep(path, {"state_dict": plain, "epoch": epoch})


def keep(path: Path, content: Mapping[str, Any]) -> None:
    """Write a file of torch.save so that it is there whole or not at all.

    Raises:
        LandscapeError: It cannot be written.
    """
    import torch

    keep_whole(path, partial(torch.save, dict(content)))


def read_state(path: Path) -> dict[str, Any]:
    """What `keep` wrote.

    Raises:
        LandscapeError: It is damaged.
    """
    # Imports torch, which a training that is complete does not need.
    from mpi_landscape.problem.checkpoints import read_content

    try:
        content = read_content(path)
    except LandscapeError as error:
        raise LandscapeError(f"{error}; {_ADVICE}") from error
    if not isinstance(content, dict) or not all(isinstance(content.get(k), int) for k in ("epoch", "step")):
        raise LandscapeError(f"{path}: is not the state of a training; {_ADVICE}")
    return content


def read_facts(folder: Path) -> Mapping[str, Any]:
    """What an earlier start of a training decided, from its history, refused where it does not say it."""
    history = folder / HISTORY
    known = read_history(history).attributes
    for name, (least, most) in _FACTS.items():
        value = known.get(name)
        if not isinstance(value, int) or not least <= value <= most:
            raise LandscapeError(f"{history}: is damaged: its attribute {name} is {value!r}; {_ADVICE}")
    return known
