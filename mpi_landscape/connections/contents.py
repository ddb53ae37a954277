"""What the file of a path says before its first loss is known."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from mpi_landscape.connections import folder as files
from mpi_landscape.connections.curve import Curve, distance, dot, line
from mpi_landscape.connections.losses import Floats
from mpi_landscape.connections.request import Request
from mpi_landscape.connections.space import Space
from mpi_landscape.parallel.devices import device_name
from mpi_landscape.placement.placing import Placed
from mpi_landscape.plan.quantities import units_of
from mpi_landscape.storage import identity
from mpi_landscape.storage.connection.barriers import BARRIER
from mpi_landscape.storage.connection.schema import KIND, LINE
from mpi_landscape.storage.item_file import ItemContents, Variable
from mpi_landscape.storage.provenance import provenance


def contents_of(
    request: Request,
    placed: Placed,
    space: Space,
    curve: Curve,
    places: Floats,
    *,
    folder: Path,
    defined_by: Mapping[str, str],
    attributes: Mapping[str, Any],
) -> ItemContents:
    """All that a new file holds.

    Args:
        request: What was asked for.
        placed: The problem.
        space: What moves.
        curve: The path that was found.
        places: (num,), the t of its points.
        folder: Where the checkpoints of the path are.
        defined_by: Its identity.
        attributes: More for the file to say of itself.
    """
    lengths = frozen_too(curve, space, places)
    units = placed.quantities.loss_units
    named = {
        f"{prefix}{split}_{kind}": (
            units_of(kind, units),
            f"{split} {kind.replace('_', ' ')} along the {'straight line' if prefix else 'path'}",
        )
        for prefix in ("", LINE)
        for split in placed.splits
        for kind in placed.quantities.kinds
    }
    barriers = {
        f"{prefix}{BARRIER}{split}": Variable(
            values=np.array(np.nan),
            dimensions=(),
            units=units,
            long_name=f"greatest {split} loss along the {'straight line' if prefix else 'path'} minus the larger of its ends",
        )
        for prefix in ("", LINE)
        for split in placed.splits
    }
    numbers = range(len(curve.controls))
    straight = line(curve.controls[0], curve.controls[-1])
    return ItemContents(
        kind=KIND,
        num_items=len(places),
        columns=tuple(
            f"{prefix}{split}_{column}"
            for prefix in ("", LINE)
            for split in placed.splits
            for column in placed.quantities.columns
        ),
        dimension="t",
        coordinate=places,
        results=named,
        fixed={
            **barriers,
            "length": Variable(
                values=lengths,
                dimensions=("t",),
                units="unit of the parameters",
                long_name="length of the path from its start",
            ),
            "pivots/t": Variable(
                values=np.array(curve.places),
                dimensions=("pivot",),
                long_name="where the path passes its pivots, or a bend weighs most",
            ),
            "pivots/distance": Variable(
                values=np.array(
                    [distance(curve.controls[n], straight.point(curve.places[n])) for n in numbers]
                ),
                dimensions=("pivot",),
                units="unit of the parameters",
                long_name="distance of a pivot from the straight line at the same t",
            ),
            "pivots/checkpoint": Variable(
                values=[str(files.pivot_file(folder, number)) for number in numbers],
                dimensions=("pivot",),
                long_name="parameters and buffers of a pivot",
            ),
        },
        attributes={
            **attributes,
            **identity.as_attributes(defined_by),
            "method": request.settings.method,
            "splits": ", ".join(placed.splits),
            "loss_units": units,
            "line_length": float(frozen_too(straight, space, np.array([1.0]))[0]),
            "is_chain": int(curve.kind == "chain"),
            "num_parameters": space.size,
            "batch_size": placed.batch_size,
            "device": device_name(placed.device),
            **provenance(),
        },
    )


def frozen_too(curve: Curve, space: Space, places: Floats) -> Floats:
    """The length of the path until each t, what goes straight beside it counted.

    A curve with further coordinates of constant speed s has the speed (|γ'|² + s²)^½; where there are such, |γ'| is taken for
    constant between two neighbouring points.
    """
    lengths = curve.lengths(places.tolist())
    straight = np.sqrt(sum(_square(space.start[name], space.end[name]) for name in space.frozen))
    if straight == 0:
        return lengths
    steps = np.diff(lengths, prepend=0.0), np.diff(places, prepend=0.0) * straight
    return np.asarray(np.cumsum(np.hypot(*steps)))


def _square(first: Tensor, second: Tensor) -> float:
    between = (second - first).reshape(-1)
    if between.is_complex():
        between = between.abs()
    return dot(between, between)


def plane_command(where: str, curve: Curve, folder: Path, output: Path) -> str:
    """The command that computes the surface through both ends and the pivot that is farthest from the straight line; "" without.

    In it the start lies at (0, 0), the end at (1, 0) and the pivot at (0, 1).
    """
    last = len(curve.controls) - 1
    straight = line(curve.controls[0], curve.controls[-1])
    inner = range(1, last)
    if not inner:
        return ""
    bend = max(inner, key=lambda n: distance(curve.controls[n], straight.point(curve.places[n])))
    directions = {
        axis: {"kind": "difference", "to": str(files.pivot_file(folder, number))}
        for axis, number in (("alpha", last), ("beta", bend))
    }
    said = {
        "model.checkpoint": str(files.pivot_file(folder, 0)),
        "directions": {**directions, "normalization_buffers": "auto"},
        "output": str(output.with_name(f"{output.stem}_plane.h5")),
    }
    options = [
        f"--set {shlex.quote(f'{key}={json.dumps(value, ensure_ascii=False)}')}"
        for key, value in said.items()
    ]
    axes = "--alpha=-0.2:1.2:29 --beta=-0.2:1.2:29"
    return f"python -m mpi_landscape.surface {shlex.quote(where)} {axes} {' '.join(options)}"
