"""How to train, and what follows from it by arithmetic alone: epochs, steps, batches, learning rates."""

from __future__ import annotations

from dataclasses import dataclass

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
    """Where an epoch lies.

    Args:
        recipe: The phases.
        number: The number of the epoch, from 1 to `num_epochs`.

    Returns:
        Index of its phase, from 0, and its number within that phase, from 1.

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
