"""The history of a training: loss, accuracy, learning rate and weight norm after every epoch.

One row per epoch, row 0 for the network before the first step. Made whole with nothing done in it, written in place and
flushed per epoch: killed at any instant it opens, and each row is there entirely or not at all. Readable as netCDF-4
with `epoch` as coordinate. Needs neither torch nor MPI.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from mpi_landscape.errors import LandscapeError
from mpi_landscape.storage import files
from mpi_landscape.storage.dimensions import Dimensions
from mpi_landscape.storage.held import Held
from mpi_landscape.storage.soundness import (
    Shape,
    check_datasets,
    check_names,
    damage_named,
    text,
    whole_numbers,
)
from mpi_landscape.storage.texts import stored

SCHEMA = 1
KIND = "history"
NOT_DONE = -1
# Name to unit and meaning. The unit is `s` because xarray turns what is in `seconds` into time differences.
_OF_THE_EPOCH = {
    "learning_rate": ("1", "learning rate of the epoch, 0 before the first"),
    "weight_norm": ("1", "Euclidean norm of all parameters after the epoch"),
    "seconds": ("s", "duration of the epoch"),
}


@dataclass(frozen=True, kw_only=True)
class History:
    """A training as it lies in a file, finished or not.

    Attributes:
        path: Where it was read from.
        epoch: (n,) int64: 0 for the initial network, then 1, 2, ...
        phase: (n,) int64: which phase of the recipe the epoch belongs to, from 0; -1 where not done.
        values: Quantity name (`learning_rate`, `weight_norm`, `seconds`, `train_loss`, `train_accuracy`, ...) to
            (n,) float64: losses in nats per example, accuracies as fractions, NaN where not done or not known.
        done: (n,) bool.
        attributes: Everything else the file says of itself.
        splits: Names of the splits, in the order of the file.
    """

    path: str
    epoch: NDArray[np.int64]
    phase: NDArray[np.int64]
    values: Mapping[str, NDArray[np.float64]]
    done: NDArray[np.bool_]
    attributes: Mapping[str, Any]
    splits: tuple[str, ...]


def quantities(splits: Sequence[str]) -> list[str]:
    """The names of what is known of an epoch, in the order of the file."""
    return [*_OF_THE_EPOCH, *(f"{split}_{kind}" for split in splits for kind in ("loss", "accuracy"))]


def create_history(
    path: Path,
    *,
    num_epochs: int,
    splits: Sequence[str],
    attributes: Mapping[str, str | int | float],
    loss_units: str = "nats per example",
    rows: Mapping[str, NDArray[Any]] | None = None,
    advice: str = "choose another training.output",
) -> None:
    """Write a complete history, with no epoch done in it unless rows are given, and move it into place.

    Args:
        path: Where; an existing file is replaced.
        num_epochs: Of the whole training; there is one row more, for the initial network.
        splits: `train`, and any others that are looked at.
        attributes: Identity, provenance, configuration: texts and numbers by name.
        loss_units: Of the losses, such as "nats per token".
        rows: `phase` and all quantities by name: (num_epochs + 1,) each.
        advice: What a user may do when it cannot be written.

    Raises:
        LandscapeError: The folder cannot be written.
    """
    size = 8 * (num_epochs + 1) * (len(quantities(splits)) + 2)
    # Generous for what is small: attributes and the headers of datasets.
    size += sum(len(str(value)) for value in attributes.values()) + 2**16
    with files.appearing(path, size=size, advice=advice) as file:
        dimensions = Dimensions(file)
        dimensions.coordinate("epoch", np.arange(num_epochs + 1, dtype=np.int64), "epochs of training")
        _add(file, dimensions, "phase", np.dtype(np.int64), NOT_DONE, "1")
        for name in quantities(splits):
            units = loss_units if name.endswith("_loss") else "1"
            _add(file, dimensions, name, np.dtype(np.float64), np.nan, units)
        for name, column in (rows or {}).items():
            file[name][...] = column
        of_the_schema = {"kind": KIND, "schema": SCHEMA, "splits": ", ".join(splits)}
        files.write_attributes(file, {**attributes, **of_the_schema})


def _add(
    file: h5py.File, dimensions: Dimensions, name: str, dtype: np.dtype[Any], empty: Any, units: str
) -> None:
    """A dataset with one value per epoch, its unit and its meaning; those of the epoch itself have their own."""
    dataset = files.allocated(file, name, file["epoch"].shape, dtype, empty)
    dimensions.name(dataset, ("epoch",), "")
    usual = (units, name.replace("_", " "))
    dataset.attrs["units"], dataset.attrs["long_name"] = map(stored, _OF_THE_EPOCH.get(name, usual))


class HistoryWriter:
    """A history that can be written, epoch by epoch; a resource that is closed at the end of `with`.

    Args:
        path: A file of `create_history`.

    Raises:
        LandscapeError: It cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = _open(path, "r+")
        self._held = Held(path)
        self._names = quantities(_splits(self._file))

    def __enter__(self) -> HistoryWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._file.close()
        try:
            if kind is None:
                self._held.check()
        finally:
            self._held.close()

    def record(self, number: int, values: Mapping[str, float], *, phase: int) -> None:
        """Keep an epoch: its values, then the mark that it is done; what was there is replaced.

        Args:
            number: Of the epoch, 0 for the initial network.
            values: Some of the quantities by name; those left out are NaN.
            phase: Which phase of the recipe it belongs to, from 0.

        Raises:
            LandscapeError: There is no such row or quantity.
            LostFileError: Its name leads to another file, or to none.
        """
        self._check(number, values, phase)
        self._held.look()
        if self._file["phase"][number] != NOT_DONE:
            self._mark(number, number + 1, NOT_DONE)
        for name in self._names:
            self._file[name][number] = values.get(name, np.nan)
        # On disk before its mark is: neither a kill nor a lost machine leaves half a row that says it is whole.
        self._sync()
        self._mark(number, number + 1, phase)

    def forget_after(self, number: int) -> None:
        """Take back every epoch after one, because the training goes on from there."""
        rows = self._file["phase"].shape[0]
        if number + 1 >= rows:
            return
        self._mark(max(0, number + 1), rows, NOT_DONE)
        for name in self._names:
            self._file[name][max(0, number + 1) :] = np.nan
        self._sync()

    def _check(self, number: int, values: Mapping[str, float], phase: int) -> None:
        last = self._file["phase"].shape[0] - 1
        if not 0 <= number <= last:
            raise LandscapeError(f"{self._path}: has no epoch {number}; valid are 0 to {last}")
        if phase < 0:
            raise LandscapeError(f"{self._path}: phase {phase} of epoch {number} is negative; the first is 0")
        unknown = [name for name in values if name not in self._names]
        if unknown:
            raise LandscapeError(
                f"{self._path}: has no quantity {unknown[0]!r}; valid are {', '.join(self._names)}"
            )

    def _mark(self, start: int, stop: int, phase: int) -> None:
        self._file["phase"][start:stop] = phase
        self._sync()

    def _sync(self) -> None:
        # HDF5 keeps up to 64 kB of each dataset back until it is flushed.
        self._file.flush()
        os.fsync(self._file.id.get_vfd_handle())


def is_history(path: str | Path) -> bool:
    """Whether a file is a training history by its content; False for one that cannot be opened."""
    return files.kind_of(path) == KIND


def read_history(path: str | Path) -> History:
    """The history in a file, also while it is being written.

    Args:
        path: A file of `mpi_landscape.train`.

    Raises:
        LandscapeError: There is no such file, or it is no history.
    """
    with _open(Path(path), "r") as file, damage_named(Path(path)):
        splits = _splits(file)
        # The marks first: what is marked now has had its values before.
        phase = file["phase"][...]
        done = phase != NOT_DONE
        return History(
            path=str(path),
            epoch=file["epoch"][...],
            phase=phase,
            values={name: np.where(done, file[name][...], np.nan) for name in quantities(splits)},
            done=done,
            attributes=files.readable(files.read_attributes(file)),
            splits=splits,
        )


def _splits(file: h5py.File) -> tuple[str, ...]:
    path = Path(file.filename)
    return check_names(path, text(path, file, "splits"))


def _check(path: Path, file: h5py.File) -> None:
    """Refuse what is no history, or does not hold what it says."""
    if "kind" not in file.attrs or text(path, file, "kind") != KIND:
        raise LandscapeError(f"{path}: is a surface file, not a training history")
    schema = whole_numbers(path, file, "schema")
    if schema != [SCHEMA]:
        raise LandscapeError(
            f"{path}: has schema {', '.join(map(str, schema))}, this version reads and writes schema {SCHEMA}"
        )
    check_datasets(path, file, {"epoch": ((None,), "i8")})
    rows = file["epoch"].shape
    expected: dict[str, tuple[Shape, str]] = {"epoch": (rows, "i8"), "phase": (rows, "i8")}
    check_datasets(path, file, expected | dict.fromkeys(quantities(_splits(file)), (rows, "f8")))
    if not rows[0] or not np.array_equal(file["epoch"][...], np.arange(rows[0])):
        raise LandscapeError(f"{path}: is damaged: its epochs are not 0, 1, 2, ...")


def _open(path: Path, mode: str) -> h5py.File:
    """Open a history; refuses every other file in one line."""
    file = files.open_ours(path, mode, "a training history", advice="give a history.h5 of a training")
    try:
        with damage_named(path):
            _check(path, file)
    except LandscapeError:
        file.close()
        raise
    return file
