"""Reading a spectrum file, finished or not, without torch and without MPI."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from mpi_landscape.errors import LandscapeError
from mpi_landscape.storage import files
from mpi_landscape.storage.cells import DONE
from mpi_landscape.storage.item_file import read_item_attributes, read_variable
from mpi_landscape.storage.soundness import damage_named, whole_numbers
from mpi_landscape.storage.spectrum.schema import (
    KIND,
    MOMENTS,
    NORMALIZED,
    PLAIN,
    Shape,
    open_items,
    open_spectrum_file,
    read_shape,
)
from mpi_landscape.storage.spectrum.value import Spectrum, moments_of
from mpi_landscape.storage.surface.ending import Ended


def is_spectrum(path: str | Path) -> bool:
    """Whether a file is one of a spectrum by its content; False for one that cannot be opened."""
    return files.kind_of(path) == KIND


@contextmanager
def _reading(path: str | Path) -> Iterator[h5py.File]:
    with damage_named(Path(path)), open_spectrum_file(Path(path), "r") as file:
        yield file


def read_attributes(path: str | Path) -> dict[str, Any]:
    """What a file says of itself, letter by letter."""
    with _reading(path) as file:
        return read_item_attributes(Path(path), file)


def read_spectrum(path: str | Path) -> Spectrum:
    """The spectrum in a file, also while it is being written.

    Args:
        path: A file of `mpi_landscape.hessian`.

    Raises:
        LandscapeError: No such file, or not one of ours.
    """
    place = Path(path)
    with _reading(path) as file:
        attributes = read_item_attributes(place, file)
        shape = read_shape(place, file)
        # Results that a writer adds meanwhile are then not yet shown as done.
        done = file["items/status"][...] == DONE
        found = {part: _part(place, file, shape, part, done, attributes) for part in shape.parts}
    normalized = found.get(NORMALIZED)
    return found[PLAIN] if normalized is None else _with(found[PLAIN], normalized)


def _with(plain: Spectrum, normalized: Spectrum) -> Spectrum:
    from dataclasses import replace

    ending = Ended.FINISHED if plain.done.all() and normalized.done.all() else Ended.UNFINISHED
    return replace(plain, normalized=normalized, ending=ending)


def _part(
    path: Path,
    file: h5py.File,
    shape: Shape,
    part: str,
    done: NDArray[np.bool_],
    attributes: dict[str, Any],
) -> Spectrum:
    """The spectrum in one kind of coordinates; what is not done is NaN, whatever a killed writer has left there."""
    item = shape.ends_of(part)
    own = done[item : item + 1 + shape.num_probes]
    nothing = np.empty((0, shape.num_steps))

    def ends(name: str) -> NDArray[np.float64]:
        values: NDArray[np.float64] = file[f"{part}{name}"][...]
        return values if own[0] else np.full_like(values, np.nan)

    def probes(name: str) -> NDArray[np.float64]:
        values: NDArray[np.float64] = file[f"{part}density/{name}"][...] if shape.num_probes else nothing
        values[~own[1:]] = np.nan
        return values

    num_largest = whole_numbers(path, file, "num_largest")
    if len(num_largest) != 1 or not 0 <= num_largest[0] <= shape.num_values:
        raise LandscapeError(f"{path}: is damaged: its attribute num_largest is no number of eigenvalues")
    kept = (
        read_variable(path, file, f"{part}eigenvector_index", (shape.num_kept,), "i8")
        if shape.num_kept
        else np.empty(0, dtype=np.int64)
    )
    eigenvalues, nodes, weights = ends("eigenvalues"), probes("nodes"), probes("weights")
    products = np.where(own, file[f"{part}num_products"][...], np.nan)
    counted = own[1:]
    first, second = (probes(name)[counted] if shape.num_probes else np.empty(0) for name in MOMENTS)
    residuals = ends("residuals")
    return Spectrum(
        path=str(path),
        eigenvalues=eigenvalues,
        residuals=residuals,
        num_largest=num_largest[0],
        nodes=nodes,
        weights=weights,
        num_parameters=shape.num_parameters,
        loss=float(ends("loss")[0]),
        gradient_norm=float(ends("gradient_norm")[0]),
        noise=float(ends("noise")[0]),
        num_products=products,
        moments=moments_of(eigenvalues, residuals, first, second, is_exact=shape.is_exact(weights[counted])),
        kept=kept,
        done=own,
        attributes=files.readable(attributes),
        ending=Ended.FINISHED if own.all() else Ended.UNFINISHED,
    )


@dataclass(frozen=True, kw_only=True)
class Eigenvector:
    """One eigenvector of a file.

    Attributes:
        value: Its eigenvalue.
        vector: (n,) float32, of length 1.
        tensors: By name of a tensor, its first place in the vector.
    """

    value: float
    vector: NDArray[np.float32]
    tensors: dict[str, int]


def read_eigenvector(path: str | Path, index: int) -> Eigenvector:
    """An eigenvector of a finished part of a file.

    Args:
        path: A spectrum file.
        index: 0 for that of the largest eigenvalue, 1 for the next, ...; -1 for that of the least.

    Raises:
        LandscapeError: The file does not have it, or it is damaged.
    """
    place = Path(path)
    with _reading(path) as file:
        shape = read_shape(place, file)
        if not shape.num_kept:
            raise LandscapeError(
                f"{path}: has no eigenvectors; compute it with hessian.eigenvectors: 1 in a new file"
            )
        kept: list[int] = read_variable(place, file, "eigenvector_index", (shape.num_kept,), "i8").tolist()
        top = whole_numbers(place, file, "num_largest")[0]
        number = index + shape.num_values if index < 0 else index
        # Numbers below 0 are of the lower end, which may not have been looked for.
        if number not in kept or (index < 0) != (number >= top):
            numbers = [str(each if each < top else each - shape.num_values) for each in kept]
            raise LandscapeError(
                f"{path}: has no eigenvector {index}; it has {', '.join(numbers)} (0 is that of the largest eigenvalue, -1 that "
                f"of the least)"
            )
        at = kept.index(number)
        value, row = float(file["eigenvalues"][number]), file["eigenvectors"][at]
        names = read_variable(place, file, "parameters/tensor_name", (None,), "O")
        offsets = read_variable(place, file, "parameters/tensor_offset", (len(names),), "i8").tolist()
    with open_items(place, mode="r") as store:
        if store.read(shape.ends_of(PLAIN)) is None:
            raise LandscapeError(
                f"{path}: its eigenvectors are not there yet, or are damaged; run the command that made it again"
            )
    if not np.isfinite(row).all():
        raise LandscapeError(f"{path}: eigenvector {index} is not finite, as the loss is not there")
    return Eigenvector(value=value, vector=row, tensors=dict(zip(names, offsets, strict=True)))
