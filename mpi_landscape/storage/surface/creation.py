"""A new surface file: complete, with nothing done in it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from mpi_landscape.plan.grid import Grid
from mpi_landscape.plan.quantities import Quantities, units_of
from mpi_landscape.plan.tiles import Plan
from mpi_landscape.storage.dimensions import Dimensions
from mpi_landscape.storage.files import allocated, appearing, write_attributes
from mpi_landscape.storage.surface import decay
from mpi_landscape.storage.surface.labelled import LONG_NAMES
from mpi_landscape.storage.surface.points import NamedPoint, write_points
from mpi_landscape.storage.surface.schema import SCHEMA, TARGET, arrays, results, size_of_arrays
from mpi_landscape.storage.texts import stored, stored_all


@dataclass(frozen=True, kw_only=True)
class Contents:
    """Everything that is fixed when a file is created.

    Attributes:
        grid: The points.
        plan: The tiles.
        quantities: What is known at a point.
        center: (num_parameters,) float32.
        directions: `alpha`, and `beta` for a surface: (num_parameters,) float32 each; of several lines one for each.
        layout: One mapping per tensor of the flat vectors: name, shape, offset, kind.
        attributes: Identity, provenance, certificate: texts and numbers by name.
        orders: For a plan of samples, the order in which each split's examples are held: (N,) int64 by split.
        save_vectors: Whether center and directions are stored, or only what they are made of and their fingerprints.
        points: That have names.
        products: Those of center and directions with each other, by kind of tensor, where there are no such vectors.
    """

    grid: Grid
    plan: Plan
    quantities: Quantities
    center: NDArray[np.float32] = field(default_factory=lambda: np.empty(0, dtype=np.float32))
    directions: Mapping[str, NDArray[np.float32]]
    layout: Sequence[Mapping[str, Any]]
    attributes: Mapping[str, Any]
    orders: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)
    save_vectors: bool = True
    points: Sequence[NamedPoint] = ()
    products: decay.Products | None = None

    @property
    def vectors(self) -> dict[str, NDArray[np.float32]]:
        """Center and directions, by their names in the file."""
        return {"center": self.center, **self.directions}


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


def _size(contents: Contents) -> int:
    """Bytes that a file takes, or more."""
    size = size_of_arrays(contents.grid, contents.plan, contents.quantities)
    size += sum(2 * order.nbytes + 2**14 for order in contents.orders.values())
    size += sum(vector.nbytes for vector in contents.vectors.values()) if contents.save_vectors else 0
    # Generous for what is small: coordinates, layout and attributes.
    return size + sum(len(str(fact)) for fact in [*contents.attributes.values(), *contents.layout]) + 2**16


def _fill(file: h5py.File, contents: Contents) -> None:
    grid, plan = contents.grid, contents.plan
    dimensions = Dimensions(file)
    dimensions.coordinate("alpha", grid.alpha.values, LONG_NAMES["alpha"])
    if grid.beta is not None:
        dimensions.coordinate("beta", grid.beta.values, LONG_NAMES["beta"])
    if grid.seeds:
        seeds = np.array(grid.seeds, dtype=np.int64)
        dimensions.coordinate("repeat", seeds, LONG_NAMES["repeat"])
    axes = ("alpha", "repeat" if grid.seeds else "beta")[: len(grid.shape)]
    kind_of = results(plan, contents.quantities)
    for name, (shape, dtype, empty) in arrays(grid, plan, contents.quantities).items():
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
            dataset.attrs["units"] = stored(units_of(kind_of[name], contents.quantities.loss_units))
            dataset.attrs["long_name"] = stored(name.replace("_", " "))
    file["tiles"].attrs["sums"] = stored(", ".join(contents.quantities.columns))
    _write_samples(file, contents, dimensions)
    _write_directions(file, contents, dimensions)
    write_points(file, contents.points, dimensions)
    of_the_schema = {
        "schema": SCHEMA,
        "points_per_tile": plan.points_per_tile,
        "splits": ", ".join(split for split, _ in plan.shards),
        "shards": np.array([count for _, count in plan.shards], dtype=np.int64),
        **({"strips": grid.strips} if grid.strips else {}),
        # Not said where they are: so are all files of before.
        **({} if contents.save_vectors else {"vectors": "recipe"}),
    }
    write_attributes(
        file, {**contents.attributes, **decay.as_attributes(_products(contents)), **of_the_schema}
    )


def _products(contents: Contents) -> dict[str, NDArray[np.float64]]:
    """From which ‖θ(α, β)‖² follows at every point."""
    if contents.products is not None:
        return decay.by_set(contents.products)
    tensors = [
        (row["kind"], row["offset"], row["offset"] + math.prod(row["shape"])) for row in contents.layout
    ]
    if not contents.grid.seeds:
        return decay.products(tensors, list(contents.vectors.values()))
    # Of each line by itself, one after the other.
    lines = [decay.products(tensors, [contents.center, vector]) for vector in contents.directions.values()]
    return {name: np.concatenate([each[name] for each in lines]) for name in lines[0]}


def _write_samples(file: h5py.File, contents: Contents, dimensions: Dimensions) -> None:
    """The order of the examples, and how it is cut into strata and levels."""
    for split, order in contents.orders.items():
        sample = contents.plan.sample(split)
        columns = {"order": order, "strata": sample.strata, "examples": sample.examples}
        for name, column in columns.items():
            dataset = file.create_dataset(f"tiles/{split}_{name}", data=np.array(column, dtype=np.int64))
            dimension = f"{split}_example" if name == "order" else f"{split}_shard"
            dimensions.name(dataset, (dimension,), "tiles/")
        if sample.largest:
            dataset = file.create_dataset(f"tiles/{split}_largest", data=np.array(sample.largest))
            dimensions.name(dataset, (f"{split}_shard",), "tiles/")


def _write_directions(file: h5py.File, contents: Contents, dimensions: Dimensions) -> None:
    """The flat vectors, and the table that says which tensor lies where in them."""
    group = file.create_group("directions")
    vectors: Mapping[str, NDArray[np.float32]] = contents.vectors if contents.save_vectors else {}
    if vectors and contents.grid.seeds:
        vectors = {"center": contents.center}
        lines = group.create_dataset(
            "alpha", shape=(len(contents.directions), contents.center.size), dtype="f4"
        )
        for place, vector in enumerate(contents.directions.values()):
            lines[place] = vector
        dimensions.name(lines, ("repeat", "parameter"), "directions/")
    for name, vector in vectors.items():
        dimensions.name(group.create_dataset(name, data=vector), ("parameter",), "directions/")
    columns = {
        "tensor_name": stored_all(row["name"] for row in contents.layout),
        "tensor_shape": stored_all(",".join(map(str, row["shape"])) for row in contents.layout),
        "tensor_kind": stored_all(row["kind"] for row in contents.layout),
        "tensor_offset": np.array([row["offset"] for row in contents.layout], dtype=np.int64),
    }
    for name, column in columns.items():
        dimensions.name(group.create_dataset(name, data=column), ("tensor",), "directions/")
