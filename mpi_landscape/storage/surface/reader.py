"""Reading a surface file, finished or not, without torch and without MPI."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
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
from mpi_landscape.storage.surface import decay, schema
from mpi_landscape.storage.surface.ending import Ended
from mpi_landscape.storage.surface.points import read_points
from mpi_landscape.storage.surface.progress import done_points
from mpi_landscape.storage.surface.tiles import tiles_of
from mpi_landscape.storage.surface.value import Surface
from mpi_landscape.storage.texts import attribute, plain

# The flat vectors of a file.
VECTORS = ("center", "alpha", "beta")


def read_surface(path: str | Path) -> Surface:
    """The surface in a file, also while it is being written.

    Args:
        path: A file of `mpi_landscape.surface`.

    Returns:
        Its values, which of them are done, and what the file says of itself.

    Raises:
        LandscapeError: No such file, or not one of ours.
    """
    with reading(path) as file:
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
        surface = Surface(
            path=str(path),
            alpha=file["alpha"][...],
            beta=file["beta"][...] if grid.beta is not None else None,
            seeds=np.array(grid.seeds) if grid.seeds else None,
            values=values | further,
            done=done_points(file, grid, plan, quantities, status, values),
            points=read_points(Path(path), file, 1 if grid.beta is None else 2),
            attributes=files.readable(attributes),
            units=units | their_units,
            tiles_left=int(plan.num_tiles - status.sum()),
            find_products=_products(Path(path), attributes, grid),
            **_sampling(file, plan),
        )
    return replace(surface, ending=_ending(surface))


def _ending(surface: Surface) -> Ended:
    """Whether a surface is all that was asked for, as far as its file tells."""
    if surface.evaluations is None:
        is_finished = surface.tiles_left == 0 and surface.progress == 1
    elif surface.evaluations == 1 or not surface.target:
        is_finished = surface.evaluations == 1 and surface.progress == 1
    else:
        is_finished = surface.progress == 1 and max(surface.relative_errors.values()) <= surface.target
    return Ended.FINISHED if is_finished else Ended.UNFINISHED


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
    with reading(path) as file:
        attributes = _attributes(path, file)
        _, plan, quantities = schema.read_plan(file)
        splits = [split for split, _ in plan.shards] if plan.samples else []
        for split, sample in zip(splits, plan.samples, strict=True):
            _check_order(Path(path), file, f"tiles/{split}_order", sample.stops[-1])
        orders = {split: file[f"tiles/{split}_order"][...] for split in splits}
        return attributes, quantities, plan.samples, orders


def verify_tiles(path: str | Path) -> tuple[int, int, int]:
    """How many tiles there are, how many are marked as done, and how many of those fail their checksum."""
    with reading(path) as file:
        _, plan, _ = schema.read_plan(file)
        tiles = tiles_of(file)
        marked = tiles.marked()
        return plan.num_tiles, marked.size, sum(tiles.read(int(index)) is None for index in marked)


def read_attributes(path: str | Path) -> dict[str, Any]:
    """What a file says of itself, letter by letter: identity, provenance, certificate."""
    with reading(path) as file:
        return _attributes(path, file)


def _attributes(path: str | Path, file: h5py.File) -> dict[str, Any]:
    attributes = files.read_attributes(file)
    check_attributes(Path(path), attributes)
    return attributes


def vectors_are_saved(attributes: Mapping[str, Any]) -> bool:
    """Whether a file holds center and directions, or their recipe and their fingerprints alone."""
    return attributes.get("vectors") != "recipe"


def read_direction(path: str | Path, name: str) -> tuple[NDArray[np.float32], list[str]]:
    """One flat vector of a file (`center`, `alpha` or `beta`) and the names of its tensors.

    Raises:
        LandscapeError: The file has no such vector, or it is damaged, or `alpha` has several: see `read_lines`.
    """
    with reading(path) as file:
        there = [known for known in VECTORS if holds(file, f"directions/{known}")]
        if name not in there:
            if not vectors_are_saved(files.read_attributes(file)):
                raise LandscapeError(
                    f"{path}: holds no vectors, as it was computed with compute.save_vectors: false; make the direction again as "
                    f"its configuration says (inspect --json shows it), or use a file that was computed with them"
                )
            raise LandscapeError(f"{path}: holds no direction {name!r}; it has {', '.join(there)}")
        return vector_of(file, path, name), names_of(file, path)


def names_of(file: h5py.File, path: str | Path) -> list[str]:
    """The names of the tensors in the order of the flat vectors."""
    check_datasets(Path(path), file, {"directions/tensor_name": ((None,), "O")})
    return [text.decode() for text in file["directions/tensor_name"][...]]


def read_names(path: str | Path) -> list[str]:
    """As `names_of`, also of a file without vectors."""
    with reading(path) as file:
        return names_of(file, path)


def read_lines(path: str | Path) -> list[NDArray[np.float32]]:
    """The directions of several lines, in the order of their seeds.

    Raises:
        LandscapeError: The file has no such vectors, or they are damaged.
    """
    with reading(path) as file:
        check_datasets(Path(path), file, {"directions/alpha": ((None, None), "f4")})
        check_vector(file, path, "alpha")
        return list(file["directions/alpha"][...])


def vector_of(file: h5py.File, path: str | Path, name: str) -> NDArray[np.float32]:
    """A flat vector whose values fit the fingerprint that the file has of it, if it has one.

    Raises:
        LandscapeError: It is not there, or damaged, or it is one of several lines.
    """
    if holds(file, "repeat") and name != "center":
        raise LandscapeError(
            f"{path}: holds several lines, each with a direction of its own; valid is a file with one, or kind: random with "
            f"the seed of the line"
        )
    check_datasets(Path(path), file, {f"directions/{name}": ((None,), "f4")})
    vector: NDArray[np.float32] = file[f"directions/{name}"][...]
    _check_print(file, path, name, [vector])
    return vector


def check_vector(file: h5py.File, path: str | Path, name: str) -> None:
    """Refuse a vector, or those of several lines, that does not fit its fingerprint.

    Raises:
        LandscapeError: It is not there, or damaged.
    """
    if not holds(file, "repeat") or name == "center":
        vector_of(file, path, name)
        return
    check_datasets(Path(path), file, {f"directions/{name}": ((file["repeat"].size, None), "f4")})
    lines = file[f"directions/{name}"]
    # One at a time: together they may take more memory than a line.
    _check_print(file, path, name, (lines[place] for place in range(len(lines))))


def _check_print(
    file: h5py.File, path: str | Path, name: str, vectors: Iterable[NDArray[np.float32]]
) -> None:
    known = identity.of_attributes(files.read_attributes(file)).get(
        name if name == "center" else f"direction_{name}"
    )
    if known is not None and identity.fingerprint(*vectors) != known:
        raise damaged(path, f"directions/{name}")


def _products(path: Path, attributes: Mapping[str, Any], grid: Grid) -> Any:
    """What finds the products of the vectors: in the attributes, or of before from the vectors themselves."""
    num_vectors = 2 if grid.beta is None else 3
    if decay.are_in(attributes):
        lines = max(1, len(grid.seeds))
        return partial(decay.of_attributes, str(path), decay.only(attributes), num_vectors, lines)
    return partial(read_products, path.absolute(), num_vectors)


def read_products(path: Path, num_vectors: int) -> dict[str, NDArray[np.float64]]:
    """The products of a file's vectors, computed anew; see `decay.products`.

    Raises:
        LandscapeError: It has no vectors, or they are damaged.
    """
    with reading(path) as file:
        if not all(holds(file, f"directions/{name}") for name in VECTORS[:num_vectors]):
            raise LandscapeError(f"{path}: holds no vectors, and nothing of their norms")
        vectors = [vector_of(file, path, name) for name in VECTORS[:num_vectors]]
        check_datasets(
            path,
            file,
            {"directions/tensor_kind": ((None,), "O"), "directions/tensor_offset": ((None,), "i8")},
        )
        kinds = [text.decode() for text in file["directions/tensor_kind"][...]]
        starts = file["directions/tensor_offset"][...].tolist()
        ends = [*starts[1:], vectors[0].size]
        if len(kinds) != len(starts) or starts[:1] != [0] or any(map(operator.gt, starts, ends)):
            raise damaged(path, "directions/tensor_offset")
        return decay.products(list(zip(kinds, starts, ends, strict=True)), vectors)


@contextmanager
def reading(path: str | Path) -> Iterator[h5py.File]:
    """A surface file, open for as long as the `with` lasts; what goes wrong in it names the file."""
    with damage_named(Path(path)), schema.open_file(Path(path), "r") as file:
        yield file


def _check_order(path: Path, file: h5py.File, name: str, num_examples: int) -> None:
    """The order of a split's examples has each of them once."""
    check_datasets(path, file, {name: ((num_examples,), "i8")})
    if not np.array_equal(np.sort(file[name][...]), np.arange(num_examples)):
        raise LandscapeError(f"{path}: is damaged: {name} is no order of {num_examples} examples")


def damaged(path: str | Path, name: str) -> LandscapeError:
    """What to say of a part of a file that is not as it was made."""
    return LandscapeError(
        f"{path}: {name} is damaged, its values are not those that the file was made with; use another copy of the file, "
        f"or --overwrite to compute it anew"
    )
