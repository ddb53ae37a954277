"""An elastic band whose pivots follow their gradients across the path, with pivots inserted where it is too coarse: AutoNEB.

Sources: Henkelman and Jónsson (2000), "Improved tangent estimate in the nudged elastic band method", J. Chem. Phys. 113, 9978,
equations 8 to 12; Kolsbjerg, Groves and Hammer (2016), "An automated nudged elastic band method", J. Chem. Phys. 145, 094107;
Draxler, Veschgini, Salmhofer and Hamprecht (2018), "Essentially no barriers in neural network energy landscape",
arXiv:1803.00885, section 3.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mpi_landscape.configuration.sections.connect import Cycle
from mpi_landscape.connections.curve import (
    Curve,
    chain,
    distance,
    dot,
    even_places,
    redistributed,
    straight_controls,
)
from mpi_landscape.connections.searching.rounds import Answer, Round, Task, mean_gradient, mean_loss


@dataclass(frozen=True, kw_only=True)
class Insertion:
    """When pivots are inserted.

    Attributes:
        threshold: Share of the range of losses on the path by which one must lie above the straight line between those of
            its neighbouring pivots.
        between: How many points between two pivots are looked at.
        most_pivots: Between the ends, in all.
    """

    threshold: float
    between: int
    most_pivots: int


class Band:
    """An elastic band on its way.

    Args:
        start: (n,), where it begins.
        end: (n,), where it ends.
        pivots: How many lie between at first, on the straight line.
        cycles: Steps and learning rates, one after another; pivots may be inserted before each but the first.
        insertion: When.
        momentum: Of the gradient of each pivot; a new cycle begins without.
        weight_decay: λ; λ times a pivot is added to its gradient.
        spring_constant: Of the springs between pivots; None puts the pivots back to their shares of the path's length after
            every step, as springs of infinite strength would.
    """

    def __init__(
        self,
        start: Tensor,
        end: Tensor,
        *,
        pivots: int,
        cycles: Sequence[Cycle],
        insertion: Insertion,
        momentum: float,
        weight_decay: float,
        spring_constant: float | None,
    ) -> None:
        self.curve: Curve = chain(straight_controls(start, end, pivots + 2))
        self.step = 0
        self._cycles, self._insertion = tuple(cycles), insertion
        self._begins = [0, *accumulate(cycle.steps for cycle in self._cycles)]
        self._momentum, self._decay, self._spring = momentum, weight_decay, spring_constant
        self._shares = tuple(np.diff(even_places(pivots + 2)).tolist())
        self._velocity = torch.zeros_like(self.curve.controls[1:-1])
        self._looked = 0  # at the path, before this cycle

    @property
    def num_steps(self) -> int:
        """How many steps there are in all."""
        return self._begins[-1]

    @property
    def is_done(self) -> bool:
        """Whether all steps are made."""
        return self.step >= self.num_steps

    def next_round(self) -> Round:
        """The gradient at every pivot, from the same examples, and the losses of the ends; or losses all along the path."""
        if self._is_to_look():
            return Round(tasks=tuple(Task(t=t, gradient=False) for t in self._looked_at()), step=None)
        first, *inner, last = self.curve.places
        tasks = [Task(t=first, gradient=False), *(Task(t=t) for t in inner), Task(t=last, gradient=False)]
        return Round(tasks=tuple(tasks), step=self.step)

    def take(self, answers: Sequence[Answer]) -> None:
        """Insert pivots, or make a step."""
        losses = [mean_loss(answer) for answer in answers]
        if self._is_to_look():
            self._insert(losses)
            self._looked = self._cycle()
            return
        self._move(losses, answers)
        self.step += 1

    def state(self) -> dict[str, Any]:
        """See `Search`."""
        return {
            "step": self.step,
            "looked": self._looked,
            "shares": list(self._shares),
            "places": list(self.curve.places),
            "controls": self.curve.controls,
            "velocity": self._velocity,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """See `Search`."""
        self.step, self._looked = int(state["step"]), int(state["looked"])
        self._shares = tuple(float(share) for share in state["shares"])
        self.curve = chain(state["controls"], [float(t) for t in state["places"]])
        self._velocity = state["velocity"]

    def _cycle(self) -> int:
        """The number of the cycle that the next step is in."""
        return int(np.searchsorted(self._begins, self.step, side="right")) - 1

    def _is_to_look(self) -> bool:
        cycle = self._cycle()
        return (
            self._begins[cycle] == self.step
            and self._looked < cycle
            and self._cycles[cycle].insert > 0
            and len(self._shares) <= self._insertion.most_pivots
        )

    def _looked_at(self) -> list[float]:
        """Every pivot, and points between each two."""
        number = self._insertion.between + 1
        return [
            before + (after - before) * index / number
            for before, after in pairwise(self.curve.places)
            for index in range(number)
        ] + [1.0]

    def _insert(self, losses: Sequence[float]) -> None:
        number, controls = self._insertion.between + 1, self.curve.controls
        room = self._insertion.most_pivots + 1 - len(self._shares)
        found = insertions(
            losses,
            self._insertion.between,
            threshold=self._insertion.threshold,
            most=min(self._cycles[self._cycle()].insert, room),
        )
        places, shares, rows = [0.0], [], [controls[0]]
        for gap, (before, after) in enumerate(pairwise(self.curve.places)):
            if gap in found:
                share = found[gap] / number
                between = before + (after - before) * share
                places.append(between)
                rows.append(self.curve.point(between))
                shares += [self._shares[gap] * share, self._shares[gap] * (1 - share)]
            else:
                shares.append(self._shares[gap])
            places.append(after)
            rows.append(controls[gap + 1])
        self._shares = tuple(shares)
        self.curve = chain(torch.stack(rows), places)
        self._velocity = torch.zeros_like(self.curve.controls[1:-1])

    def _move(self, losses: Sequence[float], answers: Sequence[Answer]) -> None:
        cycle = self._cycle()
        if self._begins[cycle] == self.step:
            self._velocity.zero_()
        old = self.curve.controls
        controls = old.clone()
        self._velocity.mul_(self._momentum)
        for index in range(1, len(old) - 1):
            gradient = mean_gradient(answers[index])
            if self._decay:
                gradient.add_(old[index], alpha=self._decay)
            direction = tangent(old[index - 1 : index + 2], losses[index - 1 : index + 2])
            gradient.add_(direction, alpha=-dot(gradient, direction))
            if self._spring is not None:
                stretch = distance(old[index + 1], old[index]) - distance(old[index], old[index - 1])
                gradient.add_(direction, alpha=-self._spring * stretch)
            self._velocity[index - 1].add_(gradient)
        controls[1:-1].add_(self._velocity, alpha=-self._cycles[cycle].learning_rate)
        if self._spring is None:
            controls = redistributed(controls, self._shares)
            places = [0.0, *np.cumsum(self._shares)[:-1].tolist(), 1.0]
        else:
            places = list(along(controls))
        self.curve = chain(controls, places)


def along(controls: Tensor) -> tuple[float, ...]:
    """Where each vector of a chain lies, in units of its length; evenly where it has none."""
    lengths = [distance(before, after) for before, after in pairwise(controls)]
    until = [0.0, *accumulate(lengths)]
    if not all(length > 0 for length in lengths):
        return even_places(len(controls))
    return (*(each / until[-1] for each in until[:-1]), 1.0)


def tangent(three: Tensor, losses: Sequence[float]) -> Tensor:
    """(n,), of norm 1: the direction of a band at the middle one of three pivots, towards the neighbour of higher loss.

    At a maximum or a minimum it is between both, so that it does not jump (Henkelman and Jónsson 2000, equations 8 to 11).

    Args:
        three: (3, n), the pivot between its neighbours.
        losses: Theirs.

    Example:
        >>> tangent(torch.tensor([[0.0, 0.0], [2.0, 0.0], [2.0, 3.0]]), [0.0, 1.0, 2.0])
        tensor([0., 1.])
    """
    before, here, after = losses
    backward, forward = three[1] - three[0], three[2] - three[1]
    if after > here > before:
        direction = forward
    elif after < here < before:
        direction = backward
    else:
        most = max(abs(after - here), abs(before - here))
        least = min(abs(after - here), abs(before - here))
        up, down = (most, least) if after > before else (least, most)
        if most == 0:
            up = down = 1.0
        direction = forward * up + backward * down
    norm = dot(direction, direction) ** 0.5
    return direction / norm if norm > 0 else torch.zeros_like(direction)


def insertions(losses: Sequence[float], between: int, *, threshold: float, most: int) -> dict[int, int]:
    """Where pivots are to be inserted.

    Args:
        losses: (gaps · (between + 1) + 1,): of every pivot, and at equal distances between each two.
        between: Points between two pivots.
        threshold: Share of the range of all losses.
        most: The most insertions; those where a loss lies highest above the straight line come first.

    Returns:
        Number of a gap -> number of the point in it, from 1, that lies highest above the straight line.

    Example:
        >>> insertions([0.0, 1.0, 0.0, 0.1, 0.2], 1, threshold=0.1, most=2)
        {0: 1}
    """
    number = between + 1
    span = max(losses) - min(losses)
    found = []
    for gap in range((len(losses) - 1) // number):
        own = np.array(losses[gap * number : (gap + 1) * number + 1])
        above = own - np.linspace(own[0], own[-1], number + 1)
        point = int(np.argmax(above[1:-1])) + 1
        if above[point] > threshold * span:
            found.append((-float(above[point]), gap, point))
    return {gap: point for _, gap, point in sorted(found)[:most]}
