"""The string method: pivots follow their gradients, and are put at equal distances along the string after every step.

Source: E, Ren and Vanden-Eijnden (2007), "Simplified and improved string method for computing the minimum energy paths in
barrier-crossing events", J. Chem. Phys. 126, 164103.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mpi_landscape.connections.curve import Curve, chain, redistributed, straight_controls
from mpi_landscape.connections.searching.rounds import Answer, Round, Task, mean_gradient


class String:
    """A string on its way.

    Args:
        start: (n,), where it begins.
        end: (n,), where it ends.
        pivots: How many lie between; they begin on the straight line.
        steps: How many to make.
        learning_rate: Of every step.
        momentum: Of the gradient of each pivot.
        weight_decay: λ; λ times a pivot is added to its gradient.
    """

    def __init__(
        self,
        start: Tensor,
        end: Tensor,
        *,
        pivots: int,
        steps: int,
        learning_rate: float,
        momentum: float,
        weight_decay: float,
    ) -> None:
        self.curve: Curve = chain(straight_controls(start, end, pivots + 2))
        self.step, self.num_steps = 0, steps
        self._rate, self._momentum, self._decay = learning_rate, momentum, weight_decay
        self._velocity = torch.zeros_like(self.curve.controls[1:-1])

    @property
    def is_done(self) -> bool:
        """Whether all steps are made."""
        return self.step >= self.num_steps

    def next_round(self) -> Round:
        """The gradient at every pivot, from the same examples."""
        return Round(tasks=tuple(Task(t=t) for t in self.curve.places[1:-1]), step=self.step)

    def take(self, answers: Sequence[Answer]) -> None:
        """A step of every pivot, then equal distances again."""
        controls = self.curve.controls.clone()
        self._velocity.mul_(self._momentum)
        for number, answer in enumerate(answers):
            gradient = mean_gradient(answer)
            if self._decay:
                gradient.add_(controls[number + 1], alpha=self._decay)
            self._velocity[number].add_(gradient)
        controls[1:-1].add_(self._velocity, alpha=-self._rate)
        shares = [1 / (len(controls) - 1)] * (len(controls) - 1)
        self.curve = chain(redistributed(controls, shares))
        self.step += 1

    def state(self) -> dict[str, Any]:
        """See `Search`."""
        return {"step": self.step, "controls": self.curve.controls, "velocity": self._velocity}

    def restore(self, state: Mapping[str, Any]) -> None:
        """See `Search`."""
        self.step = int(state["step"])
        self.curve, self._velocity = chain(state["controls"]), state["velocity"]
