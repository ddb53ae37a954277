"""Reading a surface file, finished or not, without torch and without MPI."""

from __future__ import annotations

import math
from itertools import accumulate
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from mpi_landscape.errors import LandscapeError
from mpi_landscape.geometry.grid import Grid
from mpi_landscape.geometry.samples import Sample
from mpi_landscape.geometry.tiles import Plan
from mpi_landscape.storage import files, identity, schema
from mpi_landscape.storage.cells import DONE, Cells, add_shards, mean_values
from mpi_landscape.storage.surface import Surface


def read_surface(path: str | Path) -> Surface:
    """The surface in a file, also while it is being written.

    Args:
        path: A file of `mpi_landscape.surface`.

    Returns:
        Its values, which of them are done, and what the file says of itself.

    Raises:
        LandscapeError: No such file, or not one of ours.
    """
    with files.sound(path), schema.open_file(Path(path), "r") as file:
        grid, plan, accuracy = schema.read_plan(file)
        return Surface(
            path=str(path),
            alpha=file["alpha"][...],
            beta=file["beta"][...] if grid.beta is not None else None,
            values={name: file[name][...] for name, _ in schema.quantities(plan, accuracy)},
            done=_done(file, grid, plan, accuracy),
            attributes=files.read_attributes(file),
            **_sampling(file, plan),
        )


def _sampling(file: h5py.File, plan: Plan) -> dict[str, float]:
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


def read_orders(path: str | Path) -> tuple[tuple[Sample, ...], dict[str, NDArray[np.int64]]]:
    """How a file's splits are cut into samples, and the order of their examples by split; both empty without samples."""
    with files.sound(path), schema.open_file(Path(path), "r") as file:
        _, plan, _ = schema.read_plan(file)
        splits = [split for split, _ in plan.shards] if plan.samples else []
        return plan.samples, {split: file[f"tiles/{split}_order"][...] for split in splits}


def verify_tiles(path: str | Path) -> tuple[int, int, int]:
    """How many tiles there are, how many are marked as done, and how many of those fail their checksum."""
    with files.sound(path), schema.open_file(Path(path), "r") as file:
        grid, plan, accuracy = schema.read_plan(file)
        cells = Cells(
            {name: file[name] for name in schema.arrays(grid, plan, accuracy)}, grid, plan, accuracy=accuracy
        )
        marked = cells.marked()
        return (
            plan.num_tiles,
            marked.size,
            sum(cells.read_tile(plan.tile(int(index))) is None for index in marked),
        )


def read_attributes(path: str | Path) -> dict[str, Any]:
    """What a file says of itself: identity, provenance, certificate."""
    with files.sound(path), schema.open_file(Path(path), "r") as file:
        return files.read_attributes(file)


def read_direction(path: str | Path, name: str) -> tuple[NDArray[np.float32], list[str]]:
    """One flat vector of a file (`center`, `alpha` or `beta`) and the names of its tensors.

    Raises:
        LandscapeError: The file has no such vector, or it is damaged.
    """
    with files.sound(path), schema.open_file(Path(path), "r") as file:
        group = file["directions"]
        if name not in ("center", "alpha", "beta") or name not in group:
            valid = ", ".join(known for known in ("center", "alpha", "beta") if known in group)
            raise LandscapeError(f"{path}: holds no direction {name!r}; it has {valid}")
        return _vector(file, path, name), [text.decode() for text in group["tensor_name"][...]]


def check_constants(path: Path, grid: Grid) -> None:
    """Refuse a file whose vectors or coordinates are not the ones that it was made with.

    Tiles have checksums and are done again where they are damaged; what defines them has its fingerprints.

    Args:
        path: A file of this very run, as `identity.check_same` has found.
        grid: The points.

    Raises:
        LandscapeError: One of them is damaged; names it.
    """
    with files.sound(path), schema.open_file(path, "r") as file:
        # Every object, also those that only other programs read: HDF5 checks what it looks at.
        file.visititems(lambda _name, _item: None)
        for name, axis in (("alpha", grid.alpha), ("beta", grid.beta)):
            if axis is not None and file[name][...].tobytes() != axis.values.tobytes():
                raise _damaged(path, name)
        for name in ("center", "alpha", "beta"):
            if name in file["directions"]:
                _vector(file, path, name)
        # The tensors lie one after the other.
        shapes = [text.decode() for text in file["directions/tensor_shape"][...]]
        sizes = [math.prod(int(side) for side in shape.split(",") if side) for shape in shapes]
        if file["directions/tensor_offset"][...].tolist() != list(accumulate([0, *sizes]))[: len(sizes)]:
            raise _damaged(path, "directions/tensor_offset or tensor_shape")


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


def _done(file: h5py.File, grid: Grid, plan: Plan, accuracy: bool) -> dict[str, NDArray[np.bool_]]:
    """Per split, which points have all their shards done, or an estimate, and their values written."""
    if plan.samples:
        return {split: ~np.isnan(file[f"{split}_loss_stderr"][...]) for split, _ in plan.shards}
    status = np.zeros(plan.num_chunks * plan.num_units, dtype=bool)
    status[: plan.num_tiles] = file["tiles/status"][...] == DONE
    per_chunk = status.reshape(plan.num_chunks, plan.num_units)
    flat = grid.points(np.arange(grid.num_points))
    chunk = np.arange(grid.num_points) // plan.points_per_tile
    done, unit = {}, 0
    for split, shards in plan.shards:
        marked: NDArray[np.bool_] = np.all(per_chunk[chunk, unit : unit + shards], axis=1)
        mask = np.zeros(grid.num_points, dtype=bool)
        mask[flat] = marked & ~_unwritten(file, split, flat, marked, accuracy)
        done[split] = mask.reshape(grid.shape)
        unit += shards
    return done


def _unwritten(
    file: h5py.File, split: str, flat: NDArray[np.int64], marked: NDArray[np.bool_], accuracy: bool
) -> NDArray[np.bool_]:
    """Which marked points are NaN only because a writer, at work or killed, has not come to them yet.

    Args:
        file: The surface file.
        split: Name of the split.
        flat: (num_points,) flat index of each position.
        marked: (num_points,) by position: all shards are marked as done.
        accuracy: Whether there are accuracies.

    Returns:
        (num_points,) bool, by position.
    """
    kinds = ("loss", "accuracy") if accuracy else ("loss",)
    empty = {kind: marked & np.isnan(file[f"{split}_{kind}"][...].reshape(-1)[flat]) for kind in kinds}
    result = np.zeros_like(marked)
    if any(mask.any() for mask in empty.values()):
        totals = add_shards(file[schema.sums_name(split)][...])
        means = mean_values(totals, accuracy)
        for kind, mask in empty.items():
            # A count of examples is never NaN, once it is written.
            result |= mask & (~np.isnan(means[kind]) | np.isnan(totals[:, 2]))
    return result
