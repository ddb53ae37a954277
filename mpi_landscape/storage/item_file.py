"""Files of numbered items with one row of numbers each: what trajectories and paths have in common.

As a surface file such a file is made whole, with nothing done in it, and only raw values at fixed places change: the row of an
item, its checksum, its mark, then what the row makes known. Killed at any instant it opens. Readable as netCDF-4.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from mpi_landscape.errors import LandscapeError
from mpi_landscape.plan.decisions import Decisions
from mpi_landscape.storage import cells, files
from mpi_landscape.storage.cells import Block, Cells
from mpi_landscape.storage.dimensions import Dimensions
from mpi_landscape.storage.soundness import (
    check_attributes,
    check_datasets,
    damage_named,
    text,
    whole_numbers,
)
from mpi_landscape.storage.texts import plain, stored, stored_all

SCHEMA = 1
ROWS = "items/row"
# A dataset's own attribute, by which a file says which of its datasets are results.
_IS_RESULT = "is_result"


@dataclass(frozen=True, kw_only=True)
class Variable:
    """What is known when a file is made.

    Attributes:
        values: Numbers, or a sequence of texts.
        dimensions: The name of each axis; that of the items is `ItemContents.dimension`.
        units: As netCDF programs know them; "1" for a plain number.
        long_name: What it is.
    """

    values: NDArray[Any] | Sequence[str]
    dimensions: tuple[str, ...]
    units: str = "1"
    long_name: str = ""


@dataclass(frozen=True, kw_only=True)
class ItemContents:
    """Everything that is fixed when a file is made.

    Attributes:
        kind: What the file is, a word such as `trajectory`.
        num_items: How many items there are.
        columns: The names of a row's numbers.
        dimension: The name of the items' axis; where `coordinate` is given, a variable of the file.
        coordinate: (num_items,) the values along it.
        results: What items make known, by dataset: units and meaning. (num_items,) float64, NaN where not done.
        fixed: What is known from the beginning, by dataset.
        attributes: Identity, provenance: texts and numbers by name.
    """

    kind: str
    num_items: int
    columns: tuple[str, ...]
    dimension: str
    results: Mapping[str, tuple[str, str]]
    coordinate: NDArray[Any] | None = None
    fixed: Mapping[str, Variable] = field(default_factory=dict)
    attributes: Mapping[str, Any] = field(default_factory=dict)


def create_items(path: Path, contents: ItemContents) -> None:
    """Write a complete file with nothing done in it, and move it into place.

    Args:
        path: Where; an existing file is replaced.
        contents: What it holds.

    Raises:
        LandscapeError: The folder cannot be written.
    """
    with files.appearing(path, size=_size(contents)) as file:
        dimensions = Dimensions(file)
        if contents.coordinate is not None:
            dimensions.coordinate(
                contents.dimension, contents.coordinate, contents.dimension.replace("_", " ")
            )
        for name, (shape, dtype, empty) in _arrays(contents.num_items, len(contents.columns)).items():
            dataset = files.allocated(file, name, shape, dtype, empty)
            dimensions.name(dataset, (contents.dimension, "items/column")[: len(shape)], "")
        for name, (units, meaning) in contents.results.items():
            dataset = files.allocated(file, name, (contents.num_items,), np.dtype(np.float64), np.nan)
            dimensions.name(dataset, (contents.dimension,), "")
            dataset.attrs[_IS_RESULT] = 1
            _describe(dataset, units, meaning or name.rpartition("/")[2].replace("_", " "))
        for name, variable in contents.fixed.items():
            values = variable.values
            data = values if isinstance(values, np.ndarray) else stored_all(values)
            dataset = file.create_dataset(name, data=data)
            dimensions.name(dataset, variable.dimensions, "")
            _describe(
                dataset, variable.units, variable.long_name or name.rpartition("/")[2].replace("_", " ")
            )
        file["items"].attrs["columns"] = stored(", ".join(contents.columns))
        files.write_attributes(
            file,
            {
                **contents.attributes,
                "kind": contents.kind,
                "schema": SCHEMA,
                "num_items": contents.num_items,
                "results": ", ".join(contents.results),
            },
        )


def _describe(dataset: h5py.Dataset, units: str, meaning: str) -> None:
    dataset.attrs["units"], dataset.attrs["long_name"] = stored(units), stored(meaning)


def _arrays(num_items: int, num_columns: int) -> cells.Arrays:
    """The datasets of the items themselves: name to shape, type and the value that means "not done"."""
    return {
        ROWS: ((num_items, num_columns), np.dtype(np.float64), np.nan),
        "items/checksum": ((num_items,), np.dtype(np.uint32), 0),
        "items/status": ((num_items,), np.dtype(np.uint8), 0),
    }


def _size(contents: ItemContents) -> int:
    """Bytes that a file takes, or more."""
    size = contents.num_items * (8 * (len(contents.columns) + len(contents.results) + 1) + 5)
    for variable in contents.fixed.values():
        values = variable.values
        size += (
            values.nbytes
            if isinstance(values, np.ndarray)
            else len(values) * max([1, *(4 * len(each) for each in values)])
        )
    # Generous for what is small: attributes and the headers of datasets.
    return (
        size
        + sum(len(str(each)) for each in contents.attributes.values())
        + 2**12 * (len(contents.fixed) + len(contents.results))
        + 2**16
    )


def open_item_file(path: Path, mode: str, comm: Any = None, *, kind: str, what: str) -> h5py.File:
    """Open a file of items.

    Args:
        path: Where it is.
        mode: `r` or `r+`.
        comm: For the parallel driver, the communicator; collective then.
        kind: As in its `ItemContents`.
        what: What it should be, for messages: `a trajectory file`.

    Raises:
        LandscapeError: There is no such file, or it is not one of ours, or of another kind or schema.
    """
    file = files.open_ours(path, mode, what, comm)
    try:
        with damage_named(path):
            found = text(path, file, "kind") if "kind" in file.attrs else "surface"
            if found != kind:
                raise LandscapeError(f"{path}: is of the kind {found[:40]}, not {what}")
            if whole_numbers(path, file, "schema") != [SCHEMA]:
                raise LandscapeError(f"{path}: has another schema; this version reads and writes {SCHEMA}")
            _layout(file)
    except LandscapeError:
        file.close()
        raise
    return file


def open_items(path: Path, comm: Any = None, mode: str = "r+", *, kind: str, what: str) -> Cells:
    """The items of an existing file; see `cells.open_cells`.

    Raises:
        LandscapeError: The file cannot be opened, or is not sound.
    """
    return cells.open_cells(
        path,
        comm,
        mode,
        open_file=partial(open_item_file, kind=kind, what=what),
        layout=_layout,
        marks="items",
    )


def result_names(file: h5py.File) -> tuple[str, ...]:
    """The names of the datasets that items make known."""
    path = Path(file.filename)
    names = text(path, file, "results")
    return tuple(names.split(", ")) if names else ()


def read_results(file: h5py.File) -> dict[str, NDArray[np.float64]]:
    """They, by name: (num_items,) float64 each."""
    _layout(file)
    return {name: file[name][...] for name in result_names(file)}


def read_variable(path: Path, file: h5py.File, name: str, shape: tuple[int | None, ...], kind: str) -> Any:
    """A dataset that was known when the file was made, once it is seen to be what it should be.

    Args:
        path: For messages.
        file: Open.
        name: Of the dataset.
        shape: None where any length will do.
        kind: The numpy type, such as `f8`; `O` for texts.

    Raises:
        LandscapeError: It is not there, or something else.
    """
    check_datasets(path, file, {name: (shape, kind)})
    values = file[name][...]
    return [plain(each) or "" for each in values.tolist()] if kind == "O" else values


def decided(path: Path | None, look: Callable[[Path], Mapping[str, Any]]) -> Decisions:
    """What a file that may be continued was made with, from what it says of itself; nothing where there is none."""
    if path is None or not path.exists():
        return Decisions()
    return Decisions(batch_size=int(look(path)["batch_size"]))


def read_item_attributes(path: Path, file: h5py.File) -> dict[str, Any]:
    """What a file says of itself, letter by letter."""
    attributes = files.read_attributes(file)
    check_attributes(path, attributes)
    return attributes


def _layout(file: h5py.File) -> tuple[Sequence[str], Any]:
    """The datasets that change, and where each item's row lies.

    Raises:
        LandscapeError: The file does not hold what it says.
    """
    path = Path(file.filename)
    counts = whole_numbers(path, file, "num_items")
    if len(counts) != 1 or counts[0] < 1:
        raise LandscapeError(f"{path}: is damaged: its attribute num_items is no number of items")
    check_datasets(path, file, {"items/status": ((counts[0],), "u1")})
    columns = text(path, file["items"], "columns").split(", ")
    arrays = _arrays(counts[0], len(columns))
    check_datasets(path, file, {name: (shape, dtype.str[1:]) for name, (shape, dtype, _) in arrays.items()})
    names = result_names(file)
    check_datasets(path, file, dict.fromkeys(names, ((counts[0],), "f8")))
    return [*arrays, *names], lambda item: Block(ROWS, (item, 0), (1, len(columns)))


def num_done(file: h5py.File) -> int:
    """How many items are marked as done."""
    _layout(file)
    return int((file["items/status"][...] == cells.DONE).sum())


def is_finished(file: h5py.File) -> bool:
    """Whether all of them are."""
    _layout(file)
    return bool((file["items/status"][...] == cells.DONE).all())
