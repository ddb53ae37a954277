"""Schema 1: what is in a surface file.

Fixed-size contiguous datasets, all allocated, written and flushed before the first evaluation; from then on only raw
values at fixed offsets change. Killed at any instant, such a file opens: of 8 files killed at the entry of every single
write none was unreadable, of 38 with a resized chunked dataset 6 were. Readable as netCDF-4: every dimension is an HDF5
dimension scale.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from mpi_landscape.errors import LandscapeError
from mpi_landscape.plan.grid import MAX_AXIS_POINTS, Axis, Grid
from mpi_landscape.plan.quantities import SUMS, Quantities
from mpi_landscape.plan.samples import Sample
from mpi_landscape.plan.tiles import Plan
from mpi_landscape.storage.cells import Arrays
from mpi_landscape.storage.files import open_ours
from mpi_landscape.storage.soundness import (
    Shape,
    check_datasets,
    check_names,
    damage_named,
    holds,
    text,
    whole_numbers,
)
from mpi_landscape.vocabulary import COMPUTED

SCHEMA = 1
# The relative error that the last run was asked for, 0 for exact values; only where the plan is one of samples.
TARGET = "tiles/target"


def results(plan: Plan, quantities: Quantities) -> dict[str, str]:
    """The result arrays of a file: name to kind, split by split, a split's loss first."""
    return {f"{split}_{kind}": kind for split, _ in plan.shards for kind in kinds(plan, quantities)}


def kinds(plan: Plan, quantities: Quantities) -> list[str]:
    """What a split has at each point; the standard error last, as the mark of an estimate that is written."""
    return [*quantities.kinds, *["loss_stderr"] * bool(plan.samples)]


def arrays(grid: Grid, plan: Plan, quantities: Quantities) -> Arrays:
    """Every dataset that changes while tiles come in: name to shape, type and the value that means "not done"."""
    result: dict[str, tuple[tuple[int, ...], np.dtype[Any], Any]] = {
        name: (grid.shape, np.dtype(np.float64), np.nan) for name in results(plan, quantities)
    }
    for split, shards in plan.shards:
        shape = (shards, grid.num_points, len(quantities.columns))
        result[sums_name(split)] = (shape, np.dtype(np.float64), np.nan)
    result["tiles/checksum"] = ((plan.num_tiles,), np.dtype(np.uint32), 0)
    result["tiles/status"] = ((plan.num_tiles,), np.dtype(np.uint8), 0)
    if plan.samples:
        result[TARGET] = ((1,), np.dtype(np.float64), np.nan)
    return result


def sums_name(split: str) -> str:
    """The dataset of a split's rows: (shard, position in the coarse-to-fine order, columns of the quantities)."""
    return f"tiles/{split}_sums"


def size_of_arrays(grid: Grid, plan: Plan, quantities: Quantities) -> int:
    """Bytes of the datasets that change while tiles come in: nearly all of a large file."""
    return sum(
        dtype.itemsize * math.prod(shape) for shape, dtype, _ in arrays(grid, plan, quantities).values()
    )


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
    # Not in files of version 0.1.0.
    informed = [(split, count) for split, count in shards if holds(file, f"tiles/{split}_largest")]
    check_datasets(path, file, {f"tiles/{split}_largest": ((count,), "f8") for split, count in informed})
    samples = tuple(
        Sample(
            strata=tuple(file[f"tiles/{split}_strata"][...].tolist()),
            examples=tuple(file[f"tiles/{split}_examples"][...].tolist()),
            largest=tuple(file[f"tiles/{split}_largest"][...].tolist()) if (split, count) in informed else (),
        )
        for split, count in shards
    )
    for sample in samples:
        steps, sound = np.diff(sample.strata, prepend=-1), np.isfinite(sample.largest).all()
        if min(sample.examples) < 1 or steps[0] != 1 or not np.isin(steps, (0, 1)).all() or not sound:
            raise LandscapeError(f"{path}: is damaged: its samples are none")
    return samples


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


def read_plan(file: h5py.File) -> tuple[Grid, Plan, Quantities]:
    """The grid, the plan and what is known at a point, as a file says them.

    Raises:
        LandscapeError: The file does not hold what it says; after this, every array of `arrays` is there as it should be.
    """
    path = Path(file.filename)
    axes = [
        _read_axis(path, file, name) for name in ("alpha", "beta") if name == "alpha" or holds(file, name)
    ]
    strips = _read_strips(path, file)
    grid = Grid(axes[0], axes[1] if len(axes) > 1 else None, _read_seeds(path, file), strips)
    splits = check_names(path, text(path, file, "splits"))
    counts, points = whole_numbers(path, file, "shards"), whole_numbers(path, file, "points_per_tile")
    if len(counts) != len(splits) or len(points) != 1:
        raise LandscapeError(
            f"{path}: is damaged: its attributes splits, shards and points_per_tile do not fit"
        )
    shards = tuple(zip(splits, counts, strict=True))
    quantities = _read_quantities(path, file, holds(file, f"{splits[0]}_accuracy"))
    try:
        plan = Plan(num_points=grid.num_points, points_per_tile=points[0], shards=shards)
        check_datasets(path, file, _expected(grid, plan, quantities))
        if holds(file, TARGET):
            plan = replace(plan, samples=read_samples(file, shards))
            check_datasets(path, file, _expected(grid, plan, quantities))
    except LandscapeError as error:
        # What a plan refuses does not name the file.
        raise LandscapeError(
            str(error) if str(path) in str(error) else f"{path}: is damaged: {error}"
        ) from error
    return grid, plan, quantities


def _read_quantities(path: Path, file: h5py.File, accuracy: bool) -> Quantities:
    """What the columns of the rows are."""
    # It is known to be a group of this file before it is looked into.
    check_datasets(path, file, {"tiles/status": ((None,), "u1")})
    columns = text(path, file["tiles"], "sums").split(", ")
    further = columns[len(SUMS) :]
    if tuple(columns[: len(SUMS)]) != SUMS or any(not name.isidentifier() for name in further):
        raise LandscapeError(f"{path}: is damaged: its tiles have the columns {', '.join(columns)[:80]}")
    return Quantities(
        accuracy=accuracy,
        returned=tuple(name for name in further if name not in COMPUTED),
        computed=tuple(name for name in further if name in COMPUTED),
    )


def _expected(grid: Grid, plan: Plan, quantities: Quantities) -> dict[str, tuple[Shape, str]]:
    return {
        name: (shape, dtype.str[1:]) for name, (shape, dtype, _) in arrays(grid, plan, quantities).items()
    }


def _read_seeds(path: Path, file: h5py.File) -> tuple[int, ...]:
    """Those of several lines; none of a file of one line or of a plane."""
    if not holds(file, "repeat"):
        return ()
    check_datasets(path, file, {"repeat": ((None,), "i8")})
    seeds = file["repeat"][...].tolist()
    if not seeds or len(set(seeds)) < len(seeds) or holds(file, "beta"):
        raise LandscapeError(f"{path}: is damaged: its repeats are those of no lines")
    return tuple(seeds)


def _read_strips(path: Path, file: h5py.File) -> int:
    """The alphas of a strip, where points are visited so; 0 where nothing is said."""
    if "strips" not in file.attrs:
        return 0
    found = whole_numbers(path, file, "strips")
    if len(found) != 1 or not 1 <= found[0] <= MAX_AXIS_POINTS:
        raise LandscapeError(f"{path}: is damaged: its attribute strips is none")
    return found[0]


def _read_axis(path: Path, file: h5py.File, name: str) -> Axis:
    check_datasets(path, file, {name: ((None,), "f8")})
    if not 1 <= file[name].size <= MAX_AXIS_POINTS:
        raise LandscapeError(f"{path}: is damaged: {name} has {file[name].size} values")
    values = file[name][...]
    if not (np.isfinite(values).all() and (np.diff(values) > 0).all()):
        raise LandscapeError(f"{path}: is damaged: the values of {name} do not increase")
    return Axis(float(values[0]), float(values[-1]), len(values))
