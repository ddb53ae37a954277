"""How to train, and what follows from that alone: epochs, steps, batches, learning rates, optimizers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn

from mpi_landscape.configuration.sections.training import Phase
from mpi_landscape.errors import LandscapeError


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How to train, as in Li et al. 2018, arXiv:1712.09913, section 5, or in several such phases.

    Attributes:
        phases: One after the other, each with an optimizer of its own that knows nothing of the one before.
        seed: Decides everything that is drawn at random.
        piece_size: Most examples that go through the network at once; gradients add up over the pieces of a batch.
            Batch normalization sees a piece, not the batch. None takes a batch at once.
    """

    phases: tuple[Phase, ...]
    seed: int = 0
    piece_size: int | None = None


def num_epochs(recipe: Recipe) -> int:
    """How many epochs all phases have together."""
    return sum(phase.epochs for phase in recipe.phases)


def place(recipe: Recipe, number: int) -> tuple[int, int]:
    """Where an epoch, from 1 on, lies: index of its phase, from 0, and its number within that phase, from 1.

    Raises:
        LandscapeError: There is no such epoch.
    """
    left = number
    for index, phase in enumerate(recipe.phases):
        if 1 <= left <= phase.epochs:
            return index, left
        left -= phase.epochs
    raise LandscapeError(f"training: there is no epoch {number}; valid is 1 to {num_epochs(recipe)}")


def learning_rate(phase: Phase, epoch: int) -> float:
    """The learning rate of an epoch of a phase, as torch.optim.lr_scheduler.MultiStepLR has it.

    Args:
        phase: It has the learning rate at its start, and a schedule.
        epoch: Number within the phase, from 1.

    Example:
        >>> from mpi_landscape.configuration.sections.training import Schedule
        >>> schedule = Schedule(milestones=(1, 3), factor=0.5)
        >>> phase = Phase(epochs=4, optimizer="sgd", batch_size=8, learning_rate=0.4, schedule=schedule)
        >>> [learning_rate(phase, epoch) for epoch in (1, 2, 3, 4)]
        [0.4, 0.2, 0.2, 0.1]
    """
    rate = phase.learning_rate
    for milestone in phase.schedule.milestones:
        rate *= phase.schedule.factor if milestone < epoch else 1.0
    return rate


def make_optimizer(parameters: Iterable[nn.Parameter], phase: Phase) -> torch.optim.Optimizer:
    """Make the optimizer of a phase for the parameters that are not frozen.

    "sgd": v ← μ v + g, w ← w − η v, or with Nesterov w ← w − η (g + μ v) (Sutskever et al. 2013); "adam": Kingma and Ba
    2015, arXiv:1412.6980, algorithm 1, with its β₁ = 0.9, β₂ = 0.999 and ε = 1e-8. In both, weight decay λ adds λ w to
    the gradient g.

    Raises:
        LandscapeError: There is no such optimizer, or the network has nothing to train.
    """
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    if not trained:
        raise LandscapeError("model: has no parameters that require gradients; there is nothing to train")
    rate, decay = phase.learning_rate, phase.weight_decay
    if phase.optimizer == "sgd":
        return torch.optim.SGD(trained, rate, phase.momentum, weight_decay=decay, nesterov=phase.nesterov)
    if phase.optimizer == "adam":
        return torch.optim.Adam(trained, rate, weight_decay=decay)
    raise LandscapeError(f"training.optimizer: {phase.optimizer!r} is not known; valid are sgd, adam")


def largest_batch(phase: Phase, num_examples: int) -> int:
    """Examples of a step, but for the last of an epoch."""
    return num_examples if phase.batch_size == "all" else min(phase.batch_size, num_examples)


def batch_sizes(phase: Phase, num_examples: int) -> list[int]:
    """Examples in each batch of an epoch, in order; only the last may be smaller."""
    size = largest_batch(phase, num_examples)
    return [min(size, num_examples - start) for start in range(0, num_examples, size)]


def num_steps(phase: Phase, num_examples: int) -> int:
    """How many steps an epoch has."""
    return len(batch_sizes(phase, num_examples))


def piece_sizes(batch_size: int, largest: int | None) -> list[int]:
    """A batch in as few pieces as possible, of nearly equal size.

    Args:
        batch_size: Examples in all.
        largest: Most examples in a piece; None for no bound.

    Returns:
        Sizes that differ by one at most, the larger ones first: a last piece of one example, which batch normalization
        could not take, comes up only where all are as small.

    Example:
        >>> piece_sizes(129, 128)
        [65, 64]
    """
    count = 1 if largest is None else -(-batch_size // largest)
    size, larger = divmod(batch_size, count)
    return [size + 1] * larger + [size] * (count - larger)
