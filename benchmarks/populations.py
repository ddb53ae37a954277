"""Losses of every example at every point of a plane, in closed form: what surfaces of samples are tried on. Numpy only.

Each population is a function `(generator, num) -> losses`, where `losses(alpha, beta)` gives the (num,) losses of all
examples at a point, float64. Points of interest lie in [-1, 1] x [-1, 1], the solution is at (0, 0).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from math import erf, pi, sin, sqrt

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Losses = Callable[[float, float], Floats]
Population = Callable[[np.random.Generator, int], Losses]

_TABLE = np.linspace(-6, 6, 4001)
_NORMAL = np.array([(1 + erf(value / sqrt(2))) / 2 for value in _TABLE])


def field(generator: np.random.Generator, num: int, wander: float = 1.0) -> Losses:
    """(num,) standard normal numbers that change smoothly over the plane; `wander` is how much from center to corner."""
    base = generator.standard_normal((5, num))

    def at(alpha: float, beta: float) -> Floats:
        weights = np.array([1.0, wander * alpha, wander * beta, wander * alpha * beta, wander * alpha**2])
        result: Floats = weights @ base / np.linalg.norm(weights)
        return result

    return at


def uniform(normal: Floats) -> Floats:
    """Standard normal numbers as uniform ones in (0, 1)."""
    return np.clip(np.interp(normal, _TABLE, _NORMAL), 1e-9, 1 - 1e-9)


def margins(
    generator: np.random.Generator, num: int, height: float, spread: float, flipped: float = 0.0
) -> Losses:
    """(num,) margins of a classifier: high at the solution, but of wrong labels, and lower and more spread far out."""
    start = height + spread * generator.standard_normal(num)
    start = np.where(generator.random(num) < flipped, -start, start)
    slopes = spread * generator.standard_normal((2, num))
    return lambda alpha, beta: (
        start * np.exp(-1.5 * (alpha**2 + beta**2)) + alpha * slopes[0] + beta * slopes[1]
    )


def softplus(values: Floats) -> Floats:
    """log(1 + exp(x)) without overflow."""
    result: Floats = np.logaddexp(0, values)
    return result


def cross_entropy(generator: np.random.Generator, num: int, *, height: float, flipped: float = 0.0) -> Losses:
    """A fitted classifier: tiny losses and a few large ones at the solution."""
    margin = margins(generator, num, height, 3.0, flipped)
    return lambda alpha, beta: softplus(-margin(alpha, beta))


def hinge(generator: np.random.Generator, num: int) -> Losses:
    """max(0, 1 - margin): exactly zero for most examples."""
    margin = margins(generator, num, 6.0, 2.0)
    return lambda alpha, beta: np.maximum(0, 1 - margin(alpha, beta))


def zero_one(generator: np.random.Generator, num: int, *, share: float) -> Losses:
    """0-1 loss: at the solution `share` of the examples are wrong, further out more."""
    normal = field(generator, num)
    return lambda alpha, beta: np.array(
        uniform(normal(alpha, beta)) < min(0.5, share * (1 + 3 * (alpha**2 + beta**2))), dtype=np.float64
    )


def lognormal(generator: np.random.Generator, num: int) -> Losses:
    """exp(g), with more spread at the solution than far out."""
    normal = field(generator, num)
    return lambda alpha, beta: np.exp((2 - alpha**2 / 2 - beta**2 / 2) * normal(alpha, beta))


def pareto(generator: np.random.Generator, num: int, *, shape: float, wander: float = 1.0) -> Losses:
    """P(loss > x) = x^-shape, x >= 1."""
    normal = field(generator, num, wander)
    return lambda alpha, beta: uniform(-normal(alpha, beta)) ** (-1 / shape)


def student(generator: np.random.Generator, num: int) -> Losses:
    """4 + t with 3 degrees of freedom: a normal number over the root of a mean of three squares."""
    above, below = field(generator, num), [field(generator, num, 0.5) for _ in range(3)]
    return lambda alpha, beta: (
        4 + above(alpha, beta) / np.sqrt(sum(part(alpha, beta) ** 2 for part in below) / 3)
    )


def exponential(generator: np.random.Generator, num: int) -> Losses:
    """-log u."""
    normal = field(generator, num)
    return lambda alpha, beta: -np.log(uniform(normal(alpha, beta)))


def normal_losses(generator: np.random.Generator, num: int, *, mean: float) -> Losses:
    """A mean and g: positive for a large mean, of both signs for a small one."""
    normal = field(generator, num)
    return lambda alpha, beta: mean + normal(alpha, beta)


def bimodal(generator: np.random.Generator, num: int) -> Losses:
    """Two kinds of examples whose shares change."""
    normal, noise = field(generator, num), generator.random(num)
    return lambda alpha, beta: 5.0 * (normal(alpha, beta) < -1 + alpha**2 + beta) + 0.2 * noise


def outliers(generator: np.random.Generator, num: int, *, seen: bool, size: float) -> Losses:
    """Losses of about 0.5, and three examples of `size`: everywhere, or only where no trial point is."""
    normal = field(generator, num)
    largest = np.zeros(num)
    largest[generator.choice(num, 3, replace=False)] = size

    def at(alpha: float, beta: float) -> Floats:
        hidden = sin(pi * alpha) ** 2 + sin(pi * beta) ** 2
        return 0.5 + 0.1 * normal(alpha, beta) + largest * (1.0 if seen else hidden / 2)

    return at


def constant(_generator: np.random.Generator, num: int) -> Losses:
    """All examples have the same loss."""
    return lambda alpha, beta: np.full(num, 1 + alpha**2 + beta**2)


def swapped(generator: np.random.Generator, num: int) -> Losses:
    """Examples that are large at the center are small at the corners."""
    rank = generator.standard_normal(num)

    def at(alpha: float, beta: float) -> Floats:
        far = (alpha**2 + beta**2) / 2
        return (1 - far) * np.exp(1.5 * rank) + far * np.exp(-1.5 * rank)

    return at


def composed(generator: np.random.Generator, num: int) -> Losses:
    """A mixture whose composition changes: a rare heavy kind near the center, a frequent light one far out."""
    heavy, light = field(generator, num, 0.5), field(generator, num)
    rare = generator.random(num) < 0.02

    def at(alpha: float, beta: float) -> Floats:
        far = np.exp(-2 * (alpha**2 + beta**2))
        return far * rare * np.exp(1 + heavy(alpha, beta)) + (1 - far + 0.01) * np.exp(
            0.5 * light(alpha, beta)
        )

    return at


POPULATIONS: Mapping[str, Population] = {
    "cross-entropy, fitted": partial(cross_entropy, height=8.0),
    "cross-entropy, fitted well": partial(cross_entropy, height=12.0),
    "cross-entropy, 0.1 % wrong labels": partial(cross_entropy, height=8.0, flipped=0.001),
    "cross-entropy, 10 % wrong labels": partial(cross_entropy, height=8.0, flipped=0.1),
    "lognormal": lognormal,
    "exponential": exponential,
    "normal, 5 + g": partial(normal_losses, mean=5.0),
    "both signs, 0.3 + g": partial(normal_losses, mean=0.3),
    "Student t, 4 + t3": student,
    "Pareto 2.5": partial(pareto, shape=2.5),
    "Pareto 1.5": partial(pareto, shape=1.5),
    "Pareto 1.1": partial(pareto, shape=1.1),
    "hinge": hinge,
    "0-1, 0.1 %": partial(zero_one, share=0.001),
    "0-1, 1 %": partial(zero_one, share=0.01),
    "0-1, 50 %": partial(zero_one, share=0.5),
    "bimodal": bimodal,
    "all equal": constant,
    "order swapped": swapped,
    "composition changes": composed,
    "three outliers": partial(outliers, seen=True, size=1e4),
    "three outliers, hidden": partial(outliers, seen=False, size=1e4),
}
