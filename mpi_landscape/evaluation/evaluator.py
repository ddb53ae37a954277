"""The loss at many points: one network, one flat vector, data in batches."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from types import TracebackType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mpi_landscape.evaluation import folding
from mpi_landscape.evaluation.engine import PLAIN, Engine
from mpi_landscape.evaluation.first_layer import other_ranges
from mpi_landscape.evaluation.resident import Batch
from mpi_landscape.evaluation.seat import LossFunction, Seat, own_copy, sharing_copy
from mpi_landscape.evaluation.sums import NUM_SUMS
from mpi_landscape.evaluation.vectors import Vectors, convolution_weights, reorder
from mpi_landscape.geometry.layout import Layout

# The sums of a batch at several points, (points, NUM_SUMS).
_Job = Callable[[Seat, Batch, Callable[[], None] | None], Tensor]
# What of a tile's points goes through the first layer at once: results of a batch are kept until then.
_MOST_POINTS = 4096


class Evaluator:
    """Sums of the loss over batches, at any point center + alpha * d1 + beta * d2 (Li et al. 2018, equation 1).

    The network is a copy whose parameters are views of one flat vector, so that moving is vector arithmetic, always
    from the center. Cores are kept busy with one batch per thread, each thread with a copy of the network's modules:
    the shapes of every operation, and so the bits, do not depend on the number of threads (within
    `exact_arithmetic`, which keeps the caller's own operations on one thread, too).

    Args:
        model: Any network at the center; it is copied and left untouched. Put into evaluation mode.
        loss: Called as `loss(model, batch)`; one value per example, or a mapping with `loss` and perhaps `correct`.
        layout: The order of the flat vector.
        center: (n,) the trained parameters.
        directions: One or two rows of shape (n,).
        device: Where to compute.
        dtype: torch.float32, torch.float64, or torch.bfloat16: the vectors and the loss stay in float32 then, the
            network and what goes into it are rounded.
        threads: Batches evaluated at once; 1 on a GPU.
        engine: How the network is rewritten.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: LossFunction,
        layout: Layout,
        center: Tensor,
        directions: Sequence[Tensor],
        *,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
        threads: int = 1,
        engine: Engine = PLAIN,
    ) -> None:
        lower = dtype if dtype.itemsize < 4 else None
        dtype = torch.float32 if lower else dtype
        network = own_copy(model).to(device=device, dtype=dtype).eval()
        rows = [center.to(device, dtype), *(direction.to(device, dtype) for direction in directions)]
        if engine.folded or engine.channels_last:
            # Only what has not just been made by the conversion.
            given = {vector.data_ptr() for vector in (center, *directions)}
            rows = [row.clone() if row.data_ptr() in given else row for row in rows]
        folding.fold_vectors(engine.folded, network, rows[0], rows[1:], layout)
        last = convolution_weights(network, layout) if engine.channels_last else []
        reorder(rows, layout, last)
        ranges = other_ranges(layout, engine.first_layer) if engine.first_layer else None
        self._engine = engine
        self._point: tuple[float, ...] = ()
        self._vectors = Vectors(layout, rows[0], rows[1:], channels_last=last, ranges=ranges)
        count = threads if device.type == "cpu" else 1
        # With a first layer every thread has a point of its own; otherwise they share one, and its memory.
        own = bool(engine.first_layer)
        copies = [own_copy(network) if own else sharing_copy(network) for _ in range(count - 1)]
        self._seats = [
            Seat(each, loss, self._vectors.beside() if own and number else self._vectors, engine, lower)
            for number, each in enumerate([network, *copies])
        ]
        # OpenMP keeps the number per thread: set where they start, the caller's own stays as it is.
        self._pool = ThreadPoolExecutor(
            max_workers=max(1, count - 1), initializer=torch.set_num_threads, initargs=(1,)
        )
        self._cancelled = threading.Event()

    def __enter__(self) -> Evaluator:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown()

    @property
    def engine(self) -> Engine:
        """How the network is rewritten."""
        return self._engine

    @property
    def network(self) -> nn.Module:
        """The network as rewritten, at the current point; a first layer needs its tile, see `tile`."""
        return self._seats[0].network

    def move(self, *coordinates: float) -> None:
        """Go to center + sum of coordinate * direction.

        Args:
            coordinates: One per direction; a missing or zero one leaves its direction out, so that (0, 0) is the
                center bit for bit, even where a direction holds an infinite value.

        Raises:
            LandscapeError: A coordinate that is not zero has no direction.
        """
        self._vectors.check(coordinates)
        self._point = coordinates
        self._vectors.move(coordinates)

    def batch_sums(
        self, batches: Sequence[Batch], between: Callable[[], None] | None = None
    ) -> NDArray[np.float64]:
        """Loss sum, correct count, example count and sum of squared losses of each batch at the current point.

        Args:
            batches: Any of a split's batches.
            between: Called in the caller's thread after each batch of its own; what it raises ends the
                evaluation, after which this evaluator can be used again.

        Returns:
            (len(batches), NUM_SUMS) float64; the correct count is NaN where the loss gives none.

        Raises:
            Exception: What the network, the loss or `between` raised, in whichever thread.
        """
        return self._rows(batches, [self._point], between)[:, 0]

    def tile(
        self,
        pieces: Iterable[Sequence[Batch]],
        points: Sequence[tuple[float, ...]],
        between: Callable[[], None] | None = None,
    ) -> NDArray[np.float64]:
        """Sums over the batches at each of several points, added in the order of the batches.

        Args:
            pieces: The batches of one shard of a split, in sequences of which one at a time is in memory.
            points: Coordinates, one tuple per point.
            between: As for `batch_sums`.

        Returns:
            (len(points), NUM_SUMS) float64: loss sum, correct count, example count, sum of squared losses.
        """
        sums: NDArray[np.float64] | None = None
        group = self._group_size
        for piece in pieces:
            # Positions of the groups follow from the tile, and so do the bits.
            parts = [
                self._rows(piece, points[start : start + group], between)
                for start in range(0, len(points), group)
            ]
            for row in np.concatenate(parts, axis=1):
                with np.errstate(invalid="ignore", over="ignore"):
                    sums = row.copy() if sums is None else sums + row
        return np.zeros((len(points), NUM_SUMS)) if sums is None else sums

    @property
    def _group_size(self) -> int:
        return _MOST_POINTS if self._engine.first_layer else self._engine.points_per_pass

    def _rows(
        self,
        batches: Sequence[Batch],
        points: Sequence[tuple[float, ...]],
        between: Callable[[], None] | None,
    ) -> NDArray[np.float64]:
        """(batches, points, NUM_SUMS) of as many points as are evaluated together."""
        for point in points:
            self._vectors.check(point)
        self._point = points[-1]
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
        self._cancelled.clear()
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
        except _CancelledError:
            return
        except BaseException:
            self._cancelled.set()  # no other thread need finish what is lost
            raise

    def _check(self) -> None:
        """Between the points of a batch, on a thread that nobody asks to stop."""
        if self._cancelled.is_set():
            raise _CancelledError


class _CancelledError(Exception):
    """Another thread has met an error, which is the one to raise."""
