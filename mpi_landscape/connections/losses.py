"""The losses along a path and along the straight line between its ends, and the checkpoints of its pivots."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mpi_landscape.connections import folder as files
from mpi_landscape.connections.curve import Curve, line
from mpi_landscape.connections.space import Space
from mpi_landscape.evaluation.anywhere import Anywhere
from mpi_landscape.evaluation.batch_norm import normalizations
from mpi_landscape.placement.anywhere import recompute, rows_of_splits
from mpi_landscape.placement.placing import Placed
from mpi_landscape.storage.connection.schema import LINE
from mpi_landscape.work.item_file import EachItem
from mpi_landscape.work.job import Job, Row

Floats = NDArray[np.float64]
# What is nearer than this to a pivot is the pivot.
_APART = 1e-9


@dataclass(frozen=True, kw_only=True)
class Along:
    """A path that was found, and the network that is put on it.

    Attributes:
        placed: The problem on its device.
        network: Its network, entered.
        space: What moves.
        curve: The path.
        batch_norm: `stored`, `interpolated` or `recomputed`.
    """

    placed: Placed
    network: Anywhere
    space: Space
    curve: Curve
    batch_norm: str

    def put(self, vector: Tensor, t: float, between: Callable[[], None]) -> None:
        """The network with these parameters, and what else it has at t."""
        buffers = [name for name, _ in self.placed.problem.model.named_buffers()]
        self.network.put(
            {**self.space.parameters(vector, t), **buffers_at(self.space, buffers, t, self.batch_norm)}
        )
        if self.batch_norm == "recomputed":
            recompute(self.network, self.placed, between)

    def row(self, t: float, between: Callable[[], None]) -> Row:
        """(2, num_splits, num_columns): the sums of every split on the path and on the straight line."""
        ends = self.curve.controls[[0, -1]]
        straight = line(ends[0], ends[1])
        found = []
        for curve in (self.curve, straight) if len(self.curve.controls) > 2 else (straight,):
            self.put(curve.point(t), t, between)
            found.append(rows_of_splits(self.network, self.placed, between))
        return np.stack([found[0], found[-1]])

    def results(self, row: Row) -> dict[str, float]:
        """What a row makes known, by dataset."""
        shape = (2, len(self.placed.splits), len(self.placed.quantities.columns))
        found = {}
        for prefix, sums in zip(("", LINE), row.reshape(shape), strict=True):
            values = self.placed.quantities.values(sums)
            for number, split in enumerate(self.placed.splits):
                for kind, value in values.items():
                    found[f"{prefix}{split}_{kind}"] = float(value[number])
        return found


def buffers_at(space: Space, names: list[str], t: float, batch_norm: str) -> dict[str, Tensor]:
    """Buffers at t: straight from one end to the other, or those of the nearer end, which are `stored` in a checkpoint.

    What will be recomputed begins with those of the way straight.
    """
    if batch_norm == "stored":
        t = 0.0 if t < 0.5 else 1.0
    return space.straight(names, t)


def chosen_batch_norm(said: str, placed: Placed) -> str:
    """What `compute.batch_norm` means for a path: `auto` is recomputed where the network has such statistics."""
    if said != "auto":
        return said
    if not has_statistics(placed) or placed.precision.kept:
        return "interpolated"
    normalizations(placed.problem.model)  # refuses those of which nobody knows how they gather
    return "recomputed"


def has_statistics(placed: Placed) -> bool:
    """Whether the network has running statistics."""
    return any(getattr(module, "running_mean", None) is not None for module in placed.problem.model.modules())


def job_along(along: Along, places: Floats) -> Job:
    """The losses at every t as a job."""
    num_columns = len(along.placed.quantities.columns)
    return Job(
        num_items=len(places),
        row_size=2 * len(along.placed.splits) * num_columns,
        evaluate=lambda item, between: along.row(float(places[item]), between),
        account=lambda: EachItem(len(places), lambda _, row: along.results(row)),
        units="points",
        points="points",
    )


def pivots_job(along: Along, folder: Path, of: str) -> Job:
    """The checkpoint of every control of the path as a job; those that are there already stay.

    Args:
        along: The path.
        folder: Where they go.
        of: What tells this path from others.
    """

    def evaluate(number: int, between: Callable[[], None]) -> Row:
        path = files.pivot_file(folder, number)
        if not files.has_pivot(path, of):
            along.put(along.curve.controls[number], along.curve.places[number], between)
            with torch.no_grad():
                files.keep_pivot(path, _state(along), of)
        return np.zeros(1)

    count = len(along.curve.controls)
    return Job(
        num_items=count,
        row_size=1,
        evaluate=evaluate,
        account=lambda: EachItem(count, lambda _item, _row: {}),
        units="checkpoints",
        points="checkpoints",
        is_shown=False,
    )


def _state(along: Along) -> Mapping[str, Tensor]:
    """What the network holds, under all of its names."""
    found = along.placed.problem.model.state_dict()
    return {name: value for name, value in found.items() if isinstance(value, Tensor)}


def places_of(curve: Curve, num_points: int) -> Floats:
    """The t at which losses are kept, increasing: even ones, and those of the pivots of a chain.

    Example:
        >>> from mpi_landscape.connections.curve import chain
        >>> places_of(chain(torch.zeros(3, 1), [0.0, 0.3, 1.0]), 3).tolist()
        [0.0, 0.3, 0.5, 1.0]
    """
    even = np.arange(num_points) / (num_points - 1)
    if curve.kind != "chain":
        return even
    own = np.array(curve.places)
    apart = np.abs(even[:, None] - own[None, :]).min(axis=1) > _APART
    return np.sort(np.concatenate([even[apart], own]))
