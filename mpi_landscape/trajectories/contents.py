"""What a trajectory file holds from the beginning, and what defines its numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from mpi_landscape.geometry.directions import cosine, dot
from mpi_landscape.parallel.devices import device_name
from mpi_landscape.storage import identity
from mpi_landscape.storage.identity import fingerprint
from mpi_landscape.storage.item_file import ItemContents, Variable
from mpi_landscape.storage.provenance import provenance
from mpi_landscape.storage.trajectory.reader import KIND
from mpi_landscape.trajectories.axes import Located, Opened
from mpi_landscape.trajectories.losses import Losses, columns_of, results_of


def identity_of(losses: Losses, opened: Opened, located: Located) -> dict[str, str]:
    """By name, in the order in which differences are told."""
    request, placed, plane = losses.request, losses.placed, located.plane
    where = [located.coordinates, located.distances]
    rest = np.frombuffer(" ".join(opened.rest).encode(), dtype=np.uint8)
    further = losses.quantities.returned
    return {
        "axes": request.said.axes,
        "checkpoints": f"{len(request.paths)} ({fingerprint(*where, rest)})",
        "epochs": fingerprint(np.array([epoch for way in request.ways for epoch in way.epochs])),
        "center": fingerprint(plane.center.numpy()),
        **{f"direction_{name}": fingerprint(vector.numpy()) for name, vector in plane.directions.items()},
        **{f"data_{split}": examples.identity for split, examples in placed.splits.items()},
        "precision": request.compute.precision,
        **({"batch_norm": "recomputed"} if request.compute.batch_norm == "recomputed" else {}),
        "plan": f"batches of {placed.batch_size}",
        "loss": placed.problem.loss_text,
        **({"quantities": ", ".join(further)} if further else {}),
    }


def contents_of(
    losses: Losses, located: Located, attributes: Mapping[str, Any], own: Mapping[str, str]
) -> ItemContents:
    """What a new file holds.

    Args:
        losses: What is computed into it.
        located: The checkpoints in their plane.
        attributes: More for the file to say of itself.
        own: Its identity.
    """
    request, placed, plane = losses.request, losses.placed, located.plane
    quantities, splits = losses.quantities, placed.splits
    alpha, beta = plane.directions.values()
    return ItemContents(
        kind=KIND,
        num_items=len(request.paths),
        columns=columns_of(quantities, splits),
        dimension="checkpoint",
        results=results_of(quantities, splits),
        fixed={**_path_of(losses, located), **_vectors_of(located)},
        attributes={
            **provenance(),
            **attributes,
            **identity.as_attributes(own),
            "axes": request.said.axes,
            "center": request.center,
            "splits": ", ".join(splits),
            "cosine": cosine(alpha, beta),
            "expected_cosine": located.expected_cosine,
            **{f"{name}_random_cosines": np.array(each) for name, each in located.cosines.items()},
            **{f"{name}_norm": math.sqrt(dot(vector, vector)) for name, vector in plane.directions.items()},
            **{f"{name}_variation": share for name, share in located.shares.items()},
            "device": device_name(placed.device),
            "threads_per_rank": str(placed.threads),
            "batch_size": placed.batch_size,
            "arithmetic": placed.arithmetic,
        },
    )


def _path_of(losses: Losses, located: Located) -> dict[str, Variable]:
    """What is known of the checkpoints before their losses."""
    ways = losses.request.ways
    of_checkpoint = {
        "epoch": (
            np.array([epoch for way in ways for epoch in way.epochs], dtype=np.int64),
            "epochs of training",
        ),
        "alpha": (
            np.ascontiguousarray(located.coordinates[:, 0]),
            "alpha: coordinate along the first direction",
        ),
        "beta": (
            np.ascontiguousarray(located.coordinates[:, 1]),
            "beta: coordinate along the second direction",
        ),
        "distance": (located.distances, "distance out of the plane, in units of the weights"),
        "from_center": (located.lengths, "distance from the center, in units of the weights"),
        "learning_rate": (
            np.array([rate for way in ways for rate in way.rates]),
            "learning rate of the epoch, 0 before the first",
        ),
        "index": (
            np.array([number for number, way in enumerate(ways) for _ in way.paths], dtype=np.int64),
            "which trajectory",
        ),
    }
    found = {
        f"trajectory/{name}": Variable(values=values, dimensions=("checkpoint",), long_name=words)
        for name, (values, words) in of_checkpoint.items()
    }
    found["trajectory/path"] = Variable(
        values=list(losses.request.paths), dimensions=("checkpoint",), long_name="file of the checkpoint"
    )
    found["trajectory/name"] = Variable(
        values=[way.name for way in ways], dimensions=("number",), long_name="name of the trajectory"
    )
    if located.variation is not None:
        found["trajectory/variation"] = Variable(
            values=located.variation,
            dimensions=("component",),
            long_name="share of each principal component in the variance of the checkpoints",
        )
    return found


def _vectors_of(located: Located) -> dict[str, Variable]:
    """The flat vectors, and the table that says which tensor lies where in them, as in a surface file."""
    plane, entries = located.plane, located.plane.layout.entries
    vectors = {"center": plane.center, **plane.directions}
    table: dict[str, Any] = {
        "tensor_name": [entry.name for entry in entries],
        "tensor_shape": [",".join(map(str, entry.real_shape)) for entry in entries],
        "tensor_kind": [entry.kind for entry in entries],
        "tensor_offset": np.array([entry.offset for entry in entries], dtype=np.int64),
    }
    return {
        **{
            f"directions/{name}": Variable(values=vector.numpy(), dimensions=("parameter",))
            for name, vector in vectors.items()
        },
        **{
            f"directions/{name}": Variable(values=column, dimensions=("tensor",))
            for name, column in table.items()
        },
    }
