"""Linear operators of one batch: the loss of its examples as a function of parameters, and the Hessian of their sum."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from mpi_landscape.errors import LandscapeError
from mpi_landscape.evaluation.calling import is_out_of_memory, raised
from mpi_landscape.loading import nests
from mpi_landscape.loading.batches import Batch
from mpi_landscape.loading.parted import parted
from mpi_landscape.loading.results import LossFunction, counts_of, losses_of

# One tensor for each parameter, in its shape; None where it is zero because nothing depends on the parameter.
Tensors = Sequence[Tensor | None]


@dataclass(frozen=True, kw_only=True)
class OfBatch:
    """The loss of a batch's examples, as a function of some of a network's parameters.

    Attributes:
        network: In evaluation mode; what `loss` is to call.
        loss: Called as `loss(network, batch)`.
        batch: On the network's device, in its type.
        parameters: Leaves that ask for a gradient, and no other tensor of the network does.
    """

    network: nn.Module
    loss: LossFunction
    batch: Batch
    parameters: Sequence[nn.Parameter]

    def total(self) -> tuple[Tensor, float]:
        """The sum of the valid examples' losses, () float64 with its graph, and by how much they count.

        What repeats the last example of a batch goes through the network, too, and adds nothing.
        """
        losses, count = self.losses()
        return losses.sum(), count

    def losses(self) -> tuple[Tensor, float]:
        """The valid examples' losses, (valid,) float64 with their graph, and by how much they count."""
        with torch.enable_grad():
            result = self._result()
            losses, counts = losses_of(result)[: self.batch.valid], counts_of(result)
            count = (
                float(self.batch.valid)
                if counts is None
                else float(counts[: self.batch.valid].detach().sum(dtype=torch.float64))
            )
            return losses.double(), count

    def _result(self) -> Any:
        data, known = nests.fresh(self.batch.data), parted(self.loss)
        try:
            if known is not None and known.second is not None:
                # A named loss, of operations that torch differentiates twice.
                return known.loss_of_outputs(known.outputs(self.network, data), data)
            return self.loss(self.network, data)
        except LandscapeError:
            raise
        except Exception as error:
            if is_out_of_memory(error):
                raise
            raise raised(error, self.batch.data) from error


class Recorded(Protocol):
    """The operator of one batch at one place, ready to be multiplied with any number of vectors, one after the other.

    Attributes:
        count: By how much the batch's examples count.
        total: The sum of their losses, () float64 without a graph.
    """

    count: float
    total: Tensor

    def times(self, vector: Sequence[Tensor], *, last: bool) -> Tensors:
        """The product with one vector, a tensor for each parameter.

        Args:
            vector: For each parameter a tensor of its shape and type; of a complex one, real and imaginary part are those of two
                numbers of the space.
            last: Whether no other product follows, so that what is recorded may go.
        """


# What makes of the loss of a batch the operator of a batch.
Operator = Callable[[OfBatch], Recorded]


class Twice:
    """The second derivative of a number, by double backward; its graph is recorded once and serves all vectors.

    Args:
        total: () with its graph.
        parameters: By which it is differentiated.
    """

    def __init__(self, total: Tensor, parameters: Sequence[Tensor]) -> None:
        self._parameters = parameters
        self._gradient: Tensors = [None] * len(self._parameters)
        if total.requires_grad:
            self._gradient = torch.autograd.grad(
                total, self._parameters, create_graph=True, allow_unused=True
            )
        # What depends on the parameters linearly has a gradient that depends on nothing.
        self._bent = [
            place for place, each in enumerate(self._gradient) if each is not None and each.requires_grad
        ]

    def times(self, vector: Sequence[Tensor], *, last: bool) -> Tensors:
        """As `Recorded.times`."""
        if not self._bent:
            return [None] * len(self._parameters)
        return torch.autograd.grad(
            [each for place in self._bent if (each := self._gradient[place]) is not None],
            self._parameters,
            grad_outputs=[vector[place] for place in self._bent],
            retain_graph=not last,
            allow_unused=True,
        )


class Hessian:
    """Products with the Hessian of the sum of a batch's losses, by double backward.

    Source: Pearlmutter (1994), "Fast exact multiplication by the Hessian". The gradient is recorded with its graph, and the
    derivative of its product with a vector v is H v. The graph is recorded once and serves all vectors.

    Example:
        The sum of (w x)² over x = 1, 2 has the second derivative 2 (1 + 4):

        >>> model = nn.Linear(1, 1, bias=False)
        >>> batch = Batch(data=torch.tensor([[1.0], [2.0]]), valid=2)
        >>> function = OfBatch(network=model, loss=lambda model, x: model(x)[:, 0] ** 2, batch=batch,
        ...                    parameters=[model.weight])
        >>> Hessian(function).times([torch.ones(1, 1)], last=True)[0].item()
        10.0
    """

    def __init__(self, function: OfBatch) -> None:
        total, self.count = function.total()
        self.total = total.detach()
        self._twice = Twice(total, function.parameters)

    def times(self, vector: Sequence[Tensor], *, last: bool) -> Tensors:
        """See `Recorded`."""
        return self._twice.times(vector, last=last)
