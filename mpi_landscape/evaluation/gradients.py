"""The gradient of the loss's sum over batches, at one or several places, by copies of the plain network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product

import torch
from torch import Tensor, nn

from mpi_landscape.evaluation.replica import attach, sharing_copy
from mpi_landscape.evaluation.vectors import Rows, Vectors
from mpi_landscape.loading.batches import Batch
from mpi_landscape.loading.results import LossFunction, counts_of, losses_of
from mpi_landscape.loading.sharing import Pause, Workers

# Puts the point that a copy follows to the place of this number.
Go = Callable[[Vectors, int], None]


class Gradients:
    """Sums of gradients over batches, over some of the parameters.

    Every thread has a copy of the network and of the point. The gradients of batches are added in the order of the batches, in
    float64, so that the bits depend neither on the number of threads nor on the pieces.

    Args:
        network: In evaluation mode on its device; its parameters become views of the first copy's point.
        loss: Its gradient is taken.
        rows: Center and directions, for the points.
        names: Parameters that count, in the order of the layout.
        threads: Batches whose gradients are computed at once; 1 on a GPU.

    Attributes:
        size: Numbers of the parameters that count, m.
    """

    def __init__(
        self, network: nn.Module, loss: LossFunction, rows: Rows, names: Sequence[str], threads: int
    ) -> None:
        count = threads if rows.center.device.type == "cpu" else 1
        networks = [network, *(sharing_copy(network) for _ in range(count - 1))]
        self._replicas = [_Replica(each, loss, Vectors(rows), names) for each in networks]
        self._workers = Workers(self._replicas)
        self.size = sum(entry.size for entry in rows.layout.entries if entry.name in names)

    def close(self) -> None:
        """End the threads."""
        self._workers.close()

    def check(self, coordinates: Sequence[float]) -> None:
        """Refuse a point off the plane, as `Vectors.check`."""
        self._replicas[0].vectors.check(coordinates)

    def add(
        self, sums: Tensor, piece: Sequence[Batch], go: Go, between: Pause | None = None
    ) -> tuple[float, list[float]]:
        """Add the gradients of some batches to those of each place.

        Args:
            sums: (places, m) float64, changed.
            piece: The batches.
            go: Puts a copy's point to a place.
            between: Called between batches in the caller's thread; what it raises ends the evaluation.

        Returns:
            By how much the examples count, and the sum of their losses at each place.
        """

        def work(replica: _Replica, place: tuple[int, int], pause: Pause) -> tuple[Tensor, float, float]:
            go(replica.vectors, place[0])
            found = replica.gradient(piece[place[1]])
            pause()
            return found

        places = list(product(range(len(sums)), range(len(piece))))
        count, losses, window = 0.0, [0.0] * len(sums), len(self._replicas)
        # As many at a time as there are threads: no more vectors are alive, and it does not matter which is ready first.
        for start in range(0, len(places), window):
            now = places[start : start + window]
            done = self._workers.share_out(now, work, between)
            for (row, _), (found, valid, loss) in zip(now, done, strict=True):
                sums[row] += found
                losses[row] += loss
                count += valid if row == 0 else 0.0
        return count, losses


class _Replica:
    """A copy of the network for one thread, which follows a point of its own."""

    def __init__(
        self, network: nn.Module, loss: LossFunction, vectors: Vectors, names: Sequence[str]
    ) -> None:
        self._network, self._loss, self.vectors = network, loss, vectors
        attach(network, vectors.point_views())
        # Of one memory there may be several parameters, and each has a part of the gradient.
        further: dict[str, list[str]] = {name: [] for name in names}
        for name, first in vectors.rows.layout.tied:
            if first in further:
                further[first].append(name)
        more = [name for group in further.values() for name in group]
        self._parameters = only(network, [*names, *more])
        self._further = [[len(names) + more.index(each) for each in group] for group in further.values()]

    def gradient(self, batch: Batch) -> tuple[Tensor, float, float]:
        """(m,) float64, the gradient of the sum of a batch's valid losses; by how much its examples count; and that sum."""
        found, count, loss = gradients_of(self._loss, self._network, batch, self._parameters)
        # A parameter without influence has none; an embedding may have a sparse one.
        dense = [
            torch.zeros_like(parameter) if each is None else each.to_dense()
            for parameter, each in zip(self._parameters, found, strict=True)
        ]
        numbers = [_numbers(each) for each in dense]
        together = [
            sum((numbers[place] for place in more), numbers[first])
            for first, more in enumerate(self._further)
        ]
        return torch.cat(together), count, loss


def _numbers(gradient: Tensor) -> Tensor:
    """(m,) float64: of complex parameters the derivatives by real and imaginary part, in pairs."""
    real = torch.view_as_real(gradient.resolve_conj()) if gradient.is_complex() else gradient
    return real.detach().reshape(-1).double()


def only(network: nn.Module, names: Sequence[str]) -> list[nn.Parameter]:
    """The parameters of these names, in their order, and no other asks for a gradient."""
    own = dict(network.named_parameters())
    for name, parameter in own.items():
        if is_differentiable(parameter):
            parameter.requires_grad_(name in names)
    return [own[name] for name in names]


def is_differentiable(parameter: Tensor) -> bool:
    """Whether torch can take derivatives by it."""
    return parameter.is_floating_point() or parameter.is_complex()


def gradients_of(
    loss: LossFunction, network: nn.Module, batch: Batch, parameters: Sequence[nn.Parameter]
) -> tuple[Sequence[Tensor | None], float, float]:
    """The gradients of the sum of a batch's valid losses, None for a parameter without influence; what they count; the sum."""
    with torch.enable_grad():
        result = loss(network, batch.data)
        losses, counts = losses_of(result)[: batch.valid], counts_of(result)
        count = (
            float(batch.valid) if counts is None else float(counts[: batch.valid].sum(dtype=torch.float64))
        )
        total = losses.double().sum()
        if not losses.requires_grad:
            return [None] * len(parameters), count, float(total)
        return torch.autograd.grad(total, parameters, allow_unused=True), count, float(total.detach())
