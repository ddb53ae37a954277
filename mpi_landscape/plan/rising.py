"""How far to look along a direction: until the loss has risen to a level, found by few evaluations."""

from __future__ import annotations

import math
from collections.abc import Callable

# Between these nothing is looked for.
NEAREST, FARTHEST = 2.0**-20, 2.0**20
# Halvings of a bracket on a logarithmic scale: 2 becomes 2^(1/4), 19 %.
_HALVINGS = 2


def risen(loss: Callable[[float], float], level: float) -> float | None:
    """A distance at which the loss is at or above a level, and at a fifth less of it below: the first such, seen from 1.

    From 1 on the distance is doubled until the loss is there, or halved until it is not; then the bracket is halved on a
    logarithmic scale. What is not a number, or infinite, is above every level.

    Args:
        loss: Of a distance above 0.
        level: Above the loss at 0.

    Returns:
        Rounded up to two digits; None where it is nowhere there.

    Example:
        >>> risen(lambda x: x**2, 10.0)  # the square root of 10 is 3.16
        3.4
        >>> risen(lambda x: 1 - math.exp(-x), 2.0) is None
        True
    """

    def is_above(distance: float) -> bool:
        value = loss(distance)
        return not value < level

    low, high = 0.0, 1.0
    if is_above(high):
        while True:
            low = high / 2
            if low < NEAREST:
                return _rounded_up(high)
            if not is_above(low):
                break
            high = low
    else:
        while True:
            low, high = high, 2 * high
            if high > FARTHEST:
                return None
            if is_above(high):
                break
    for _ in range(_HALVINGS):
        middle = math.sqrt(low * high)
        low, high = (low, middle) if is_above(middle) else (middle, high)
    return _rounded_up(high)


def _rounded_up(value: float) -> float:
    """To two significant digits: a number for people, that a file of theirs may hold."""
    digit = 10.0 ** (math.floor(math.log10(value)) - 1)
    found = math.ceil(value / digit - 1e-9) * digit
    return float(f"{found:.2g}")
