"""The network as it is: loss and accuracy of every split in evaluation mode, and the norm of the parameters."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mpi_landscape.loading.results import LossFunction, correct_of, counts_of, losses_of
from mpi_landscape.training.feed import Feed


@torch.no_grad()
def look_at(
    model: nn.Module,
    loss: LossFunction,
    feeds: Mapping[str, Feed],
    *,
    size: int,
    prepare: Callable[[Any], Any],
    between: Callable[[], None] = lambda: None,
) -> dict[str, float]:
    """Mean loss and accuracy of every split, in the order of its examples.

    Args:
        model: Put into evaluation mode.
        loss: Called as `loss(model, batch)`.
        feeds: The data, by the name of the split.
        size: Examples that go through the network at once.
        prepare: Applied to every batch.
        between: Called after every batch; may raise anything.

    Returns:
        `<split>_loss`, nats per example, and `<split>_accuracy`, fraction or NaN, of every split.
    """
    model.eval()
    values = {}
    for split, feed in feeds.items():
        sums = []
        for batch in feed.batches(torch.arange(len(feed)), size):
            sums.append(_sums(loss(model, prepare(batch))))
            between()
        # Added here, one after the other in float64: on a GPU nothing waits for a batch.
        total, correct, number = (sum(column) for column in zip(*torch.stack(sums).tolist(), strict=True))
        values[f"{split}_loss"] = total / number if number else math.nan
        values[f"{split}_accuracy"] = correct / number if number else math.nan
    return values


def weight_norm(model: nn.Module) -> float:
    """Euclidean norm of all parameters, each tensor once.

    Example:
        >>> model = nn.Linear(2, 1)
        >>> with torch.no_grad():
        ...     _ = model.weight.fill_(2.0), model.bias.fill_(1.0)
        >>> weight_norm(model)
        3.0
    """
    squares = [parameter.detach().double().square().sum() for parameter in model.parameters()]
    return torch.stack(squares).sum().sqrt().item()


def _sums(result: Any) -> Tensor:
    """(3,) float64: sums of the loss, of the correct answers (NaN where the loss does not tell), and of what counts."""
    total = losses_of(result).sum(dtype=torch.float64)
    correct = correct_of(result)
    right = total.new_full((), torch.nan) if correct is None else correct.sum(dtype=torch.float64)
    counts = counts_of(result)
    number = total.new_full((), len(losses_of(result))) if counts is None else counts.sum(dtype=torch.float64)
    return torch.stack([total, right, number])
