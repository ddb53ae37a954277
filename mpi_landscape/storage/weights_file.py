"""Histograms and norms of weights, in a file: everything is written at once, and read by anything that reads netCDF-4."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from mpi_landscape.errors import LandscapeError, printable
from mpi_landscape.storage import files
from mpi_landscape.storage.dimensions import Dimensions
from mpi_landscape.storage.provenance import provenance
from mpi_landscape.storage.soundness import check_datasets, damage_named, text, whole_numbers
from mpi_landscape.storage.texts import stored_all

KIND, SCHEMA = "weights", 1
_ADVICE = "choose another --output"


@dataclass(frozen=True, kw_only=True, eq=False)
class WeightCounts:
    """How the weights of checkpoints of one network are distributed.

    Attributes:
        path: Where it was read from.
        checkpoints: What tells them apart.
        sources: Their files.
        tensors: Names.
        sizes: (num_tensors,) int64, numbers in each.
        counted: (num_tensors,) bool: whose numbers are in the histogram.
        bin_edges: (bins + 1,) float64, ascending.
        count: (num_checkpoints, bins) int64; the last bin has both its ends.
        below: (num_checkpoints,) int64: finite numbers below all bins.
        above: (num_checkpoints,) int64: above all bins.
        not_finite: (num_checkpoints,) int64.
        norm: (num_checkpoints, num_tensors) float64: of every tensor, √Σw².
        attributes: Everything else the file says of itself.
    """

    path: str
    checkpoints: tuple[str, ...]
    sources: tuple[str, ...]
    tensors: tuple[str, ...]
    sizes: NDArray[np.int64]
    counted: NDArray[np.bool_]
    bin_edges: NDArray[np.float64]
    count: NDArray[np.int64]
    below: NDArray[np.int64]
    above: NDArray[np.int64]
    not_finite: NDArray[np.int64]
    norm: NDArray[np.float64]
    attributes: dict[str, Any] = field(default_factory=dict)


# Name in the file -> dimensions.
_COLUMNS = {
    "bin_edges": ("edge",),
    "count": ("checkpoint", "bin"),
    "below": ("checkpoint",),
    "above": ("checkpoint",),
    "not_finite": ("checkpoint",),
    "norm": ("checkpoint", "tensor"),
    "tensor_size": ("tensor",),
    "tensor_counted": ("tensor",),
    "tensor_name": ("tensor",),
    "checkpoint_name": ("checkpoint",),
    "checkpoint_file": ("checkpoint",),
}


def write_weights(path: Path, counts: WeightCounts) -> None:
    """Write a file, whole; an existing one is replaced.

    Raises:
        LandscapeError: The folder cannot be written.
    """
    columns = {
        "bin_edges": counts.bin_edges,
        "count": counts.count,
        "below": counts.below,
        "above": counts.above,
        "not_finite": counts.not_finite,
        "norm": counts.norm,
        "tensor_size": counts.sizes,
        "tensor_counted": counts.counted.astype(np.int64),
        "tensor_name": stored_all(counts.tensors),
        "checkpoint_name": stored_all(counts.checkpoints),
        "checkpoint_file": stored_all(counts.sources),
    }
    size = sum(column.nbytes for column in columns.values()) + 2**16
    with files.appearing(path, size=size, advice=_ADVICE) as file:
        dimensions = Dimensions(file)
        group = file.create_group("weights")
        for name, column in columns.items():
            dimensions.name(group.create_dataset(name, data=column), _COLUMNS[name], "weights/")
        files.write_attributes(file, {"kind": KIND, "schema": SCHEMA, **provenance(), **counts.attributes})


def read_weights_file(path: str | Path) -> WeightCounts:
    """What is in a file.

    Raises:
        LandscapeError: There is no such file, or it is none of weights, or damaged.
    """
    where = Path(path)
    with damage_named(where), files.open_ours(where, "r", "a file of weights") as file:
        if "kind" not in file.attrs or text(where, file, "kind") != KIND:
            raise LandscapeError(f"{path}: is not a file of weights")
        if whole_numbers(where, file, "schema") != [SCHEMA]:
            raise LandscapeError(
                f"{path}: has another schema than {SCHEMA}, which this version reads and writes"
            )
        return replace(_read(where, file), attributes=files.readable(files.read_attributes(file)))


def _read(path: Path, file: h5py.File) -> WeightCounts:
    check_datasets(
        path, file, {f"weights/{name}": ((None,), "O") for name in ("tensor_name", "checkpoint_name")}
    )
    check_datasets(path, file, {"weights/bin_edges": ((None,), "f8")})
    tensors, checkpoints = file["weights/tensor_name"].size, file["weights/checkpoint_name"].size
    edges = file["weights/bin_edges"][...]
    lengths = {"edge": edges.size, "bin": edges.size - 1, "tensor": tensors, "checkpoint": checkpoints}
    kinds = {
        "bin_edges": "f8",
        "norm": "f8",
        "tensor_name": "O",
        "checkpoint_name": "O",
        "checkpoint_file": "O",
    }
    check_datasets(
        path,
        file,
        {
            f"weights/{name}": (tuple(lengths[each] for each in dimensions), kinds.get(name, "i8"))
            for name, dimensions in _COLUMNS.items()
        },
    )
    found = {name: file[f"weights/{name}"][...] for name in _COLUMNS}
    if not (np.isfinite(edges).all() and edges.size > 1 and (np.diff(edges) > 0).all() and checkpoints):
        raise LandscapeError(f"{path}: is damaged: its bins do not increase")
    return WeightCounts(
        path=str(path),
        checkpoints=_texts(found["checkpoint_name"]),
        sources=_texts(found["checkpoint_file"]),
        tensors=_texts(found["tensor_name"]),
        sizes=found["tensor_size"],
        counted=found["tensor_counted"] != 0,
        **{name: found[name] for name in ("bin_edges", "count", "below", "above", "not_finite", "norm")},
    )


def _texts(stored: NDArray[Any]) -> tuple[str, ...]:
    return tuple(printable(each.decode(errors="backslashreplace")) for each in stored)
