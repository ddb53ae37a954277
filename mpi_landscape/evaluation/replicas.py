"""Threads that evaluate one point after another, together: each takes a batch at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mpi_landscape.evaluation.engine.description import Engine
from mpi_landscape.evaluation.replica import Seat
from mpi_landscape.evaluation.vectors import Vectors
from mpi_landscape.loading.batches import Batch

# The sums of a batch at several points, (points, NUM_SUMS).
_Job = Callable[[Seat, Batch, Callable[[], None] | None], Tensor]


class CancelledError(Exception):
    """Another thread has met an error, which is the one to raise."""


class Crew:
    """Seats that follow one point; a resource that is closed at the end of its evaluator.

    Args:
        vectors: The point, moved by the crew.
        seats: One per thread.
        engine: How their networks are rewritten.
        cancelled: Set when all work of the evaluator shall end.
    """

    def __init__(
        self, vectors: Vectors, seats: Sequence[Seat], engine: Engine, cancelled: threading.Event
    ) -> None:
        self._vectors, self._seats, self._engine, self._cancelled = vectors, list(seats), engine, cancelled
        # OpenMP keeps the number per thread: set where they start, the caller's own stays as it is.
        self._pool = ThreadPoolExecutor(
            max_workers=max(1, len(self._seats) - 1), initializer=torch.set_num_threads, initargs=(1,)
        )

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown()

    @property
    def network(self) -> nn.Module:
        """That of the first seat."""
        return self._seats[0].network

    def move(self, coordinates: tuple[float, ...]) -> None:
        """Put the networks to a point."""
        self._vectors.move(coordinates)

    def losses(self, batch: Batch, point: tuple[float, ...]) -> Tensor:
        """(batch.valid,) float64 of the first seat."""
        return self._seats[0].losses(batch, point)

    def rows(
        self,
        batches: Sequence[Batch],
        points: Sequence[tuple[float, ...]],
        between: Callable[[], None] | None,
    ) -> NDArray[np.float64]:
        """(batches, points, NUM_SUMS) of as many points as are evaluated together."""
        if self._engine.first_layer:
            return self._sweep(lambda seat, batch, b: seat.sums_of_points(batch, points, b), batches, between)
        if self._engine.points_per_pass > 1:
            # Padded, so that a point's bits do not depend on how many are left.
            missing = self._engine.points_per_pass - len(points)
            stacked = self._vectors.points([*points, *[points[-1]] * missing])
            together = self._sweep(
                lambda seat, batch, _: seat.sums_together(batch, stacked), batches, between
            )
            return together[:, : len(points)]
        self._vectors.move(points[0])
        return self._sweep(lambda seat, batch, _: seat.sums(batch), batches, between)

    def _sweep(
        self, job: _Job, batches: Sequence[Batch], between: Callable[[], None] | None
    ) -> NDArray[np.float64]:
        """A job for every batch, on all threads."""
        results: list[Tensor | None] = [None] * len(batches)
        todo = iter(range(len(batches)))  # shared by all threads: next() on it is atomic
        helpers = [
            self._pool.submit(self._work, seat, job, batches, todo, results, None)
            for seat in self._seats[1 : len(batches)]
        ]
        try:
            self._work(self._seats[0], job, batches, todo, results, between)
            for helper in helpers:
                helper.result()
        except BaseException:
            self._cancelled.set()
            raise
        finally:
            wait(helpers)
        self._check()  # another crew's error leaves batches undone
        # One transfer for all: on a GPU nothing waits for a batch.
        return torch.stack([row for row in results if row is not None]).cpu().numpy()

    def _work(
        self,
        seat: Seat,
        job: _Job,
        batches: Sequence[Batch],
        todo: Iterator[int],
        results: list[Tensor | None],
        between: Callable[[], None] | None,
    ) -> None:
        try:
            with torch.no_grad():
                for index in todo:
                    if self._cancelled.is_set():
                        return
                    results[index] = job(seat, batches[index], between or self._check)
                    if between is not None:
                        between()
        except CancelledError:
            return
        except BaseException:
            self._cancelled.set()  # no other thread need finish what is lost
            raise

    def _check(self) -> None:
        """Between the points of a batch, on a thread that nobody asks to stop."""
        if self._cancelled.is_set():
            raise CancelledError
