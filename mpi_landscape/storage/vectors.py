"""Flat vectors of files of any kind: of a surface, or of a trajectory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mpi_landscape.storage.surface import reader as surfaces
from mpi_landscape.storage.trajectory import reader as trajectories


def read_direction(path: str | Path, name: str) -> tuple[NDArray[np.float32], list[str]]:
    """A vector (`center`, `alpha` or `beta`) and the names of its tensors.

    Raises:
        LandscapeError: The file has no such vector, or it is damaged.
    """
    read = trajectories.read_vector if trajectories.is_trajectory(path) else surfaces.read_direction
    return read(path, name)


def read_names(path: str | Path) -> list[str]:
    """The names of the tensors in the order of the flat vectors."""
    read = trajectories.read_names if trajectories.is_trajectory(path) else surfaces.read_names
    return read(path)
