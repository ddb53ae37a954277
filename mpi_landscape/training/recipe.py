"""How to train, and what follows from it by arithmetic alone: epochs, steps, batches, learning rates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mpi_landscape.errors import LandscapeError


@dataclass(frozen=True, kw_only=True)
class Phase:
    """Epochs with one optimizer.

    Attributes:
        epochs: Passes over the training data; 0 leaves the phase out.
        optimizer: "sgd" or "adam".
        batch_size: Examples per step; the last batch of an epoch may be smaller. None: all, one step per epoch.
        learning_rate: At the start of the phase.
        momentum: Of the velocity; "sgd" only.
        nesterov: Whether to look ahead; "sgd" only.
        weight_decay: Added to the gradient, times the parameters (all of them).
        milestones: Epochs of this phase after which the learning rate is multiplied by `factor`.
        factor: See `milestones`.
        shift: Pixels by which a training image is moved at most, both ways along both axes; black comes in.
        flip: Whether half of the training images are mirrored.
    """

    epochs: int
    optimizer: str
    batch_size: int | None
    learning_rate: float
    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0
    milestones: Sequence[int] = ()
    factor: float = 0.1
    shift: int = 0
    flip: bool = False


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How to train, as in Li et al. 2018, arXiv:1712.09913, section 5, or in several such phases.

    Attributes:
        phases: One after the other, each with an optimizer of its own that knows nothing of the one before.
        seed: Of everything that is drawn at random.
        piece_size: Most examples that go through the network at once; gradients add up over the pieces of a batch.
            Batch normalisation sees a piece, not the batch. None: a batch at once.
    """

    phases: tuple[Phase, ...]
    seed: int = 0
    piece_size: int | None = None


def num_epochs(recipe: Recipe) -> int:
    """Epochs of all phases."""
    return sum(phase.epochs for phase in recipe.phases)


def place(recipe: Recipe, number: int) -> tuple[int, int]:
    """Where an epoch lies.

    Args:
        recipe: Its phases.
        number: Of the epoch, from 1 to `num_epochs`.

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
        phase: Learning rate at its start, milestones and factor.
        epoch: Within the phase, from 1.
    """
    rate = phase.learning_rate
    for milestone in phase.milestones:
        rate *= phase.factor if milestone < epoch else 1.0
    return rate


def batch_sizes(phase: Phase, num_examples: int) -> list[int]:
    """Examples in each batch of an epoch, in order; only the last may be smaller."""
    size = min(phase.batch_size or num_examples, num_examples)
    return [min(size, num_examples - start) for start in range(0, num_examples, size)]


def num_steps(phase: Phase, num_examples: int) -> int:
    """Steps of an epoch."""
    return len(batch_sizes(phase, num_examples))


def piece_sizes(batch_size: int, largest: int | None) -> list[int]:
    """A batch in as few pieces as possible, of nearly equal size.

    Args:
        batch_size: Examples in all.
        largest: Most examples in a piece; None for no bound.

    Returns:
        Sizes that differ by one at most, the larger ones first: a last piece of one example, which batch normalisation
        could not take, comes up only where all are as small.
    """
    count = 1 if largest is None else -(-batch_size // largest)
    size, larger = divmod(batch_size, count)
    return [size + 1] * larger + [size] * (count - larger)
