"""The plane and the points of a surface that is there, for whoever looks at something else in the same places."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from mpi_landscape.errors import LandscapeError
from mpi_landscape.plan.grid import Axis
from mpi_landscape.storage import identity
from mpi_landscape.storage.files import kind_of
from mpi_landscape.storage.surface.reader import read_attributes, read_surface, vectors_are_saved


class Place(NamedTuple):
    """Where a surface was computed; `beta` is None of a line."""

    alpha: Axis
    beta: Axis | None


def is_of_a_surface(path: object) -> bool:
    """Whether something names a surface file, by its content."""
    return isinstance(path, str) and Path(path).is_file() and kind_of(path) == "surface"


def place_of(path: str) -> Place:
    """The axes of a surface file whose directions can be taken.

    Raises:
        LandscapeError: It is none, or of several lines, or holds no directions.
    """
    surface = read_surface(path)
    if surface.seeds is not None:
        raise LandscapeError(
            f"{path}: holds several lines, each with a direction of its own; valid is a file with one, or a plane"
        )
    if not vectors_are_saved(surface.attributes):
        raise LandscapeError(
            f"{path}: holds no directions, as it was computed with compute.save_vectors: false; valid are at: grid with the "
            f"directions that its configuration says (inspect --json shows it), or a file that was computed with them"
        )
    axes = [
        None if axis is None else Axis(float(axis[0]), float(axis[-1]), len(axis))
        for axis in (surface.alpha, surface.beta)
    ]
    assert axes[0] is not None
    return Place(alpha=axes[0], beta=axes[1])


def check_center(path: str, center: str) -> None:
    """Refuse a surface around another network.

    Args:
        path: A surface file.
        center: The fingerprint of the center that it should have.

    Raises:
        LandscapeError: It has another one.
    """
    known = identity.of_attributes(read_attributes(path)).get("center")
    if known is not None and known != center:
        raise LandscapeError(
            f"{path}: is a surface around other parameters than those of model.checkpoint; valid is the checkpoint that it was "
            f"computed around"
        )
