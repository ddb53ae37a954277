"""Reading a surface file, finished or not, without torch and without MPI."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from mpi_landscape.errors import LandscapeError, printable
from mpi_landscape.plan.grid import Grid
from mpi_landscape.plan.quantities import Quantities, derived
from mpi_landscape.plan.samples import Sample
from mpi_landscape.plan.tiles import Plan
from mpi_landscape.storage import files, identity
from mpi_landscape.storage.cells import DONE
from mpi_landscape.storage.soundness import check_attributes, check_datasets, damage_named, holds
from mpi_landscape.storage.surface import schema
from mpi_landscape.storage.surface.tiles import add_shards, tiles_of
from mpi_landscape.storage.surface.value import Surface
from mpi_landscape.storage.texts import attribute, plain

# A file of this program has two levels of groups.
_DEEPEST = 3
# What a file says of each tensor, and of which type.
_TENSORS = {"shape": "O", "offset": "i8"}
# Points that are looked at together.
_BLOCK = 2**20


def read_surface(path: str | Path) -> Surface:
    """The surface in a file, also while it is being written.

    Args:
        path: A file of `mpi_landscape.surface`.

    Returns:
        Its values, which of them are done, and what the file says of itself.

    Raises:
        LandscapeError: No such file, or not one of ours.
    """
    with _reading(path) as file:
        grid, plan, quantities = schema.read_plan(file)
        attributes = files.read_attributes(file)
        check_attributes(Path(path), attributes)
        # What is written last is read first: a point that a writer adds meanwhile is then not yet shown as done.
        status = file["tiles/status"][...] == DONE
        names = list(schema.results(plan, quantities))
        read = {name: file[name][...] for name in reversed(names)}
        values = {name: read[name] for name in names}
        units = {name: printable(plain(attribute(file[name], "units")) or "") for name in names}
        further, their_units = derived(values, units)
        return Surface(
            path=str(path),
            alpha=file["alpha"][...],
            beta=file["beta"][...] if grid.beta is not None else None,
            values=values | further,
            done=_done(file, grid, plan, quantities, status, values),
            attributes=files.readable(attributes),
            units=units | their_units,
            **_sampling(file, plan),
        )


def _sampling(file: h5py.File, plan: Plan) -> dict[str, Any]:
    """What was asked for and what was evaluated, of a file whose plan is one of samples."""
    if not plan.samples:
        return {}
    status = file["tiles/status"][...] == DONE
    per_unit = np.concatenate([sample.examples for sample in plan.samples]).astype(np.float64)
    per_chunk = np.full(plan.num_chunks, plan.points_per_tile, dtype=np.float64)
    per_chunk[-1] = plan.num_points - plan.points_per_tile * (plan.num_chunks - 1)
    done = per_chunk @ status.reshape(plan.num_chunks, plan.num_units) @ per_unit
    return {
        "target": float(file[schema.TARGET][0]),
        "evaluations": float(done / (plan.num_points * per_unit.sum())),
    }


def read_beginning(
    path: str | Path,
) -> tuple[dict[str, Any], Quantities, tuple[Sample, ...], dict[str, NDArray[np.int64]]]:
    """What a run that may go on with a file must know of it.

    Returns:
        Its attributes; what it has at a point; how its splits are cut into samples, and the order of their examples by
        split: both empty without samples.
    """
    with _reading(path) as file:
        attributes = _attributes(path, file)
        _, plan, quantities = schema.read_plan(file)
        splits = [split for split, _ in plan.shards] if plan.samples else []
        for split, sample in zip(splits, plan.samples, strict=True):
            _check_order(Path(path), file, f"tiles/{split}_order", sample.stops[-1])
        orders = {split: file[f"tiles/{split}_order"][...] for split in splits}
        return attributes, quantities, plan.samples, orders


def verify_tiles(path: str | Path) -> tuple[int, int, int]:
    """How many tiles there are, how many are marked as done, and how many of those fail their checksum."""
    with _reading(path) as file:
        _, plan, _ = schema.read_plan(file)
        tiles = tiles_of(file)
        marked = tiles.marked()
        return plan.num_tiles, marked.size, sum(tiles.read(int(index)) is None for index in marked)


def read_attributes(path: str | Path) -> dict[str, Any]:
    """What a file says of itself, letter by letter: identity, provenance, certificate."""
    with _reading(path) as file:
        return _attributes(path, file)


def _attributes(path: str | Path, file: h5py.File) -> dict[str, Any]:
    attributes = files.read_attributes(file)
    check_attributes(Path(path), attributes)
    return attributes


def read_direction(path: str | Path, name: str) -> tuple[NDArray[np.float32], list[str]]:
    """One flat vector of a file (`center`, `alpha` or `beta`) and the names of its tensors.

    Raises:
        LandscapeError: The file has no such vector, or it is damaged.
    """
    with _reading(path) as file:
        there = [known for known in ("center", "alpha", "beta") if holds(file, f"directions/{known}")]
        if name not in there:
            raise LandscapeError(f"{path}: holds no direction {name!r}; it has {', '.join(there)}")
        vector, names = f"directions/{name}", "directions/tensor_name"
        check_datasets(Path(path), file, {vector: ((None,), "f4"), names: ((None,), "O")})
        return _vector(file, path, name), [text.decode() for text in file[names][...]]


@contextmanager
def _reading(path: str | Path) -> Iterator[h5py.File]:
    """A surface file, open for as long as the `with` lasts; what goes wrong in it names the file."""
    with damage_named(Path(path)), schema.open_file(Path(path), "r") as file:
        yield file


def _check_order(path: Path, file: h5py.File, name: str, num_examples: int) -> None:
    """The order of a split's examples has each of them once."""
    check_datasets(path, file, {name: ((num_examples,), "i8")})
    if not np.array_equal(np.sort(file[name][...]), np.arange(num_examples)):
        raise LandscapeError(f"{path}: is damaged: {name} is no order of {num_examples} examples")


def check_constants(path: Path, grid: Grid, plan: Plan) -> None:
    """Refuse a file whose vectors, coordinates or tiles are not the ones that it was made with.

    Tiles have checksums and are done again where they are damaged; what defines them has its fingerprints.

    Args:
        path: A file of this very run, as `identity.check_same` has found.
        grid: The points.
        plan: The tiles.

    Raises:
        LandscapeError: One of them is damaged; names it.
    """
    with _reading(path) as file:
        _, stored, _ = schema.read_plan(file)
        # Samples are held against their fingerprint.
        if replace(stored, samples=()) != replace(plan, samples=()):
            raise _damaged(path, "the plan of tiles")
        # Every object, also those that only other programs read: HDF5 checks what it looks at.
        _look_at_all(path, file, set())
        for name, axis in (("alpha", grid.alpha), ("beta", grid.beta)):
            if axis is not None and file[name][...].tobytes() != axis.values.tobytes():
                raise _damaged(path, name)
        check_datasets(
            path, file, {f"directions/tensor_{name}": ((None,), kind) for name, kind in _TENSORS.items()}
        )
        for name in ("center", "alpha", "beta"):
            if holds(file, f"directions/{name}"):
                check_datasets(path, file, {f"directions/{name}": ((None,), "f4")})
                _vector(file, path, name)
        # The tensors lie one after the other.
        shapes = [text.decode() for text in file["directions/tensor_shape"][...]]
        sizes = [math.prod(int(side) for side in shape.split(",") if side) for shape in shapes]
        if file["directions/tensor_offset"][...].tolist() != list(accumulate([0, *sizes]))[: len(sizes)]:
            raise _damaged(path, "directions/tensor_offset or tensor_shape")


def _look_at_all(path: Path, group: h5py.Group, seen: set[int], depth: int = 0) -> None:
    """Open every object of a file. HDF5's own walk ends the process where groups lie a hundred thousand deep."""
    if depth > _DEEPEST:
        raise LandscapeError(f"{path}: is damaged: its groups lie more than {_DEEPEST} deep")
    for name in group:
        if isinstance(group.get(name, getlink=True), h5py.HardLink):
            found = group[name]
            place = h5py.h5o.get_info(found.id).addr
            # A group may be held under many names.
            if isinstance(found, h5py.Group) and place not in seen:
                seen.add(place)
                _look_at_all(path, found, seen, depth + 1)


def _vector(file: h5py.File, path: str | Path, name: str) -> NDArray[np.float32]:
    """A flat vector whose values fit the fingerprint that the file has of it, if it has one."""
    vector: NDArray[np.float32] = file[f"directions/{name}"][...]
    known = identity.of_attributes(files.read_attributes(file)).get(
        name if name == "center" else f"direction_{name}"
    )
    if known is not None and identity.fingerprint(vector) != known:
        raise _damaged(path, f"directions/{name}")
    return vector


def _damaged(path: str | Path, name: str) -> LandscapeError:
    return LandscapeError(
        f"{path}: {name} is damaged, its values are not those that the file was made with; use another copy of the file, "
        f"or --overwrite to compute it anew"
    )


def _done(
    file: h5py.File,
    grid: Grid,
    plan: Plan,
    quantities: Quantities,
    status: NDArray[np.bool_],
    values: Mapping[str, NDArray[np.float64]],
) -> dict[str, NDArray[np.bool_]]:
    """Per split, which points have all their shards done, or an estimate, and their values written.

    Args:
        file: The surface file.
        grid: The points.
        plan: The tiles.
        quantities: What is known at a point.
        status: (num_tiles,) which are marked as done.
        values: By quantity, as read after the status.
    """
    if plan.samples:
        return {split: ~np.isnan(values[f"{split}_loss_stderr"]) for split, _ in plan.shards}
    per_chunk = status.reshape(plan.num_chunks, plan.num_units)
    done = {split: np.zeros(grid.num_points, dtype=bool) for split, _ in plan.shards}
    # Block by block: tables over all of 10^8 points would take 10 GB.
    for start in range(0, grid.num_points, _BLOCK):
        positions = np.arange(start, min(start + _BLOCK, grid.num_points))
        flat, chunk, unit = grid.points(positions), positions // plan.points_per_tile, 0
        for split, shards in plan.shards:
            marked: NDArray[np.bool_] = np.all(per_chunk[chunk, unit : unit + shards], axis=1)
            done[split][flat] = marked & ~_unwritten(file, split, quantities, flat, marked, values, start)
            unit += shards
    return {split: mask.reshape(grid.shape) for split, mask in done.items()}


def _unwritten(
    file: h5py.File,
    split: str,
    quantities: Quantities,
    flat: NDArray[np.int64],
    marked: NDArray[np.bool_],
    values: Mapping[str, NDArray[np.float64]],
    start: int,
) -> NDArray[np.bool_]:
    """Which marked points are NaN only because a writer, at work or killed, has not come to them yet.

    Args:
        file: The surface file.
        split: Name of the split.
        quantities: What is known at a point.
        flat: (n,) flat index of each of consecutive positions.
        marked: (n,) all shards are marked as done.
        values: By quantity.
        start: The first position.

    Returns:
        (n,) bool.
    """
    read = {kind: values[f"{split}_{kind}"] for kind in quantities.kinds}
    empty = {kind: marked & np.isnan(value.reshape(-1)[flat]) for kind, value in read.items()}
    result = np.zeros_like(marked)
    if any(mask.any() for mask in empty.values()):
        totals = add_shards(file[schema.sums_name(split)][:, start : start + flat.size])
        means = quantities.values(totals)
        for kind, mask in empty.items():
            # A count of examples is never NaN, once it is written.
            result |= mask & (~np.isnan(means[kind]) | np.isnan(totals[:, 2]))
    return result
