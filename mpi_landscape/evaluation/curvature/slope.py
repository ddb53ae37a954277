"""The gradient of the loss over batches, by the parameters of a space."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mpi_landscape.evaluation.curvature.space import Space
from mpi_landscape.evaluation.gradients import gradients_of
from mpi_landscape.loading.batches import Batch
from mpi_landscape.loading.results import LossFunction
from mpi_landscape.loading.sharing import Pause


@dataclass(frozen=True, kw_only=True)
class Slope:
    """Of the sum of a batch's losses.

    Attributes:
        gradient: (n,) float64.
        loss: The sum.
        count: By how much the examples count.
    """

    gradient: Tensor
    loss: float
    count: float


def slopes(
    model: nn.Module,
    loss: LossFunction,
    space: Space,
    pieces: Iterable[Sequence[Batch]],
    between: Pause | None = None,
) -> Iterator[Slope]:
    """That of each batch in its order.

    Args:
        model: In evaluation mode, where it is to be; the space's parameters ask for a gradient, as within `Products`.
        loss: Called as `loss(model, batch)`.
        space: Which parameters.
        pieces: The batches, in sequences of which one at a time is in memory.
        between: Called between batches.

    Example:
        The sum of (w x)² over x = 1, 2 is 5 w²:

        >>> from mpi_landscape.evaluation.curvature.space import space_of
        >>> from mpi_landscape.geometry.layout import layout_of
        >>> model = nn.Linear(1, 1, bias=False)
        >>> _ = model.weight.data.fill_(3.0)
        >>> batch = Batch(data=torch.tensor([[1.0], [2.0]]), valid=2)
        >>> [found] = slopes(model, lambda model, x: model(x)[:, 0] ** 2, space_of(layout_of(model)), [[batch]])
        >>> found.gradient.tolist(), found.loss, found.count
        ([30.0], 45.0, 2.0)
    """
    own = dict(model.named_parameters())
    parameters = [own[name] for group in space.groups for name in group]
    for piece in pieces:
        for batch in piece:
            found, count, total = gradients_of(loss, model, batch, parameters)
            yield Slope(gradient=_gathered(space, parameters, found), loss=total, count=count)
            if between is not None:
                between()


def _gathered(space: Space, parameters: Sequence[Tensor], found: Sequence[Tensor | None]) -> Tensor:
    """(n,): of parameters on one memory the sum, of those without influence zeros."""
    dense = [
        _numbers(torch.zeros_like(parameter) if each is None else each.to_dense())
        for parameter, each in zip(parameters, found, strict=True)
    ]
    sums, first = [], 0
    for group in space.groups:
        sums.append(torch.stack(dense[first : first + len(group)]).sum(dim=0))
        first += len(group)
    return torch.cat(sums)


def _numbers(gradient: Tensor) -> Tensor:
    real = torch.view_as_real(gradient.resolve_conj()) if gradient.is_complex() else gradient
    return real.detach().reshape(-1).double()
