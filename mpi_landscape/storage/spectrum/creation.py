"""Making a spectrum file: whole, with nothing done in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from mpi_landscape.storage import files
from mpi_landscape.storage.dimensions import Dimensions
from mpi_landscape.storage.spectrum.schema import KIND, SCHEMA, Shape, as_attributes
from mpi_landscape.storage.texts import stored, stored_all

_NAMES = {
    "eigenvalues": ("value",),
    "residuals": ("value",),
    "eigenvectors": ("kept", "parameter"),
    "num_products": ("run",),
    "density/nodes": ("probe", "step"),
    "density/weights": ("probe", "step"),
    "density/trace": ("probe",),
    "density/square": ("probe",),
}
_WORDS = {
    "eigenvalues": "largest eigenvalues, descending, then the smallest, descending",
    "residuals": "length of H v − λ v for the unit vector v of each eigenvalue",
    "eigenvectors": "eigenvectors of length 1, the number of greatest size positive",
    "gradient_norm": "norm of the gradient of the mean loss over these parameters",
    "noise": "error of a product relative to its length, from rounding",
    "count": "by how much all examples count in the mean",
    "num_products": "products with the Hessian: of the ends, then of each probe",
    "density/nodes": "nodes of the quadrature of each probe over the spectrum without the eigenvalues above",
    "density/weights": "weights of the nodes, in each probe the share of the eigenvalues that are not above",
    "density/trace": "what each probe says of the sum of the eigenvalues that are not above",
    "density/square": "what each probe says of the sum of their squares",
    "trace": "trace, from the eigenvalues and the probes",
    "trace_stderr": "standard error of the trace",
    "frobenius": "Frobenius norm",
    "frobenius_stderr": "standard error of the Frobenius norm",
}
_SCALARS = "one"


@dataclass(frozen=True, kw_only=True)
class Tensors:
    """Which tensor lies where in a vector.

    Attributes:
        names: Of the tensors.
        shapes: Of their real numbers, such as `16,3,3,3`.
        offsets: (num_tensors,) int64.
    """

    names: Sequence[str]
    shapes: Sequence[str]
    offsets: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class SpectrumContents:
    """Everything that is fixed when a file is made.

    Attributes:
        shape: How much there is of everything.
        kept: (num_kept,) which eigenvalues the vectors are of.
        tensors: The vectors' order.
        loss_units: Units of the loss.
        attributes: Identity, provenance: texts and numbers by name.
    """

    shape: Shape
    kept: Sequence[int]
    tensors: Tensors
    loss_units: str = "1"
    attributes: Mapping[str, Any] = field(default_factory=dict)


def create_spectrum(path: Path, contents: SpectrumContents) -> None:
    """Write a complete file with nothing done in it, and move it into place; an existing one is replaced.

    Raises:
        LandscapeError: The folder cannot be written.
    """
    shape = contents.shape
    with files.appearing(path, size=size_of(contents)) as file:
        dimensions = Dimensions(file)
        for name, (extent, dtype, empty) in shape.arrays().items():
            dataset = files.allocated(file, name, extent, dtype, empty)
            if name.startswith("items/"):
                dimensions.name(dataset, ("item",), "items/")
                continue
            part = next((each for each in shape.parts if each and name.startswith(each)), "")
            own = name.removeprefix(part)
            dimensions.name(dataset, _NAMES.get(own, (_SCALARS,)), "")
            _describe(dataset, own, part, contents.loss_units)
        for part in shape.parts if shape.num_kept else ():
            index = file.create_dataset(f"{part}eigenvector_index", data=np.array(contents.kept, np.int64))
            dimensions.name(index, ("kept",), "")
        tensors = contents.tensors
        for name, values in (
            ("tensor_name", stored_all(tensors.names)),
            ("tensor_shape", stored_all(tensors.shapes)),
            ("tensor_offset", np.asarray(tensors.offsets, dtype=np.int64)),
        ):
            dimensions.name(file.create_dataset(f"parameters/{name}", data=values), ("tensor",), "")
        files.write_attributes(
            file,
            {**contents.attributes, **as_attributes(shape), "kind": KIND, "schema": SCHEMA},
        )


def size_of(contents: SpectrumContents) -> int:
    """Bytes that a file takes, or more."""
    size = sum(int(np.prod(extent)) * dtype.itemsize for extent, dtype, _ in contents.shape.arrays().values())
    texts = [*contents.tensors.names, *contents.tensors.shapes]
    longest = max([1, *(4 * len(each) for each in texts)])
    attributes = sum(len(str(each)) for each in contents.attributes.values())
    # Generous for what is small: attributes and the headers of datasets.
    return size + len(texts) * (longest + 8) + attributes + 2**17


def _describe(dataset: h5py.Dataset, name: str, part: str, loss_units: str) -> None:
    plain = {"num_products", "count", "density/weights", "noise", "eigenvectors"}
    units = "1" if name in plain or part else loss_units if name == "loss" else f"{loss_units} per unit²"
    if name == "gradient_norm" and not part:
        units = f"{loss_units} per unit"
    if name == "loss":
        units = loss_units
    where = " in filter-normalized coordinates" if part else ""
    dataset.attrs["units"] = stored(units)
    dataset.attrs["long_name"] = stored(_WORDS.get(name, name.replace("_", " ")) + where)
