"""Curves between two vectors: points on them, their lengths, and vectors put along them anew."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Floats = NDArray[np.float64]
Kind = Literal["bezier", "chain"]

# Numbers that are summed in float64 at a time: a copy of a whole vector in float64 would be two more of its size.
_PIECE = 2**20
# Nodes of a quadrature of the speed of a Bézier curve between two neighbouring points; it is smooth but where it all but
# turns round.
_NODES = 32


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A curve γ(t), t from 0 to 1, as sums of a few vectors with weights that depend on t alone.

    Attributes:
        kind: "bezier": γ(t) = (1 − t)² a + 2t(1 − t) c + t² b. "chain": straight from each vector to the next.
        controls: (k, n), start and end among them.
        places: Of a chain, the t at which it passes each of its vectors: increasing from 0 to 1. Of a Bézier curve, the t at
            which its bend weighs most.
    """

    kind: Kind
    controls: Tensor
    places: tuple[float, ...]

    def weights(self, t: float) -> list[tuple[int, float]]:
        """The vectors that a point is made of, with their weights; those of weight 0 left out.

        Example:
            >>> bezier = Curve(kind="bezier", controls=torch.zeros(3, 1), places=(0.0, 0.5, 1.0))
            >>> bezier.weights(0.5), bezier.weights(1.0)
            ([(0, 0.25), (1, 0.5), (2, 0.25)], [(2, 1.0)])
        """
        if self.kind == "bezier":
            found = [(0, (1 - t) ** 2), (1, 2 * t * (1 - t)), (2, t**2)]
        else:
            index = min(max(int(np.searchsorted(self.places, t, side="right")) - 1, 0), len(self.places) - 2)
            before, after = self.places[index], self.places[index + 1]
            # Two that rounding has put at one place are passed together.
            share = (t - before) / (after - before) if after > before else 1.0
            found = [(index, 1 - share), (index + 1, share)]
        return [(index, weight) for index, weight in found if weight != 0]

    def point(self, t: float) -> Tensor:
        """(n,), γ(t), in memory of its own; at t of a control of a chain it is that control, bit for bit."""
        (index, weight), *others = self.weights(t)
        point = self.controls[index] * weight
        for index, weight in others:
            point.add_(self.controls[index], alpha=weight)
        return point

    def lengths(self, places: Sequence[float]) -> Floats:
        """(len(places),) float64: the length of the curve from 0 to each t, which increase.

        That of a chain is exact; that of a Bézier curve is the integral of its speed, of which the square is a polynomial in t
        whose coefficients are products of its vectors.
        """
        if self.kind == "chain":
            steps = segment_lengths(self.controls)
            until = np.concatenate([[0.0], np.cumsum(steps)])
            return np.asarray(np.interp(places, self.places, until))
        start, bend, end = self.controls
        first, second = bend - start, end - bend
        squares = dot(first, first), dot(first, second), dot(second, second)
        nodes, weights = np.polynomial.legendre.leggauss(_NODES)
        lengths, total, before = [], 0.0, 0.0
        for t in places:
            at = before + (t - before) * (nodes + 1) / 2
            speed = 2 * np.sqrt(
                np.maximum(
                    (1 - at) ** 2 * squares[0] + 2 * at * (1 - at) * squares[1] + at**2 * squares[2], 0.0
                )
            )
            total += float((weights * speed).sum()) * (t - before) / 2
            lengths.append(total)
            before = t
        return np.array(lengths)


def line(start: Tensor, end: Tensor) -> Curve:
    """The straight line from one vector to another."""
    return chain(torch.stack([start, end]))


def chain(controls: Tensor, places: Sequence[float] | None = None) -> Curve:
    """A chain; without places, each piece takes the same time."""
    if places is None:
        places = even_places(len(controls))
    return Curve(kind="chain", controls=controls, places=tuple(places))


def bezier(controls: Tensor) -> Curve:
    """A quadratic Bézier curve of three vectors."""
    return Curve(kind="bezier", controls=controls, places=(0.0, 0.5, 1.0))


def straight_controls(start: Tensor, end: Tensor, number: int) -> Tensor:
    """(number, n): both ends, and what lies between them at equal distances on the straight line."""
    straight = line(start, end)
    return torch.stack([straight.point(t) for t in even_places(number)])


def even_places(number: int) -> tuple[float, ...]:
    """From 0 to 1 in equal steps.

    Example:
        >>> even_places(3)
        (0.0, 0.5, 1.0)
    """
    return tuple(index / (number - 1) for index in range(number))


def segment_lengths(controls: Tensor) -> Floats:
    """(k − 1,) float64: the distances from each of k vectors to the next."""
    return np.array([distance(before, after) for before, after in pairwise(controls)])


def distance(first: Tensor, second: Tensor) -> float:
    """Between two vectors, summed in float64."""
    return math.sqrt(
        sum((one.double() - two.double()).square().sum().item() for one, two in _pieces(first, second))
    )


def dot(first: Tensor, second: Tensor) -> float:
    """The inner product of two vectors, summed in float64."""
    return sum((one.double() * two.double()).sum().item() for one, two in _pieces(first, second))


def redistributed(controls: Tensor, shares: Sequence[float]) -> Tensor:
    """Put vectors at given shares of the length of the chain through them, by linear interpolation.

    Source: E, Ren and Vanden-Eijnden (2007), "Simplified and improved string method", J. Chem. Phys. 126, 164103, section II,
    with the linear interpolation in place of splines.

    Args:
        controls: (k, n); the first and the last stay.
        shares: k − 1 numbers whose sum is 1: the lengths of the new pieces, in units of the whole.

    Returns:
        (k, n), in memory of its own.

    Example:
        >>> uneven = torch.tensor([[0.0], [3.0], [4.0]])
        >>> redistributed(uneven, [0.5, 0.5]).flatten().tolist()
        [0.0, 2.0, 4.0]
    """
    until = np.concatenate([[0.0], np.cumsum(segment_lengths(controls))])
    made = controls.clone()
    if until[-1] == 0:
        return made
    wanted = np.cumsum(shares)[:-1] * until[-1]
    for number, place in enumerate(wanted, start=1):
        index = int(np.clip(np.searchsorted(until, place, side="right") - 1, 0, len(until) - 2))
        span = until[index + 1] - until[index]
        share = 0.0 if span == 0 else float(min(max((place - until[index]) / span, 0.0), 1.0))
        made[number] = controls[index] * (1 - share)
        made[number].add_(controls[index + 1], alpha=share)
    return made


def _pieces(first: Tensor, second: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    return zip(torch.split(first, _PIECE), torch.split(second, _PIECE), strict=True)
