"""The norm of the loss's gradient at many points of a plane.

At a point θ it is ‖∇L(θ)‖ with L = Σ ℓ_i / Σ n_i the mean over all examples, which count n_i = 1 each where the loss says
nothing else: one number of the full gradient, not a mean of the norms of batches, which would be larger. It runs over the
parameters that the plane moves; others stand still everywhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from mpi_landscape.errors import LandscapeError
from mpi_landscape.evaluation.gradients import Gradients, gradients_of, is_differentiable, only
from mpi_landscape.evaluation.replica import network_on, sharing_copy
from mpi_landscape.evaluation.sums import Floats
from mpi_landscape.evaluation.vectors import Point, Rows
from mpi_landscape.geometry.layout import Layout
from mpi_landscape.loading.batches import Batch
from mpi_landscape.loading.results import LossFunction
from mpi_landscape.loading.sharing import Pause
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
        self._gradients = Gradients(network, loss, rows, names, threads)
        self._device = device
        self.bytes_per_point = self._gradients.size * torch.float64.itemsize

    def __enter__(self) -> GradientNorm:
        return self

    def __exit__(self, *_: object) -> None:
        self._gradients.close()

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
            self._gradients.check(point)
        size = self._gradients.size
        gradients = torch.zeros(len(points), size, dtype=torch.float64, device=self._device)
        count = 0.0
        for piece in pieces if size else ():
            count += self._gradients.add(
                gradients, piece, lambda vectors, row: vectors.move(points[row]), between
            )[0]
        gradients /= count or 1.0
        norms: Floats = torch.linalg.vector_norm(gradients, dim=1, keepdim=True).cpu().numpy()
        return norms


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
    parameters = only(network, [name for name, each in network.named_parameters() if is_differentiable(each)])
    try:
        found, _, _ = gradients_of(loss, network, batch, parameters)
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
