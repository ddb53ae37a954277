"""Reading a trajectory file, finished or not, without torch and without MPI."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from mpi_landscape.errors import LandscapeError, printable
from mpi_landscape.storage import files, identity
from mpi_landscape.storage.cells import DONE
from mpi_landscape.storage.item_file import (
    open_item_file,
    read_item_attributes,
    read_results,
    read_variable,
)
from mpi_landscape.storage.soundness import damage_named, holds
from mpi_landscape.storage.surface.ending import Ended
from mpi_landscape.storage.texts import attribute, plain
from mpi_landscape.storage.trajectory.value import Trajectory

KIND, WHAT = "trajectory", "a trajectory file"
_VECTORS = {"center": "center", "alpha": "direction_alpha", "beta": "direction_beta"}


def is_trajectory(path: str | Path) -> bool:
    """Whether a file is one of trajectories by its content; False for one that cannot be opened."""
    return files.kind_of(path) == KIND


@contextmanager
def _reading(path: str | Path) -> Iterator[h5py.File]:
    with damage_named(Path(path)), open_item_file(Path(path), "r", kind=KIND, what=WHAT) as file:
        yield file


def read_attributes(path: str | Path) -> dict[str, Any]:
    """What a file says of itself, letter by letter."""
    with _reading(path) as file:
        return read_item_attributes(Path(path), file)


def read_trajectory(path: str | Path) -> Trajectory:
    """The trajectories in a file, also while it is being written.

    Args:
        path: A file of `mpi_landscape.trajectory`.

    Raises:
        LandscapeError: No such file, or not one of ours.
    """
    place = Path(path)
    with _reading(path) as file:
        attributes = read_item_attributes(place, file)
        # Results that a writer adds meanwhile are then not yet shown as done.
        done = file["items/status"][...] == DONE
        count = (len(done),)
        fixed: dict[str, Any] = {
            name: read_variable(place, file, f"trajectory/{name}", count, kind)
            for name, kind in (
                ("epoch", "i8"),
                ("index", "i8"),
                ("alpha", "f8"),
                ("beta", "f8"),
                ("distance", "f8"),
                ("from_center", "f8"),
                ("learning_rate", "f8"),
                ("path", "O"),
            )
        }
        names = read_variable(place, file, "trajectory/name", (None,), "O")
        if not len(names) or not ((fixed["index"] >= 0) & (fixed["index"] < len(names))).all():
            raise LandscapeError(f"{path}: is damaged: its checkpoints belong to no trajectory")
        variation = (
            read_variable(place, file, "trajectory/variation", (None,), "f8")
            if holds(file, "trajectory/variation")
            else None
        )
        results = read_results(file)
        units = {name: printable(plain(attribute(file[name], "units")) or "") for name in results}
    own = identity.of_attributes(attributes)
    return Trajectory(
        path=str(path),
        names=tuple(map(printable, names)),
        checkpoints=tuple(map(printable, fixed.pop("path"))),
        **fixed,
        values={name.removeprefix("trajectory/"): value for name, value in results.items()},
        units={name.removeprefix("trajectory/"): value for name, value in units.items()},
        done=done,
        variation=variation,
        fingerprints={name: own.get(known, "") for name, known in _VECTORS.items()},
        attributes=files.readable(attributes),
        ending=Ended.FINISHED if done.all() else Ended.UNFINISHED,
    )


def read_vector(path: str | Path, name: str) -> tuple[NDArray[np.float32], list[str]]:
    """One flat vector of a file (`center`, `alpha` or `beta`) and the names of its tensors.

    Raises:
        LandscapeError: There is no such vector, or it is damaged.
    """
    place = Path(path)
    with _reading(path) as file:
        if name not in _VECTORS:
            raise LandscapeError(f"{path}: holds no direction {name!r}; it has {', '.join(_VECTORS)}")
        vector: NDArray[np.float32] = read_variable(place, file, f"directions/{name}", (None,), "f4")
        known = identity.of_attributes(files.read_attributes(file)).get(_VECTORS[name])
        names = read_variable(place, file, "directions/tensor_name", (None,), "O")
    if known is None or identity.fingerprint(vector) != known:
        raise LandscapeError(
            f"{path}: directions/{name} is damaged, its values are not those that the file was made with; use another copy of "
            f"the file, or --overwrite to compute it anew"
        )
    return vector, names


def read_names(path: str | Path) -> list[str]:
    """The names of the tensors in the order of the flat vectors."""
    with _reading(path) as file:
        found: list[str] = read_variable(Path(path), file, "directions/tensor_name", (None,), "O")
    return found
