"""Ranges of axes that a configuration leaves open (`grid.alpha: auto`), before anything is planned."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

from mpi_landscape.configuration.sections.plane import (
    AutoAxis,
    Direction,
    DirectionsConfiguration,
    FileDirection,
    GridConfiguration,
)
from mpi_landscape.configuration.sections.whole import Configuration
from mpi_landscape.errors import LandscapeError
from mpi_landscape.parallel.ranks import Ranks
from mpi_landscape.plan.grid import Axis
from mpi_landscape.storage.trajectory.reader import is_trajectory, read_trajectory

# Of the length of the path, left free at each end.
_MARGIN = 0.1
# Digits of a step: coordinates are then short numbers.
_DIGITS = 3


def with_ranges(
    grid: GridConfiguration, directions: DirectionsConfiguration, *, where: str, say: Callable[[str], None]
) -> GridConfiguration:
    """A grid without open ranges.

    On the axes of a trajectory file the range holds all of its paths (`Trajectory.extent`), with a margin of a tenth of their
    length at each end, and has the center, 0, as one of its points.

    Args:
        grid: As said.
        directions: What the axes are.
        where: For messages.
        say: Is told each range that was found.

    Raises:
        LandscapeError: No range can be found.
    """
    found = {}
    for name in ("alpha", "beta"):
        said = getattr(grid, name)
        if isinstance(said, AutoAxis):
            axis = _found(name, said.num, directions, where)
            found[name] = axis
            say(f"range       {name}: {axis.min:g} to {axis.max:g} in {axis.num}, found by grid.{name}: auto")
    return replace(grid, **found)


def resolved(configuration: Configuration, ranks: Ranks, where: str) -> Configuration:
    """A configuration without open ranges, the same on every rank. Collective.

    Raises:
        AgreedError: As `with_ranges`.
    """
    grid = ranks.on_root(
        lambda: with_ranges(configuration.grid, configuration.directions, where=where, say=ranks.say)
    )
    return replace(configuration, grid=ranks.share(grid) or configuration.grid)


def _found(name: str, num: int, directions: DirectionsConfiguration, where: str) -> Axis:
    direction = getattr(directions, name)
    if isinstance(direction, FileDirection) and is_trajectory(direction.path):
        return _of_trajectory(name, num, direction, directions, where)
    raise LandscapeError(
        f"{where}: grid.{name} is auto, and directions.{name} is no axis of a trajectory file, which alone says a range for now; "
        f"give min, max and num"
    )


def _of_trajectory(
    name: str, num: int, direction: FileDirection, directions: DirectionsConfiguration, where: str
) -> Axis:
    if not _is_as_it_was(direction) or (name == "beta" and directions.orthogonalize):
        raise LandscapeError(
            f"{where}: grid.{name} is auto, but directions.{name} changes the axis of {direction.path}, in whose units the path "
            f"is; valid is the axis as it is (normalize: none, no ignore, only: all, no orthogonalize), or min, max and num"
        )
    return axis_around(*read_trajectory(direction.path).extent(name), num)


def _is_as_it_was(direction: Direction) -> bool:
    return direction.normalize == "none" and not direction.ignore and direction.only == "all"


def axis_around(low: float, high: float, num: int) -> Axis:
    """An axis that holds a range and 0, with a margin; 0 is one of its points.

    Raises:
        LandscapeError: The range is a single point.

    Example:
        >>> axis = axis_around(-1.0, 9.0, 51)
        >>> axis
        Axis(min=-2.205, max=10.045, num=51)
        >>> 0 in axis.values
        True
    """
    low, high = min(low, 0.0), max(high, 0.0)
    if not (math.isfinite(low) and math.isfinite(high) and high > low):
        raise LandscapeError(
            "the path does not move along the axis, so that it says no range; give min, max and num"
        )
    margin = _MARGIN * (high - low)
    step = _rounded_up((high - low + 2 * margin) / (num - 2))
    before = math.ceil(Fraction(low - margin) / -step)
    return Axis(float(-before * step), float((num - 1 - before) * step), num)


def _rounded_up(step: float) -> Fraction:
    """The next number with few digits."""
    unit = Fraction(10) ** (math.floor(math.log10(step)) + 1 - _DIGITS)
    return math.ceil(Fraction(step) / unit) * unit
