"""The norm of the loss's gradient at many points of a plane.

At a point θ it is ‖∇L(θ)‖ with L = Σ ℓ_i / Σ n_i the mean over all examples, which count n_i = 1 each where the loss says
nothing else: one number of the full gradient, not a mean of the norms of batches, which would be larger. It runs over the
parameters that the plane moves; others stand still everywhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import product

import torch
from torch import Tensor, nn

from mpi_landscape.errors import LandscapeError
from mpi_landscape.evaluation.replica import attach, network_on, sharing_copy
from mpi_landscape.evaluation.sums import Floats
from mpi_landscape.evaluation.vectors import Point, Rows, Vectors
from mpi_landscape.geometry.layout import Layout
from mpi_landscape.loading.batches import Batch
from mpi_landscape.loading.results import LossFunction, counts_of, losses_of
from mpi_landscape.loading.sharing import Pause, Workers
from mpi_landscape.wording import one_line


class GradientNorm:
    """The norm of the full mean loss's gradient over the parameters that move, by the plain network.

    A parameter tensor counts where any direction is not zero in it, as zero where it has no influence on the loss;
    buffers never count. Every thread has a copy of the network and of the point. The gradients of batches are added in
    the order of the batches, in float64, so that the bits depend neither on the number of threads nor on the pieces.

    Args:
        model: As for `Evaluator`, like all that is not told here.
        loss: Its gradient is taken, see `check_differentiable`.
        dtype: torch.float32 or torch.float64.
        threads: Batches whose gradients are computed at once; 1 on a GPU.

    Attributes:
        bytes_per_point: Memory that a point of `row` takes until its last piece is done.

    Example:
        The mean of (w x)² has the gradient 2 w mean(x²):

        >>> from mpi_landscape.geometry.layout import layout_of
        >>> model, plane = nn.Linear(1, 1, bias=False), [torch.ones(1)]
        >>> batch = Batch(data=torch.tensor([[1.0], [2.0], [2.0]]), valid=3)
        >>> with GradientNorm(model, lambda model, x: model(x)[:, 0] ** 2, layout_of(model), torch.ones(1), plane,
        ...                   device=torch.device("cpu")) as norm:
        ...     norm.row([[batch]], [(0.0,), (-3.0,)])
        array([[ 6.],
               [12.]])
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
    ) -> None:
        network = network_on(model, device, dtype)
        moved = tuple(direction.to(device, dtype) for direction in directions)
        rows = Rows(layout=layout, center=center.to(device, dtype), directions=moved)
        names = moved_parameters(network, layout, rows.directions)
        count = threads if device.type == "cpu" else 1
        networks = [network, *(sharing_copy(network) for _ in range(count - 1))]
        self._replicas = [_Replica(each, loss, Vectors(rows), names) for each in networks]
        self._workers = Workers(self._replicas)
        self._device = device
        self._size = sum(entry.size for entry in layout.entries if entry.name in names)
        self.bytes_per_point = self._size * torch.float64.itemsize

    def __enter__(self) -> GradientNorm:
        return self

    def __exit__(self, *_: object) -> None:
        self._workers.close()

    def row(
        self, pieces: Iterable[Sequence[Batch]], points: Sequence[Point], between: Pause | None = None
    ) -> Floats:
        """The norm at each of several points, over all batches of a split; as for `Evaluator.tile`.

        Returns:
            (len(points), 1) float64, nats per unit of the parameters.

        Raises:
            LandscapeError: A point lies off the plane.
        """
        for point in points:
            self._replicas[0].vectors.check(point)
        gradients = torch.zeros(len(points), self._size, dtype=torch.float64, device=self._device)
        count = 0.0
        for piece in pieces if self._size else ():
            count += self._add(gradients, piece, points, between)
        gradients /= count or 1.0
        norms: Floats = torch.linalg.vector_norm(gradients, dim=1, keepdim=True).cpu().numpy()
        return norms

    def _add(
        self, gradients: Tensor, piece: Sequence[Batch], points: Sequence[Point], between: Pause | None
    ) -> float:
        """Add the gradients of a piece's batches to those of the points; returns by how much its examples count."""

        def work(replica: _Replica, place: tuple[int, int], pause: Pause) -> tuple[Tensor, float]:
            row, batch = place[0], piece[place[1]]
            found = replica.gradient(batch, points[row])
            pause()
            return found

        places = list(product(range(len(points)), range(len(piece))))
        count, window = 0.0, len(self._replicas)
        # As many at a time as there are threads: no more vectors are alive, and it does not matter which is ready first.
        for start in range(0, len(places), window):
            now = places[start : start + window]
            done = self._workers.share_out(now, work, between)
            for (row, _), (found, valid) in zip(now, done, strict=True):
                gradients[row] += found
                count += valid if row == 0 else 0.0
        return count


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
        self._parameters = _only(network, [*names, *more])
        self._further = [[len(names) + more.index(each) for each in group] for group in further.values()]

    def gradient(self, batch: Batch, point: Point) -> tuple[Tensor, float]:
        """(m,) float64, the gradient of the sum of a batch's valid losses at a point, and by how much its examples count."""
        self.vectors.move(point)
        found, count = _gradients(self._loss, self._network, batch, self._parameters)
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
        return torch.cat(together), count


def _numbers(gradient: Tensor) -> Tensor:
    """(m,) float64: of complex parameters the derivatives by real and imaginary part, in pairs."""
    real = torch.view_as_real(gradient.resolve_conj()) if gradient.is_complex() else gradient
    return real.detach().reshape(-1).double()


def moved_parameters(network: nn.Module, layout: Layout, directions: Sequence[Tensor]) -> tuple[str, ...]:
    """Names of the network's own parameters in which a direction is not zero, in the order of the layout."""
    own = {name for name, _ in network.named_parameters()}
    views = [layout.views(direction) for direction in directions]
    return tuple(
        entry.name
        for entry in layout.entries
        if entry.name in own and any(bool(view[entry.name].any()) for view in views)
    )


def check_differentiable(loss: LossFunction, model: nn.Module, batch: Batch) -> None:
    """Try one batch on a copy, so that a loss without a gradient shows before the work begins.

    Raises:
        LandscapeError: The loss does not depend on any parameter in a way that torch can differentiate.
    """
    network = sharing_copy(model).eval()
    parameters = _only(
        network, [name for name, each in network.named_parameters() if _is_differentiable(each)]
    )
    try:
        found, _ = _gradients(loss, network, batch, parameters)
    except Exception as error:
        raise LandscapeError(
            f"gradient_norm: the gradient of the loss raised {type(error).__name__}: {one_line(error)}; "
            f"valid is a network and a loss that torch can differentiate in evaluation mode; otherwise leave gradient_norm "
            f"out of compute.quantities"
        ) from error
    if all(each is None for each in found):
        raise LandscapeError(
            "gradient_norm: the loss has no gradient with respect to the network's parameters; leave out of the network and "
            "the loss what cuts it off (detach(), .data, argmax and other counts, torch.no_grad(), "
            "torch.inference_mode()), or leave gradient_norm out of compute.quantities"
        )


def _only(network: nn.Module, names: Sequence[str]) -> list[nn.Parameter]:
    """The parameters of these names, in their order, and no other asks for a gradient."""
    own = dict(network.named_parameters())
    for name, parameter in own.items():
        if _is_differentiable(parameter):
            parameter.requires_grad_(name in names)
    return [own[name] for name in names]


def _is_differentiable(parameter: Tensor) -> bool:
    return parameter.is_floating_point() or parameter.is_complex()


def _gradients(
    loss: LossFunction, network: nn.Module, batch: Batch, parameters: Sequence[nn.Parameter]
) -> tuple[Sequence[Tensor | None], float]:
    """The gradients of the sum of a batch's valid losses, None for a parameter without influence; and what they count."""
    with torch.enable_grad():
        result = loss(network, batch.data)
        losses, counts = losses_of(result)[: batch.valid], counts_of(result)
        count = (
            float(batch.valid) if counts is None else float(counts[: batch.valid].sum(dtype=torch.float64))
        )
        if not losses.requires_grad:
            return [None] * len(parameters), count
        return torch.autograd.grad(losses.double().sum(), parameters, allow_unused=True), count
