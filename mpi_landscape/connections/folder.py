"""The folder beside a path's file: how far the search has come, and the checkpoints of the path.

path.pt              the path, in full precision, and while it is sought all that the search goes on from
pivot_000.pt, ...    parameters and buffers of its start, its bends or pivots, and its end
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mpi_landscape.errors import LandscapeError
from mpi_landscape.problem.checkpoints import read_content
from mpi_landscape.storage import identity
from mpi_landscape.storage.checkpoints import keep_whole
from mpi_landscape.storage.places import remove_abandoned

PATH = "path.pt"
# Of a checkpoint: what tells its path from others.
_OF = "path"
_ADVICE = "choose another output, or --overwrite to seek the path again"


def folder_of(output: Path) -> Path:
    """Where the checkpoints of a path go.

    Example:
        >>> folder_of(Path("runs/two/connection.h5")).as_posix()
        'runs/two/connection'
    """
    return output.with_suffix("") if output.suffix else output.with_name(f"{output.name}_path")


def pivot_file(folder: Path, number: int) -> Path:
    """The checkpoint of a control of the path, 0 for its start.

    Example:
        >>> pivot_file(Path("runs"), 7).as_posix()
        'runs/pivot_007.pt'
    """
    return folder / f"pivot_{number:03d}.pt"


def make(folder: Path) -> None:
    """Make the folder, and take away what killed jobs left half made.

    Raises:
        LandscapeError: It cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LandscapeError(f"{folder}: cannot be made: {error.strerror}; choose another output") from error
    for path in [folder / PATH, *folder.glob("pivot_*.pt")]:
        remove_abandoned(path)


def clear(folder: Path) -> None:
    """Remove what a search left in a folder, and nothing else."""
    for path in [*folder.glob("pivot_*.pt"), folder / PATH]:
        path.unlink(missing_ok=True)


def keep_path(folder: Path, content: Mapping[str, Any], defined_by: Mapping[str, str]) -> None:
    """Write how far a search has come, whole or not at all.

    Raises:
        LandscapeError: It cannot be written.
    """
    whole = {**content, **identity.as_attributes(defined_by)}
    keep_whole(folder / PATH, partial(torch.save, whole))


def read_path(folder: Path, defined_by: Mapping[str, str]) -> dict[str, Any] | None:
    """What `keep_path` wrote, of this very search; None where there is nothing.

    Raises:
        LandscapeError: It is damaged, or another search's.
    """
    path = folder / PATH
    if not path.exists():
        return None
    try:
        content = read_content(path)
    except LandscapeError as error:
        raise LandscapeError(f"{error}; {_ADVICE}") from error
    if not isinstance(content, dict) or not isinstance(content.get("step"), int):
        raise LandscapeError(f"{path}: is not the state of a path; {_ADVICE}")
    identity.check_same(path, content, defined_by, advice=_ADVICE)
    # The tensors are the file itself, which is replaced before long.
    return {name: value.clone() if isinstance(value, Tensor) else value for name, value in content.items()}


def keep_pivot(path: Path, state: Mapping[str, Tensor], of: str) -> None:
    """Write a checkpoint that `model.checkpoint` takes.

    Args:
        path: Where.
        state: Parameters and buffers by name.
        of: What tells the path that it is of from others.

    Raises:
        LandscapeError: It cannot be written.
    """
    plain = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    keep_whole(path, partial(torch.save, {"state_dict": plain, _OF: of}))


def has_pivot(path: Path, of: str) -> bool:
    """Whether `keep_pivot` has written this very checkpoint; another one is to be replaced."""
    try:
        content = read_content(path)
    except LandscapeError:
        return False
    return isinstance(content, dict) and content.get(_OF) == of


def decided_batch(folder: Path) -> int | None:
    """The size of the batches in which an earlier start would have evaluated; None where it does not say."""
    try:
        content = read_content(folder / PATH)
    except LandscapeError:
        return None
    size = content.get("batch_size") if isinstance(content, dict) else None
    return size if isinstance(size, int) and size > 0 else None
