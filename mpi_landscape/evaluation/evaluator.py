"""The loss at many points: one network, one flat vector, data in batches."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from mpi_landscape.evaluation.engine.description import PLAIN, Engine
from mpi_landscape.evaluation.replica import Replicas, network_on, sharing_copy
from mpi_landscape.evaluation.sums import NUM_SUMS, Floats
from mpi_landscape.evaluation.vectors import Point, Rows, Vectors
from mpi_landscape.geometry.layout import Layout, empty_vector
from mpi_landscape.loading.batches import Batch
from mpi_landscape.loading.results import LossFunction
from mpi_landscape.loading.sharing import Pause, Workers

# Points of a tile that share work at once: results of a batch are kept until then.
_MOST_POINTS = 4096


class Evaluator:
    """Sums of the loss over batches, at any point center + alpha * d1 + beta * d2 (Li et al. 2018, equation 1).

    The network is a copy whose parameters are views of one flat vector, so that moving is vector arithmetic, always
    from the center. Cores are kept busy with one batch per thread, each thread with a copy of the network's modules:
    the shapes of every operation, and so the bits, do not depend on the number of threads (within
    `exact_arithmetic`, which keeps the caller's own operations on one thread, too).

    Args:
        model: Any network at the center; it is copied and left untouched. Put into evaluation mode.
        loss: Called as `loss(model, batch)`; one value per example, or a mapping with `loss`, perhaps `correct`, and
            further numbers per example.
        layout: The order of the flat vector.
        center: (n,) the trained parameters.
        directions: One or two rows of shape (n,).
        device: Where to compute.
        dtype: torch.float32, torch.float64, or torch.bfloat16: the vectors and the loss stay in float32 then, the
            network and what goes into it are rounded.
        threads: Batches evaluated at once; 1 on a GPU.
        engine: How the network is rewritten.
        points_at_once: Points that the threads share out among themselves, each with a vector of its own: for more
            threads than a shard has batches.
        returned: Names of the further numbers per example that are summed, too.
        gradients: Whether the loss takes derivatives itself, as that of a physics-informed network does.
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
        points_at_once: int = 1,
        returned: Sequence[str] = (),
        gradients: bool = False,
    ) -> None:
        lower = dtype if dtype.itemsize < 4 else None
        dtype = torch.float32 if lower else dtype
        network = network_on(model, device, dtype)
        converted = [vector.to(device, dtype) for vector in (center, *directions)]
        if engine.writes_vectors:
            # Only what has not just been made by the conversion.
            given = {vector.data_ptr() for vector in (center, *directions)}
            converted = [
                empty_vector(layout.size, dtype, device).copy_(each) if each.data_ptr() in given else each
                for each in converted
            ]
        rows = Rows(layout=layout, center=converted[0], directions=tuple(converted[1:]))
        rows = engine.on_vectors(network, rows)
        self._engine, self._columns = engine, NUM_SUMS + len(returned)
        self._point: Point = ()
        self._vectors = Vectors(rows)
        count = threads if device.type == "cpu" else 1
        places = [self._vectors, *(Vectors(rows) for _ in range(min(points_at_once, count) - 1))]
        # Before the first one is rewritten.
        networks = [network, *(sharing_copy(network) for _ in places[1:])]
        self._groups = [
            Replicas(
                each, loss, place, engine,
                number=len(range(index, count, len(places))), lower=lower, returned=returned,
                gradients=gradients,
            )
            for index, (place, each) in enumerate(zip(places, networks, strict=True))
        ]  # fmt: skip
        self._workers = Workers(self._groups)

    def __enter__(self) -> Evaluator:
        return self

    def __exit__(self, *_: object) -> None:
        self._workers.close()
        for replicas in self._groups:
            replicas.close()

    @property
    def engine(self) -> Engine:
        """How the network is rewritten."""
        return self._engine

    @property
    def network(self) -> nn.Module:
        """The network as rewritten, at the current point; a first layer needs its tile, see `tile`."""
        return self._groups[0].first.network

    def move(self, *coordinates: float) -> None:
        """Go to center + sum of coordinate * direction.

        A missing or zero coordinate leaves its direction out, so that (0, 0) is the center bit for bit, even where
        a direction holds an infinite value.

        Raises:
            LandscapeError: A coordinate that is not zero has no direction.
        """
        self._vectors.check(coordinates)
        self._point = coordinates
        self._vectors.move(coordinates)

    def batch_sums(self, batches: Sequence[Batch], between: Pause | None = None) -> Floats:
        """Loss sum, correct count, example count and sum of squared losses of each batch at the current point.

        Args:
            batches: Any of a split's batches.
            between: Called in the caller's thread after each batch of its own; what it raises ends the
                evaluation, after which this evaluator can be used again.

        Returns:
            (len(batches), NUM_SUMS + len(returned)) float64; the correct count is NaN where the loss gives none.

        Raises:
            Exception: What the network, the loss or `between` raised, in whichever thread.
        """
        return self._together(batches, [[self._point]], between)[:, 0]

    def example_losses(self, batch: Batch, point: Point) -> Floats:
        """(batch.valid,) float64: the loss of every example of a batch at one point."""
        losses: Floats = self.losses_of_points(batch, [point])[0]
        return losses

    def losses_of_points(self, batch: Batch, points: Sequence[Point]) -> Floats:
        """(len(points), batch.valid) float64: the same at several points, along the path of a tile."""
        for point in points:
            self._vectors.check(point)
        self._point = points[-1]
        found: Floats = self._groups[0].first.losses_of_points(batch, points).cpu().numpy()
        return found

    def tile(
        self, pieces: Iterable[Sequence[Batch]], points: Sequence[Point], between: Pause | None = None
    ) -> Floats:
        """Sums over the batches at each of several points, added in the order of the batches.

        Args:
            pieces: The batches of one shard of a split, in sequences of which one at a time is in memory.
            points: Coordinates, one tuple per point.
            between: As for `batch_sums`.

        Returns:
            (len(points), NUM_SUMS + len(returned)) float64: loss sum, correct count, example count, sum of squared
            losses, and the sums of what else is returned.
        """
        sums: Floats | None = None
        for point in points:
            self._vectors.check(point)
        size = self._group_size(len(points))
        # Positions of the groups follow from the tile, and so do the bits.
        groups = [points[start : start + size] for start in range(0, len(points), size)]
        for piece in pieces:
            for row in self._together(piece, groups, between):
                with np.errstate(invalid="ignore", over="ignore"):
                    sums = row.copy() if sums is None else sums + row
        return np.zeros((len(points), self._columns)) if sums is None else sums

    def _group_size(self, num_points: int) -> int:
        """Points that the replicas at one place evaluate together."""
        if not self._engine.shares_points:
            return 1
        return max(1, min(_MOST_POINTS, -(-num_points // len(self._groups))))

    def _together(
        self, batches: Sequence[Batch], groups: Sequence[Sequence[Point]], between: Pause | None
    ) -> Floats:
        """(batches, points, columns) at all points of some groups, each group by the replicas that are free."""
        parts = self._workers.share_out(
            groups, lambda replicas, points, pause: replicas.rows(batches, points, pause), between
        )
        self._point = groups[-1][-1]
        return np.concatenate(parts, axis=1)
