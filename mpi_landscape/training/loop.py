"""Stochastic gradient descent on a network, epoch by epoch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from mpi_landscape.errors import LandscapeError

LossFunction = Callable[[nn.Module, Any], Any]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How to train: SGD as in Li et al. 2018, arXiv:1712.09913, section 5.

    Attributes:
        epochs: Passes over the training data.
        batch_size: Examples per step; the last batch of an epoch may be smaller.
        learning_rate: At the start.
        momentum: Of the velocity.
        nesterov: Whether to look ahead.
        weight_decay: Added to the gradient, times the parameters (all of them).
        milestones: Epochs after which the learning rate is multiplied by `factor`.
        factor: See `milestones`.
        seed: Of the order of the examples.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0
    milestones: Sequence[int] = ()
    factor: float = 0.1
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """What one epoch gave.

    Attributes:
        number: 0 for the initial network, then 1, 2, ...
        learning_rate: That it was trained with; 0 for the initial network.
        values: Loss (nats per example) and accuracy (fraction) per split, by name.
        weight_norm: Euclidean norm of all parameters.
    """

    number: int
    learning_rate: float
    values: Mapping[str, float]
    weight_norm: float


class DivergedError(LandscapeError):
    """The training loss is not finite any more."""


def train(
    model: nn.Module,
    loss: LossFunction,
    splits: Mapping[str, Dataset[Any]],
    recipe: Recipe,
    device: torch.device,
) -> Iterator[Epoch]:
    """Train a network in place; yields after every epoch, and once before the first.

    Args:
        model: On `device`.
        loss: Called as `loss(model, batch)`, one value per example.
        splits: `train`, and any others to look at after each epoch.
        recipe: How.
        device: Where.

    Raises:
        DivergedError: The loss is not finite at a step (says which), or after an epoch; that epoch is not
            yielded.
    """
    order = torch.Generator().manual_seed(recipe.seed)
    loader = DataLoader(splits["train"], batch_size=recipe.batch_size, shuffle=True, generator=order)
    optimizer = torch.optim.SGD(
        model.parameters(),
        lr=recipe.learning_rate,
        momentum=recipe.momentum,
        nesterov=recipe.nesterov,
        weight_decay=recipe.weight_decay,
    )
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, list(recipe.milestones), recipe.factor)
    yield _look(model, loss, splits, device, number=0, learning_rate=0.0)
    for number in range(1, recipe.epochs + 1):
        learning_rate = optimizer.param_groups[0]["lr"]
        model.train()
        for step, batch in enumerate(loader):
            optimizer.zero_grad()
            mean = _losses(loss(model, moved(batch, device, _dtype(model)))).mean()
            if not math.isfinite(mean.item()):
                raise DivergedError(f"the loss is {mean.item()} at step {step + 1} of epoch {number}")
            torch.autograd.backward(mean)
            optimizer.step()
        schedule.step()
        epoch = _look(model, loss, splits, device, number=number, learning_rate=learning_rate)
        # The last step may have gone too far with no loss after it to show: nobody should keep that network.
        if not math.isfinite(epoch.values["train_loss"]):
            raise DivergedError(f"the training loss is {epoch.values['train_loss']} after epoch {number}")
        yield epoch


def moved(batch: Any, device: torch.device, dtype: torch.dtype = torch.float32) -> Any:
    """A collated batch on a device, floating-point tensors in the network's precision.

    The default collation makes float64 of Python's floats and keeps that of numpy's.
    """
    if isinstance(batch, Tensor):
        return batch.to(device, dtype) if batch.is_floating_point() else batch.to(device)
    if isinstance(batch, Mapping):
        return {key: moved(value, device, dtype) for key, value in batch.items()}
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(moved(value, device, dtype) for value in batch))
    return [moved(value, device, dtype) for value in batch] if isinstance(batch, list | tuple) else batch


def _dtype(model: nn.Module) -> torch.dtype:
    """The precision of a network: that of its first parameter."""
    return next((each.dtype for each in model.parameters() if each.is_floating_point()), torch.float32)


def _losses(result: Any) -> Tensor:
    losses: Tensor = result["loss"] if isinstance(result, Mapping) else result
    return losses


@torch.no_grad()
def _look(
    model: nn.Module,
    loss: LossFunction,
    splits: Mapping[str, Dataset[Any]],
    device: torch.device,
    *,
    number: int,
    learning_rate: float,
) -> Epoch:
    """Loss and accuracy of every split in evaluation mode."""
    model.eval()
    values: dict[str, float] = {}
    for split, dataset in splits.items():
        total, correct, count = 0.0, 0.0, 0
        # A loader draws a number each time it starts: from its own generator, so that looking at one more split
        # does not change the dropout of the next epoch.
        for batch in DataLoader(dataset, batch_size=256, generator=torch.Generator()):
            result = loss(model, moved(batch, device, _dtype(model)))
            losses = _losses(result)
            total, count = total + losses.double().sum().item(), count + len(losses)
            if isinstance(result, Mapping) and result.get("correct") is not None:
                correct += result["correct"].double().sum().item()
            else:
                correct = math.nan
        values[f"{split}_loss"], values[f"{split}_accuracy"] = total / count, correct / count
    squares = torch.stack([parameter.double().square().sum() for parameter in model.parameters()])
    return Epoch(
        number=number, learning_rate=learning_rate, values=values, weight_norm=squares.sum().sqrt().item()
    )
