"""Replicas of the network at one point, among which batches are shared out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mpi_landscape.evaluation.engine.description import Engine
from mpi_landscape.evaluation.replica import Replica, sharing_copy
from mpi_landscape.evaluation.vectors import Vectors
from mpi_landscape.loading.batches import Batch
from mpi_landscape.loading.results import LossFunction
from mpi_landscape.loading.sharing import Pause, Workers


class Replicas:
    """Copies of the network that follow one point together; where points share work, each goes through them by itself.

    Args:
        network: As for `Replica`.
        loss: As for `Evaluator`.
        vectors: The point.
        engine: How the networks are rewritten.
        number: Number of replicas, each for a thread.
        lower: As for `Replica`.
        returned: As for `Evaluator`.
    """

    def __init__(
        self,
        network: nn.Module,
        loss: LossFunction,
        vectors: Vectors,
        engine: Engine,
        *,
        number: int,
        lower: torch.dtype | None,
        returned: Sequence[str],
    ) -> None:
        self._vectors, self._apart = vectors, engine.shares_points
        # Before the first one is rewritten.
        networks = [network, *(sharing_copy(network) for _ in range(number - 1))]
        points = [vectors, *(Vectors(vectors.rows) if self._apart else vectors for _ in networks[1:])]
        self._replicas = [
            Replica(each, loss, point, engine, lower=lower, returned=returned)
            for each, point in zip(networks, points, strict=True)
        ]
        self._first, self._workers = self._replicas[0], Workers(self._replicas)

    def close(self) -> None:
        """End the threads, and let go of the point."""
        self._workers.close()
        for replica in self._replicas:
            replica.close()

    @property
    def network(self) -> nn.Module:
        """The network of the first replica."""
        return self._first.network

    def move(self, coordinates: tuple[float, ...]) -> None:
        """Put the networks to a point."""
        self._vectors.move(coordinates)

    def losses(self, batch: Batch, point: tuple[float, ...]) -> Tensor:
        """(batch.valid,) float64 of the first replica."""
        return self._first.losses(batch, point)

    def rows(
        self, batches: Sequence[Batch], points: Sequence[tuple[float, ...]], between: Pause | None
    ) -> NDArray[np.float64]:
        """(batches, points, columns): sums at as many points as share work, otherwise at one."""

        def row(replica: Replica, batch: Batch, pause: Pause) -> Tensor:
            with torch.no_grad():
                if self._apart:
                    return replica.sums_of_points(batch, points, pause)
                sums = replica.sums(batch)
            pause()
            return sums

        if not self._apart:
            self.move(points[0])
        rows = self._workers.share_out(batches, row, between)
        # One transfer for all: on a GPU nothing waits for a batch.
        return torch.stack(rows).cpu().numpy()
