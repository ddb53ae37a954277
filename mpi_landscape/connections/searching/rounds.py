"""What a search asks for in one round, and what it is answered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from mpi_landscape.connections.curve import Curve


@dataclass(frozen=True, kw_only=True)
class Task:
    """A pass over some examples at a point of the curve, made by one rank from its beginning to its end.

    Attributes:
        t: Where.
        piece: Which piece of the round's examples; None takes all of them.
        gradient: Whether the gradient is wanted besides the loss.
    """

    t: float
    piece: int | None = None
    gradient: bool = True


@dataclass(frozen=True, kw_only=True)
class Round:
    """Tasks that can be done at the same time.

    Attributes:
        tasks: What to do.
        step: Which step's batch of examples; None takes all of the data.
    """

    tasks: tuple[Task, ...]
    step: int | None


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a task gave.

    Attributes:
        loss: Sum of the losses of its examples over the number of examples of its round.
        count: By how much these examples count, over the same number.
        gradient: (n,), of `loss`, by the vector at the point; None where it was not wanted.
    """

    loss: float
    count: float
    gradient: Tensor | None = None


class Search(Protocol):
    """A path on its way; the same on every rank."""

    @property
    def curve(self) -> Curve:
        """As it is now."""

    @property
    def num_steps(self) -> int:
        """How many steps there are in all."""

    @property
    def step(self) -> int:
        """How many steps are made."""

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to do."""

    def next_round(self) -> Round:
        """What it needs to go on."""

    def take(self, answers: Sequence[Answer]) -> None:
        """Go on with the answers to the tasks of `next_round`, in their order."""

    def state(self) -> dict[str, Any]:
        """Everything that the rest depends on, tensors and plain numbers, without copying any of it."""

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go to a state of the same search; tensors of it are taken over."""


def mean_loss(answer: Answer) -> float:
    """The mean loss over the examples of an answer."""
    return answer.loss / answer.count if answer.count else float("nan")


def mean_gradient(answer: Answer) -> Tensor:
    """(n,), the gradient of the mean loss over the examples of an answer, in the answer's own memory."""
    assert answer.gradient is not None
    return answer.gradient if answer.count == 1 else answer.gradient.div_(answer.count)
