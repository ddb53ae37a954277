"""Products by forward over reverse mode, compiled: no graph is kept, and every batch takes the same compiled code."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, jvp

from mpi_landscape.evaluation.curvature.operators import OfBatch, Operator, Recorded, Tensors
from mpi_landscape.loading import nests
from mpi_landscape.loading.results import LossFunction, counts_of, losses_of


def compiled_hessian() -> Operator:
    """`operators.Hessian` by torch.compile(jvp(grad)); compiled at the first batch, in about a minute.

    Raises:
        Exception: At the first product: what torch.compile says of a network or a loss that it cannot follow.
    """
    made: dict[int, Callable[..., Any]] = {}

    def operator(function: OfBatch) -> Recorded:
        key = id(function.network)
        if key not in made:
            # Sizes as they are: torch widens what it compiles at the second size, and jvp cannot be compiled so.
            made[key] = torch.compile(_product(function), fullgraph=True, dynamic=False)
        return _Compiled(made[key], function)

    return operator


class _Compiled:
    """See `operators.Recorded`; count and total are known after the first product."""

    def __init__(self, product: Callable[..., Any], function: OfBatch) -> None:
        self._product, self._function = product, function
        self.count, self.total = 0.0, torch.zeros(())
        number = next((len(leaf) for _, leaf in nests.tensors(function.batch.data) if leaf.ndim), 1)
        device = function.parameters[0].device
        # Not a slice, whose length would be another shape, to be compiled again.
        self._weights = (torch.arange(number, device=device) < function.batch.valid).double()

    def times(self, vector: Sequence[Tensor], *, last: bool) -> Tensors:  # noqa: ARG002 - nothing is kept
        """See `Recorded`."""
        point = tuple(each.detach() for each in self._function.parameters)
        found, (self.total, count) = self._product(
            point, tuple(vector), self._function.batch.data, self._weights
        )
        self.count = float(count)
        products: Sequence[Tensor] = found
        return products


class _Called(nn.Module):
    """A network with its loss, so that one call stands for both."""

    def __init__(self, network: nn.Module, loss: LossFunction) -> None:
        super().__init__()
        self.network, self.loss = network, loss

    def forward(self, batch: Any) -> Any:
        return self.loss(self.network, batch)


def _product(function: OfBatch) -> Callable[..., Any]:
    called = _Called(function.network, function.loss)
    own = {id(parameter): name for name, parameter in called.named_parameters()}
    names = [own[id(parameter)] for parameter in function.parameters]

    def product(point: tuple[Tensor, ...], vector: tuple[Tensor, ...], data: Any, weights: Tensor) -> Any:
        def total(tensors: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
            result = functional_call(called, dict(zip(names, tensors, strict=True)), (data,))
            losses, counts = losses_of(result).double(), counts_of(result)
            summed = (losses * weights).sum()
            count = weights.sum() if counts is None else (counts.double() * weights).sum()
            return summed, (summed.detach(), count.detach())

        found: Any = jvp(grad(total, has_aux=True), (point,), (vector,), has_aux=True)
        return found[1:]

    # torch counts compilations by code object, and gives up at the ninth in a process: each product has its own.
    product.__code__ = product.__code__.replace()
    return product
