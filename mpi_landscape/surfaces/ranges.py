"""Ranges of axes that a configuration leaves open (`grid.alpha: auto`), before anything is planned.

Those of a trajectory's axes are in its file; others are found by a few passes over the data, once these are there.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

from mpi_landscape.configuration.sections.plane import (
    AutoAxis,
    Direction,
    DirectionsConfiguration,
    FileDirection,
    GridConfiguration,
)
from mpi_landscape.configuration.sections.whole import Configuration
from mpi_landscape.errors import LandscapeError
from mpi_landscape.geometry.kept import KeptPlane
from mpi_landscape.geometry.plane import Plane
from mpi_landscape.parallel.ranks import Ranks
from mpi_landscape.placement.ends import ends_of
from mpi_landscape.placement.placing import Placed
from mpi_landscape.plan.grid import Axis, Grid
from mpi_landscape.storage.surface.reader import read_surface
from mpi_landscape.storage.trajectory.reader import is_trajectory, read_trajectory
from mpi_landscape.surfaces.evaluating import setting_of
from mpi_landscape.surfaces.recomputing import recomputes
from mpi_landscape.surfaces.request import Request
from mpi_landscape.surfaces.rising import rising_ranges

# Of the length of the path, left free at each end.
_MARGIN = 0.1
# Along a difference: the line of Li et al. 2018, section 5, beyond both ends.
_OF_A_DIFFERENCE = (-0.5, 1.5)
# Digits of a step: coordinates are then short numbers.
_DIGITS = 3


def with_known_ranges(
    grid: GridConfiguration, directions: DirectionsConfiguration, *, where: str, say: Callable[[str], None]
) -> GridConfiguration:
    """A grid without ranges that are open though a file says them.

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
            direction = getattr(directions, name)
            if not (isinstance(direction, FileDirection) and is_trajectory(direction.path)):
                continue
            found[name] = axis = _of_trajectory(name, said.num, direction, directions, where)
            say(f"range       {name}: {axis.min:g} to {axis.max:g} in {axis.num}, found by grid.{name}: auto")
    return replace(grid, **found)


def resolved(configuration: Configuration, ranks: Ranks, where: str) -> Configuration:
    """A configuration without ranges that are open though a file says them, the same on every rank. Collective.

    Raises:
        AgreedError: As `with_known_ranges`.
    """
    grid = ranks.on_root(
        lambda: with_known_ranges(configuration.grid, configuration.directions, where=where, say=ranks.say)
    )
    return replace(configuration, grid=ranks.share(grid) or configuration.grid)


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


def axis_around(low: float, high: float, num: int, *, margin: float = _MARGIN) -> Axis:
    """An axis that holds a range and 0, with a share of its length free at both ends; 0 is one of its points.

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
    free = margin * (high - low)
    step = _rounded_up((high - low + 2 * free) / (num - 2))
    before = math.ceil(Fraction(low - free) / -step)
    return Axis(float(-before * step), float((num - 1 - before) * step), num)


def _rounded_up(step: float) -> Fraction:
    """The next number with few digits."""
    unit = Fraction(10) ** (math.floor(math.log10(step)) + 1 - _DIGITS)
    return math.ceil(Fraction(step) / unit) * unit


def with_found_ranges(
    request: Request, placed: Placed, plane: Plane | KeptPlane, ranks: Ranks, path: Path | None
) -> Request:
    """A request without open ranges: those of the file that may be continued, or what `rising_ranges` finds. Collective.

    Along a difference to another network it is the usual one, from -0.5 to 1.5.

    Args:
        request: What is asked for.
        placed: Its problem on the device.
        plane: Around the network's parameters.
        ranks: Who searches.
        path: The file that may be continued; None without one.

    Raises:
        AgreedError: There is no such range, or the file cannot be read.
    """
    open_axes = request.open_axes
    if not open_axes:
        return request
    stored = ranks.share(ranks.on_root(lambda: None if path is None else _stored(path, request.grid)))
    if stored is None:
        ranges = {axis: _OF_A_DIFFERENCE for axis in open_axes if axis in ends_of(request.directions)}
        searched = [axis for axis in open_axes if axis not in ranges]
        if searched:
            setting = setting_of(placed, plane)
            ranges |= rising_ranges(setting, placed, searched, ranks, anew=recomputes(request))
        stored = {
            axis: axis_around(low, high, getattr(request.grid, axis).num, margin=0.0)
            for axis, (low, high) in ranges.items()
        }
    for name, axis in stored.items():
        ranks.say(
            f"range       {name}: {axis.min:g} to {axis.max:g} in {axis.num}, found by grid.{name}: auto"
        )
    grid = request.grid
    found = replace(grid, alpha=stored.get("alpha", grid.alpha), beta=stored.get("beta", grid.beta))
    return replace(request, grid=found, open_axes=())


def _stored(path: Path, grid: Grid) -> dict[str, Axis] | None:
    """The axes of a file that has as many points; None of another one."""
    surface = read_surface(path)
    found = {"alpha": surface.alpha} | ({} if surface.beta is None else {"beta": surface.beta})
    asked = {"alpha": grid.alpha} | ({} if grid.beta is None else {"beta": grid.beta})
    if {name: len(axis) for name, axis in found.items()} != {name: axis.num for name, axis in asked.items()}:
        return None
    return {name: Axis(float(axis[0]), float(axis[-1]), len(axis)) for name, axis in found.items()}
