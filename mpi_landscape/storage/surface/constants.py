"""What a surface file was made with, and must still hold when a run goes on with it."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import accumulate
from pathlib import Path

import h5py

from mpi_landscape.errors import LandscapeError
from mpi_landscape.plan.grid import Grid
from mpi_landscape.plan.tiles import Plan
from mpi_landscape.storage import files
from mpi_landscape.storage.soundness import check_datasets
from mpi_landscape.storage.surface import schema
from mpi_landscape.storage.surface.reader import VECTORS, check_vector, damaged, reading, vectors_are_saved

# A file of this program has two levels of groups.
_DEEPEST = 3
# What a file says of each tensor, and of which type.
_TENSORS = {"shape": "O", "offset": "i8"}


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
    with reading(path) as file:
        _, stored, _ = schema.read_plan(file)
        # Samples are held against their fingerprint.
        if replace(stored, samples=()) != replace(plan, samples=()):
            raise damaged(path, "the plan of tiles")
        # Every object, also those that only other programs read: HDF5 checks what it looks at.
        _look_at_all(path, file, set())
        for name, axis in (("alpha", grid.alpha), ("beta", grid.beta)):
            if axis is not None and file[name][...].tobytes() != axis.values.tobytes():
                raise damaged(path, name)
        check_datasets(
            path, file, {f"directions/tensor_{name}": ((None,), kind) for name, kind in _TENSORS.items()}
        )
        saved = vectors_are_saved(files.read_attributes(file))
        for name in VECTORS[: 2 if grid.beta is None else 3] if saved else ():
            check_vector(file, path, name)
        if grid.seeds and file["repeat"][...].tolist() != list(grid.seeds):
            raise damaged(path, "repeat")
        # The tensors lie one after the other.
        shapes = [text.decode() for text in file["directions/tensor_shape"][...]]
        sizes = [math.prod(int(side) for side in shape.split(",") if side) for shape in shapes]
        if file["directions/tensor_offset"][...].tolist() != list(accumulate([0, *sizes]))[: len(sizes)]:
            raise damaged(path, "directions/tensor_offset or tensor_shape")


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
