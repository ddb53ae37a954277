"""A look, now and then while the work goes on, at what was computed: the network itself evaluates some of it again.

What a few examples show at a few points before the work is not all that can happen. Looking takes a fixed share of the time
that the tiles take, so a long job is looked at often. It changes no number: it finds nothing, or it stops the job.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing

import numpy as np

from mpi_landscape.errors import LandscapeError
from mpi_landscape.evaluation.choosing import Choice
from mpi_landscape.evaluation.engine.description import Engine
from mpi_landscape.evaluation.evaluator import Evaluator
from mpi_landscape.evaluation.precision import Precision
from mpi_landscape.evaluation.probe import TOLERANCES, NetworkProbe, Setting
from mpi_landscape.evaluation.reference import Reference
from mpi_landscape.evaluation.sums import NUM_SUMS, Floats
from mpi_landscape.evaluation.vectors import Point
from mpi_landscape.loading.batches import Batch
from mpi_landscape.wording import rounded

# Of the time that tiles take.
SHARE = 0.01
# Batches that are worth a look, where a shard has more.
_LEAST = 2
# How much slower the network itself is taken to be before it was measured.
_SLOWER = 4.0
# Relative, of losses in an approximate precision: its own error is measured elsewhere.
_APPROXIMATE = 0.1

Pieces = Callable[[int, int], Generator[Sequence[Batch], None, None]]


class Watch:
    """Compares tiles with the network itself.

    Args:
        setting: Network, loss and plane.
        choice: How tiles are evaluated.
        precision: In which they are.
        evaluator: By which they are.
        share: Of their time, for looking at them; SHARE by default.
    """

    def __init__(
        self,
        setting: Setting,
        choice: Choice,
        precision: Precision,
        evaluator: Evaluator | Reference,
        *,
        share: float | None = None,
    ) -> None:
        self._setting, self._engine, self._precision = setting, choice.engine, precision
        self._evaluator, self._share = evaluator, SHARE if share is None else share
        self._reference = None if choice.in_place else setting.reference()
        self._worked = self._spent = 0.0
        self._per_batch: float | None = None

    def look(
        self,
        index: int,
        points: Sequence[Point],
        pieces: Pieces,
        num_batches: int,
        row: Floats,
        seconds: float,
    ) -> None:
        """Perhaps look at a tile that was just evaluated.

        Args:
            index: The tile.
            points: Its points.
            pieces: Gives some of its batches, from one to before another.
            num_batches: How many they are.
            row: (len(points), columns) what was found.
            seconds: What it took.

        Raises:
            LandscapeError: The network itself says something else.
        """
        if self._reference is None:
            return
        self._worked += seconds
        costs = self._per_batch or _SLOWER * seconds / (len(points) * num_batches)
        # In part of a shard the engine goes over the batches once more.
        affordable = int((self._share * self._worked - self._spent) / max(costs, 1e-9))
        count = min(num_batches, affordable)
        if count < min(_LEAST, num_batches):
            return
        start = time.perf_counter()
        draw = np.random.default_rng(index)
        place = int(draw.integers(len(points)))
        first = int(draw.integers(num_batches - count + 1))
        with closing(pieces(first, first + count)) as given:
            batches = [batch for piece in given for batch in piece]
        self._compare(index, points[place], batches, row[place] if count == num_batches else None)
        took = time.perf_counter() - start
        self._spent += took
        self._per_batch = took / count

    def _compare(self, index: int, point: Point, batches: list[Batch], found: Floats | None) -> None:
        """Refuse what differs: `found` are the sums over these batches, None where they are to be made again."""
        assert self._reference is not None
        wanted = self._reference.tile([batches], [point])[0]
        with self._precision.computing():
            sums = self._evaluator.tile([batches], [point])[0] if found is None else found
        if _agree(
            sums, wanted, _APPROXIMATE if self._precision.approximate else TOLERANCES[self._precision.data]
        ):
            return
        if not self._precision.approximate:
            probe = NetworkProbe(self._setting, batches, [point], self._precision.data)
            step = self._culprit(probe)
            again = self._evaluator.tile([batches], [point])[0]
            if step is None and _agree(sums, again, 1e-12):
                return  # example by example it is rounding, as float64 says
        else:
            step = self._precision.name
        by = step or "threads, or something outside of the network that changed"
        raise LandscapeError(
            f"tile {index}: at {rounded(point, 6)} the loss of {int(wanted[2])} examples is {sums[0] / sums[2]:.9g} by the "
            f"engine and {wanted[0] / wanted[2]:.9g} by the network itself; what is wrong: {by}. What was done before is in the "
            f"file, and was not seen to be wrong; compute it anew with --set compute.engine=plain"
        )

    def _culprit(self, probe: NetworkProbe) -> str | None:
        """The first step with which the engine is wrong; None where all are right now."""
        taken = self._engine.taken
        for count in range(len(taken) + 1):
            if probe.objection(Engine(taken=taken[:count])) is not None:
                return "a copy of the network" if count == 0 else taken[count - 1][0].name.replace("_", "-")
        return None


def _agree(sums: Floats, wanted: Floats, tolerance: float) -> bool:
    """Whether loss sums and sums of squares agree, relative to the size of the losses."""
    with np.errstate(invalid="ignore", over="ignore"):
        size = np.sqrt(wanted[3] * wanted[2])
        loss = abs(sums[0] - wanted[0]) <= tolerance * size
        square = abs(np.sqrt(sums[3]) - np.sqrt(wanted[3])) <= tolerance * np.sqrt(wanted[3])
    same = bool(np.array_equal(sums[:NUM_SUMS], wanted[:NUM_SUMS], equal_nan=True))
    return same or (bool(loss and square) and sums[2] == wanted[2]) or not bool(np.isfinite(wanted[0]))
