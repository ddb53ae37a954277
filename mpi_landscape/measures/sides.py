"""How far a loss goes until it has risen, and how high it is between two solutions: along one axis."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mpi_landscape.storage.surface.points import NamedPoint

# What is wrong with a point that is in the way.
_MISSING, _UNDEFINED = "a point is not computed", "the loss is not finite"


@dataclass(frozen=True, kw_only=True)
class Side:
    """How far from the minimum a rise is reached on one side.

    Attributes:
        width: In units of the axis, at least 0; NaN where it is not reached.
        why: Why it is not reached; empty where it is.
    """

    width: float
    why: str = ""


@dataclass(frozen=True, kw_only=True)
class Barrier:
    """The way from one solution to another along a line.

    Attributes:
        ends: The loss at both solutions; NaN where it is not known.
        height: The greatest loss on the way minus that of the higher end, at least 0, infinite where the loss is; NaN where
            it is not known.
        at: Where the greatest loss is.
        why: Why the height is not known; empty where it is.
    """

    ends: tuple[float, float]
    height: float
    at: float
    why: str = ""


def sides_of(
    axis: NDArray[np.float64],
    values: NDArray[np.float64],
    done: NDArray[np.bool_],
    place: int,
    rise: float,
) -> tuple[Side, Side]:
    """Where a loss has risen above that of a point, to its left and to its right, interpolated linearly.

    Args:
        axis: (n,) ascending.
        values: (n,) along it.
        done: (n,) bool, where there is a result.
        place: Of the point, whose value is finite.
        rise: Above its value, more than 0.

    Example:
        >>> axis, every = np.array([-1.0, 0.0, 1.0, 2.0]), np.ones(4, dtype=bool)
        >>> left, right = sides_of(axis, np.array([0.5, 0.0, 1.0, 4.0]), every, place=1, rise=2.5)
        >>> left, right.width  # from 1 at 1 to 4 at 2
        (Side(width=nan, why='not reached within the grid'), 1.5)
    """
    left, right = range(place, -1, -1), range(place, len(axis))
    return _side(axis, values, done, left, rise), _side(axis, values, done, right, rise)


def _side(
    axis: NDArray[np.float64],
    values: NDArray[np.float64],
    done: NDArray[np.bool_],
    way: range,
    rise: float,
) -> Side:
    start, before = way[0], way[0]
    level = values[start] + rise
    if not level > values[start]:
        return Side(width=np.nan, why="the rise is less than the rounding of the loss")
    for here in way[1:]:
        if not done[here] or not np.isfinite(values[here]):
            beyond = f"{_UNDEFINED if done[here] else _MISSING} at {axis[here]:g}, before it is reached"
            return Side(width=np.nan, why=beyond)
        if values[here] >= level:
            # Of halves: the difference of two large numbers may be beyond all.
            share = (level / 2 - values[before] / 2) / (values[here] / 2 - values[before] / 2)
            return Side(width=float(abs(axis[before] + share * (axis[here] - axis[before]) - axis[start])))
        before = here
    return Side(width=np.nan, why="not reached within the grid")


def barrier_of(
    axis: NDArray[np.float64],
    values: NDArray[np.float64],
    done: NDArray[np.bool_],
    ends: tuple[float, float],
) -> Barrier:
    """The barrier between two solutions on a line: of the grid's points between them, and of the ends, interpolated if need be.

    Args:
        axis: (n,) ascending.
        values: (n,) along it.
        done: (n,) bool, where there is a result.
        ends: Coordinates of the two.

    Example:
        >>> axis = np.linspace(0, 1, 5)
        >>> barrier_of(axis, np.array([0.5, 2.0, 3.0, 2.0, 1.0]), np.ones(5, dtype=bool), (0.0, 1.0))
        Barrier(ends=(0.5, 1.0), height=2.0, at=0.5, why='')
    """
    low, high = min(ends), max(ends)
    unknown = Barrier(ends=(np.nan, np.nan), height=np.nan, at=np.nan)
    if not axis[0] <= low < high <= axis[-1]:
        return _with(unknown, f"the grid does not reach from {low:g} to {high:g}")
    # Also the neighbors that an end is interpolated from.
    first = int(np.searchsorted(axis, low, side="right")) - 1
    stop = int(np.searchsorted(axis, high, side="left")) + 1
    part = slice(first, stop)
    if not done[part].all():
        left = int((~done[part]).sum())
        return _with(unknown, f"{left} of {stop - first} points between the two are not computed")
    with np.errstate(invalid="ignore"):
        found = (float(np.interp(ends[0], axis, values)), float(np.interp(ends[1], axis, values)))
    inside = (axis >= low) & (axis <= high)
    places = np.concatenate([axis[inside], np.array(ends)])
    losses = np.concatenate([values[inside], np.array(found)])
    if np.isnan(losses).any() or not np.isfinite(found).all():
        return Barrier(
            ends=found, height=np.nan, at=np.nan, why="the loss is not finite at an end, or NaN on the way"
        )
    highest = int(np.argmax(losses))
    return Barrier(ends=found, height=float(losses[highest] - max(found)), at=float(places[highest]))


def _with(barrier: Barrier, why: str) -> Barrier:
    return Barrier(ends=barrier.ends, height=barrier.height, at=barrier.at, why=why)


def ends_on_line(points: tuple[NamedPoint, ...], *, leads_to_checkpoint: bool) -> tuple[float, float] | None:
    """Coordinates of the two solutions of a line; None where it has none.

    Args:
        points: That have names in the file.
        leads_to_checkpoint: Whether a file without such points says that it ends in a checkpoint at 1.
    """
    there = [point.at[0] for point in points if not point.is_projected and len(point.at) == 1]
    if len(there) == 2:
        return there[0], there[1]
    return (0.0, 1.0) if leads_to_checkpoint and not points else None
