"""Schema 1: what is in a surface file, and how it is created.

Fixed-size contiguous datasets, all allocated, written and flushed before the first evaluation; from then on only raw
values at fixed offsets change. Killed at any instant, such a file opens: of 8 files killed at the entry of every single
write none was unreadable, of 38 with a resized chunked dataset 6 were. Readable as netCDF-4: every dimension is an HDF5
dimension scale.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from mpi_landscape.errors import LandscapeError
from mpi_landscape.plan.grid import MAX_AXIS_POINTS, Axis, Grid
from mpi_landscape.plan.samples import Sample
from mpi_landscape.plan.tiles import Plan
from mpi_landscape.storage.dimensions import Dimensions
from mpi_landscape.storage.files import allocated, appearing, open_ours, write_attributes
from mpi_landscape.storage.soundness import (
    Shape,
    check_datasets,
    check_names,
    damage_named,
    holds,
    text,
    whole_numbers,
)
from mpi_landscape.storage.texts import stored, stored_all

SCHEMA = 1
# The columns of a tile's partial sums.
SUMS = ("loss_sum", "correct", "examples", "loss_squares")
# The relative error that the last run was asked for, 0 for exact values; only where the plan is one of samples.
TARGET = "tiles/target"


@dataclass(frozen=True, kw_only=True)
class Contents:
    """Everything that is fixed when a file is created.

    Attributes:
        grid: The points.
        plan: The tiles.
        accuracy: Whether the loss also tells which examples are correct.
        center: (num_parameters,) float32.
        directions: `alpha`, and `beta` for a surface: (num_parameters,) float32 each.
        layout: One mapping per tensor of the flat vectors: name, shape, offset, kind.
        attributes: Identity, provenance, certificate: texts and numbers by name.
        orders: For a plan of samples, the order in which each split's examples are held: (N,) int64 by split.
    """

    grid: Grid
    plan: Plan
    accuracy: bool
    center: NDArray[np.float32]
    directions: Mapping[str, NDArray[np.float32]]
    layout: Sequence[Mapping[str, Any]]
    attributes: Mapping[str, Any]
    orders: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)


def quantities(plan: Plan, accuracy: bool) -> list[tuple[str, str]]:
    """The result arrays of a file: (name, split) pairs, a split's loss before its accuracy."""
    return [(f"{split}_{kind}", split) for split, _ in plan.shards for kind in kinds(plan, accuracy)]


def kinds(plan: Plan, accuracy: bool) -> list[str]:
    """What a split has at each point; the standard error last, as the mark of an estimate that is written."""
    return ["loss"] + ["accuracy"] * accuracy + ["loss_stderr"] * bool(plan.samples)


def arrays(grid: Grid, plan: Plan, accuracy: bool) -> dict[str, tuple[tuple[int, ...], np.dtype[Any], Any]]:
    """Every dataset that changes while tiles come in: name to shape, type and the value that means 'not done'."""
    result: dict[str, tuple[tuple[int, ...], np.dtype[Any], Any]] = {
        name: (grid.shape, np.dtype(np.float64), np.nan) for name, _ in quantities(plan, accuracy)
    }
    for split, shards in plan.shards:
        result[sums_name(split)] = ((shards, grid.num_points, len(SUMS)), np.dtype(np.float64), np.nan)
    result["tiles/checksum"] = ((plan.num_tiles,), np.dtype(np.uint32), 0)
    result["tiles/status"] = ((plan.num_tiles,), np.dtype(np.uint8), 0)
    if plan.samples:
        result[TARGET] = ((1,), np.dtype(np.float64), np.nan)
    return result


def sums_name(split: str) -> str:
    """The dataset of a split's partial sums: (shard, position in the coarse-to-fine order, SUMS)."""
    return f"tiles/{split}_sums"


def create(path: Path, contents: Contents) -> None:
    """Write a complete file with nothing done in it, and move it into place.

    The whole file appears at once, so a kill during creation leaves either the old state or the new one.

    Args:
        path: Where; an existing file is replaced.
        contents: What it holds.

    Raises:
        LandscapeError: The folder cannot be written.
    """
    with appearing(path, size=_size(contents)) as file:
        _fill(file, contents)


def size_of_arrays(grid: Grid, plan: Plan, accuracy: bool) -> int:
    """Bytes of the datasets that change while tiles come in: nearly all of a large file."""
    return sum(dtype.itemsize * math.prod(shape) for shape, dtype, _ in arrays(grid, plan, accuracy).values())


def _size(contents: Contents) -> int:
    """Bytes that a file takes, or more."""
    size = size_of_arrays(contents.grid, contents.plan, contents.accuracy)
    size += sum(2 * order.nbytes + 2**14 for order in contents.orders.values())
    size += contents.center.nbytes + sum(vector.nbytes for vector in contents.directions.values())
    # Generous for what is small: coordinates, layout and attributes.
    return size + sum(len(str(fact)) for fact in [*contents.attributes.values(), *contents.layout]) + 2**16


def _fill(file: h5py.File, contents: Contents) -> None:
    grid, plan = contents.grid, contents.plan
    dimensions = Dimensions(file)
    dimensions.coordinate("alpha", grid.alpha.values, "alpha: coordinate along the first direction")
    if grid.beta is not None:
        dimensions.coordinate("beta", grid.beta.values, "beta: coordinate along the second direction")
    axes = ("alpha", "beta")[: len(grid.shape)]
    for name, (shape, dtype, empty) in arrays(grid, plan, contents.accuracy).items():
        dataset = allocated(file, name, shape, dtype, empty)
        if name.startswith("tiles/"):
            places = (
                ("run" if name == TARGET else "tile",)
                if len(shape) == 1
                else (name.split("/")[1].replace("_sums", "_shard"), "position", "sum")
            )
            dimensions.name(dataset, places, "tiles/")
        else:
            dimensions.name(dataset, axes, "")
            dataset.attrs["units"] = stored("1" if name.endswith("_accuracy") else "nats per example")
            dataset.attrs["long_name"] = stored(name.replace("_", " "))
    file["tiles"].attrs["sums"] = stored(", ".join(SUMS))
    _write_samples(file, contents, dimensions)
    _write_directions(file, contents, dimensions)
    of_the_schema = {
        "schema": SCHEMA,
        "points_per_tile": plan.points_per_tile,
        "splits": ", ".join(split for split, _ in plan.shards),
        "shards": np.array([count for _, count in plan.shards], dtype=np.int64),
    }
    write_attributes(file, {**contents.attributes, **of_the_schema})


def _write_samples(file: h5py.File, contents: Contents, dimensions: Dimensions) -> None:
    """The order of the examples, and how it is cut into strata and levels."""
    for split, order in contents.orders.items():
        sample = contents.plan.sample(split)
        columns = {"order": order, "strata": sample.strata, "examples": sample.examples}
        for name, column in columns.items():
            dataset = file.create_dataset(f"tiles/{split}_{name}", data=np.array(column, dtype=np.int64))
            dimension = f"{split}_example" if name == "order" else f"{split}_shard"
            dimensions.name(dataset, (dimension,), "tiles/")


def read_samples(file: h5py.File, shards: Sequence[tuple[str, int]]) -> tuple[Sample, ...]:
    """How the splits are cut, of a plan with samples."""
    path = Path(file.filename)
    check_datasets(
        path,
        file,
        {
            f"tiles/{split}_{name}": ((count,), "i8")
            for split, count in shards
            for name in ("strata", "examples")
        },
    )
    samples = tuple(
        Sample(
            strata=tuple(file[f"tiles/{split}_strata"][...].tolist()),
            examples=tuple(file[f"tiles/{split}_examples"][...].tolist()),
        )
        for split, _ in shards
    )
    for sample in samples:
        steps = np.diff(sample.strata, prepend=-1)
        if min(sample.examples) < 1 or steps[0] != 1 or not np.isin(steps, (0, 1)).all():
            raise LandscapeError(f"{path}: is damaged: its samples are none")
    return samples


def _write_directions(file: h5py.File, contents: Contents, dimensions: Dimensions) -> None:
    """The flat vectors, and the table that says which tensor lies where in them."""
    group = file.create_group("directions")
    for name, vector in {"center": contents.center, **contents.directions}.items():
        dimensions.name(group.create_dataset(name, data=vector), ("parameter",), "directions/")
    columns = {
        "tensor_name": stored_all(row["name"] for row in contents.layout),
        "tensor_shape": stored_all(",".join(map(str, row["shape"])) for row in contents.layout),
        "tensor_kind": stored_all(row["kind"] for row in contents.layout),
        "tensor_offset": np.array([row["offset"] for row in contents.layout], dtype=np.int64),
    }
    for name, column in columns.items():
        dimensions.name(group.create_dataset(name, data=column), ("tensor",), "directions/")


def open_file(path: Path, mode: str, comm: Any = None) -> h5py.File:
    """Open a surface file, of any schema.

    Args:
        path: Where it is.
        mode: `r` or `r+`.
        comm: For the parallel driver, the communicator; collective then.

    Raises:
        LandscapeError: There is no such file, or it is no HDF5 file, or not one of ours, or a training history,
            or of another schema, or a part of one.
    """
    file = open_ours(path, mode, "a surface file", comm)
    try:
        with damage_named(path):
            if "kind" in file.attrs and text(path, file, "kind") == "history":
                raise LandscapeError(f"{path}: is a training history, not a surface file")
            schema = whole_numbers(path, file, "schema")
            if schema != [SCHEMA]:
                raise LandscapeError(
                    f"{path}: has schema {', '.join(map(str, schema))}, this version reads and writes schema {SCHEMA}"
                )
            if not holds(file, "tiles/status"):
                raise LandscapeError(f"{path}: has lost its tiles, perhaps as a copy made by another program")
    except LandscapeError:
        file.close()
        raise
    return file


def read_plan(file: h5py.File) -> tuple[Grid, Plan, bool]:
    """The grid, the plan and whether there are accuracies, as a file says them.

    Raises:
        LandscapeError: The file does not hold what it says; after this, every array of `arrays` is there as it should be.
    """
    path = Path(file.filename)
    axes = [
        _read_axis(path, file, name) for name in ("alpha", "beta") if name == "alpha" or holds(file, name)
    ]
    grid = Grid(axes[0], axes[1] if len(axes) > 1 else None)
    splits = check_names(path, text(path, file, "splits"))
    counts, points = whole_numbers(path, file, "shards"), whole_numbers(path, file, "points_per_tile")
    if len(counts) != len(splits) or len(points) != 1:
        raise LandscapeError(
            f"{path}: is damaged: its attributes splits, shards and points_per_tile do not fit"
        )
    shards = tuple(zip(splits, counts, strict=True))
    accuracy = holds(file, f"{splits[0]}_accuracy")
    try:
        plan = Plan(num_points=grid.num_points, points_per_tile=points[0], shards=shards)
        check_datasets(path, file, _expected(grid, plan, accuracy))
        if holds(file, TARGET):
            plan = replace(plan, samples=read_samples(file, shards))
            check_datasets(path, file, _expected(grid, plan, accuracy))
    except LandscapeError as error:
        # What a plan refuses does not name the file.
        raise LandscapeError(
            str(error) if str(path) in str(error) else f"{path}: is damaged: {error}"
        ) from error
    return grid, plan, accuracy


def _expected(grid: Grid, plan: Plan, accuracy: bool) -> dict[str, tuple[Shape, str]]:
    return {name: (shape, dtype.str[1:]) for name, (shape, dtype, _) in arrays(grid, plan, accuracy).items()}


def _read_axis(path: Path, file: h5py.File, name: str) -> Axis:
    check_datasets(path, file, {name: ((None,), "f8")})
    if not 1 <= file[name].size <= MAX_AXIS_POINTS:
        raise LandscapeError(f"{path}: is damaged: {name} has {file[name].size} values")
    values = file[name][...]
    if not (np.isfinite(values).all() and (np.diff(values) > 0).all()):
        raise LandscapeError(f"{path}: is damaged: the values of {name} do not increase")
    return Axis(float(values[0]), float(values[-1]), len(values))
