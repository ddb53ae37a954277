"""Surfaces with batch normalization's statistics made anew at every point, by a pass over the training data."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from contextlib import closing

import numpy as np
from torch import Tensor

from mpi_landscape.evaluation.anywhere import Anywhere
from mpi_landscape.evaluation.batch_norm import normalizations
from mpi_landscape.evaluation.probe import Setting
from mpi_landscape.evaluation.sums import Floats, add_in_order
from mpi_landscape.evaluation.vectors import Point
from mpi_landscape.loading.batches import Batch
from mpi_landscape.loading.sharing import Pause
from mpi_landscape.placement.anywhere import anywhere, recompute, training_split
from mpi_landscape.placement.placing import Placed
from mpi_landscape.surfaces.request import Request

# Bytes of statistics that are kept: the next tile is often of the same points, for another split.
_KEPT_BYTES = 2**26


def recomputes(request: Request) -> bool:
    """Whether statistics are made anew: so it is asked for, and there are some.

    Raises:
        LandscapeError: It is asked for, and a module gathers its statistics in a way of its own.
    """
    return request.compute.batch_norm == "recomputed" and bool(normalizations(request.problem.model))


class Recomputing:
    """The loss at points of a plane, each with its own statistics; of `Evaluator` it has what a tile needs.

    The network itself is moved, as by `Reference`. The bits depend on the batches of the training split and on the point
    alone: not on which tiles a rank had before.

    Args:
        setting: Network, loss and plane.
        placed: The data.
    """

    def __init__(self, setting: Setting, placed: Placed) -> None:
        self._placed, self._reference = placed, setting.reference()
        self._network: Anywhere = anywhere(placed)
        self._known: dict[Point, dict[str, Tensor]] = {}
        self._bytes = 0

    def __enter__(self) -> Recomputing:
        self._network.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._network.__exit__(*error)

    def tile(
        self, pieces: Iterable[Sequence[Batch]], points: Sequence[Point], between: Pause | None = None
    ) -> Floats:
        """(len(points), num_columns) float64: sums over the batches at several points; as `Evaluator.tile`.

        Raises:
            LandscapeError: The network or the loss raised for a batch.
        """
        statistics = [self._statistics(point, between) for point in points]
        sums: list[Floats | None] = [None] * len(points)
        for piece in pieces:
            for number, (point, found) in enumerate(zip(points, statistics, strict=True)):
                with self._reference.at(point):
                    self._network.put(found)
                    rows, before = self._network.batch_sums(piece, between), sums[number]
                sums[number] = add_in_order(rows if before is None else np.concatenate([before[None], rows]))
        return np.stack([each for each in sums if each is not None])

    def seconds(self) -> float:
        """What a pass for the statistics takes this rank, from a batch for each of its threads."""
        examples = self._placed.splits[training_split(self._placed)]
        count = min(self._placed.threads, examples.num_batches)
        start = time.perf_counter()
        with self._reference.at(()), closing(examples.pieces(0, count)) as pieces:
            self._network.recompute_statistics(pieces)
        return (time.perf_counter() - start) * examples.num_batches / count

    def _statistics(self, point: Point, between: Pause | None) -> dict[str, Tensor]:
        """Those of the training split at a point."""
        known = self._known.get(point)
        if known is not None:
            return known
        with self._reference.at(point):
            found = recompute(self._network, self._placed, between)
        size = sum(each.nbytes for each in found.values())
        while self._known and self._bytes + size > _KEPT_BYTES:
            oldest = self._known.pop(next(iter(self._known)))
            self._bytes -= sum(each.nbytes for each in oldest.values())
        self._known[point] = found
        self._bytes += size
        return found


def words(placed: Placed) -> str:
    """What is done, for the identity and for people."""
    split = training_split(placed)
    examples = placed.splits[split]
    return f"recomputed over {split}, {examples.num_examples} examples in batches of {examples.batch_size}"
