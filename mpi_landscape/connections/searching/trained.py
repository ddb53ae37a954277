"""Bézier curves and polygonal chains, their bends trained by SGD at random points of the curve.

Source: Garipov, Izmailov, Podoprikhin, Vetrov and Wilson (2018), "Loss surfaces, mode connectivity, and fast ensembling of
DNNs", arXiv:1802.10026, section 3: the mean of the loss over t ~ U(0, 1) is brought down. Weight decay is of the
point on the curve, as in their code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from mpi_landscape.connections.curve import Curve, bezier, chain, straight_controls
from mpi_landscape.connections.searching.rounds import Answer, Round, Task
from mpi_landscape.training.randomness import generator

# What is drawn for a path is independent of what is drawn for a training of the same seed.
_POINTS = 101


def rate_at(learning_rate: float, progress: float) -> float:
    """The learning rate after a share of the epochs: constant for a half, then falling to a hundredth until 0.9.

    Example:
        >>> [round(rate_at(1.0, progress), 3) for progress in (0.0, 0.5, 0.7, 0.9, 1.0)]
        [1.0, 1.0, 0.505, 0.01, 0.01]
    """
    return learning_rate * (1 - 0.99 * min(max((progress - 0.5) / 0.4, 0.0), 1.0))


class TrainedCurve:
    """A curve with bends on its way.

    Args:
        start: (n,), where it begins.
        end: (n,), where it ends.
        kind: "bezier" or "chain".
        bends: How many a chain has; they begin on the straight line.
        epochs: Passes over the data.
        steps_per_epoch: Steps of each.
        pieces: For each step of an epoch, into how many pieces its batch is cut.
        learning_rate: At the beginning, see `rate_at`.
        momentum: Of the gradient, as torch.optim.SGD has it.
        weight_decay: λ; λ γ(t) is added to the gradient at γ(t).
        seed: Of the points.
    """

    def __init__(
        self,
        start: Tensor,
        end: Tensor,
        *,
        kind: str,
        bends: int = 1,
        epochs: int,
        steps_per_epoch: int,
        pieces: Sequence[int],
        learning_rate: float,
        momentum: float,
        weight_decay: float,
        seed: int,
    ) -> None:
        controls = straight_controls(start, end, 3 if kind == "bezier" else bends + 2)
        self.curve: Curve = bezier(controls) if kind == "bezier" else chain(controls)
        self.step = 0
        self._velocity = torch.zeros_like(controls[1:-1])
        self._epochs, self._per_epoch, self._pieces = epochs, steps_per_epoch, tuple(pieces)
        self._rate, self._momentum, self._decay = learning_rate, momentum, weight_decay
        self._seed = seed

    @property
    def num_steps(self) -> int:
        """How many steps there are in all."""
        return self._epochs * self._per_epoch

    @property
    def is_done(self) -> bool:
        """Whether all steps are made."""
        return self.step >= self.num_steps

    def next_round(self) -> Round:
        """The gradient at a random point, from a batch; of a batch in pieces, each piece has a point of its own.

        The points of k pieces are drawn from k equal parts of the curve, one from each: the mean over them is that over
        U(0, 1), and varies less.
        """
        number = self._pieces[self.step % self._per_epoch]
        source = generator(_POINTS, self._seed, self.step)
        drawn = torch.rand(number, generator=source, dtype=torch.float64).tolist()
        tasks = (Task(t=(piece + each) / number, piece=piece) for piece, each in enumerate(drawn))
        return Round(tasks=tuple(tasks), step=self.step)

    def take(self, answers: Sequence[Answer]) -> None:
        """One step of the bends along the gradients at the points, each by its weight there."""
        tasks, total = self.next_round().tasks, sum(answer.count for answer in answers)
        rate = rate_at(self._rate, (self.step // self._per_epoch) / self._epochs)
        self._velocity.mul_(self._momentum)
        for task, answer in zip(tasks, answers, strict=True):
            assert answer.gradient is not None
            gradient = answer.gradient if total == 1 else answer.gradient.div_(total)
            if self._decay:
                gradient.add_(self.curve.point(task.t), alpha=self._decay / len(tasks))
            for index, weight in self.curve.weights(task.t):
                if 0 < index < len(self.curve.controls) - 1:
                    self._velocity[index - 1].add_(gradient, alpha=weight)
        self.curve.controls[1:-1].add_(self._velocity, alpha=-rate)
        self.step += 1

    def state(self) -> dict[str, Any]:
        """See `Search`."""
        return {"step": self.step, "controls": self.curve.controls, "velocity": self._velocity}

    def restore(self, state: Mapping[str, Any]) -> None:
        """See `Search`."""
        self.step = int(state["step"])
        self.curve = replace(self.curve, controls=state["controls"])
        self._velocity = state["velocity"]
