"""Where the solutions of a plane lie in it: its center, and the checkpoints at the ends of differences."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath

import numpy as np
from torch import nn

from mpi_landscape.configuration.sections.plane import DifferenceDirection, DirectionsConfiguration
from mpi_landscape.geometry.directions import dot
from mpi_landscape.geometry.kept import KeptPlane
from mpi_landscape.geometry.plane import Plane
from mpi_landscape.placement.center import flat_state
from mpi_landscape.placement.ends import NOTHING, Given, end_along, ends_of
from mpi_landscape.storage.surface.points import NamedPoint
from mpi_landscape.wording import telling_parts


def points_of(
    configuration: DirectionsConfiguration,
    model: nn.Module,
    plane: Plane | KeptPlane,
    *,
    where: str,
    checkpoint: str | None = None,
    given: Given = NOTHING,
) -> list[NamedPoint]:
    """The center and the ends by their short names; nothing where no direction leads to a checkpoint. On one rank.

    An end that its direction reaches lies at 1; where the direction was normalized, or made orthogonal, or something stays at
    the center, it is found by least squares (`Plane.project`), as far as it lies in the plane.

    Args:
        configuration: The directions.
        model: The network at the center.
        plane: That they span.
        where: For messages.
        checkpoint: The file of the center; None where it has none.
        given: Ends that a script has handed over.

    Raises:
        LandscapeError: A checkpoint cannot be read.
    """
    said = {"alpha": configuration.alpha, "beta": configuration.beta}
    ends = {axis: each for axis, each in said.items() if isinstance(each, DifferenceDirection)}
    if not ends:
        return []
    axes = [axis for axis in said if axis in plane.directions]
    found = {"center": NamedPoint(name="", at=(0.0,) * len(axes))}
    for axis, each in ends.items():
        point = _point(axis, each, configuration, model, plane, axes, where, given)
        if point is not None:
            found[axis] = point
    files = {} if checkpoint is None else {"center": checkpoint}
    files |= {axis: each.to for axis, each in ends.items() if axis not in given}
    parts = telling_parts(list(files.values()))
    names = {
        which: part or PurePath(path).stem for (which, path), part in zip(files.items(), parts, strict=True)
    }
    return [
        NamedPoint(name=names.get(which) or _unnamed(which), at=point.at, outside=point.outside)
        for which, point in found.items()
    ]


def _point(
    axis: str,
    said: DifferenceDirection,
    configuration: DirectionsConfiguration,
    model: nn.Module,
    plane: Plane | KeptPlane,
    axes: Sequence[str],
    where: str,
    given: Given,
) -> NamedPoint | None:
    if axis in ends_of(configuration):
        return NamedPoint(name="", at=tuple(float(each == axis) for each in axes))
    if isinstance(plane, KeptPlane):
        # There are no vectors to project onto; what was taken off the difference is known.
        whole = said.normalize == "none" and not said.ignore and said.only == "all"
        return NamedPoint(name="", at=(plane.directions[axis].factor, 1.0)) if whole else None
    end, _ = end_along(axis, said, model, given, where=where)
    vector = flat_state(end, plane.layout)
    coordinates, distance = plane.project(vector)
    way = vector.double() - plane.center.double()
    length = float(np.sqrt(dot(way, way)))
    return NamedPoint(
        name="", at=tuple(coordinates.tolist()), outside=min(1.0, distance / length) if length else 0.0
    )


def _unnamed(which: str) -> str:
    return which if which == "center" else f"end of {which}"
