"""Points of a surface that have names: its center, and the checkpoints that its directions lead to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from mpi_landscape.errors import LandscapeError, printable
from mpi_landscape.storage.dimensions import Dimensions
from mpi_landscape.storage.soundness import check_datasets, holds
from mpi_landscape.storage.texts import stored_all

# More are no points that a picture could name.
_MOST = 1000


@dataclass(frozen=True, kw_only=True)
class NamedPoint:
    """A solution in the plane, or its projection.

    Attributes:
        name: Of its checkpoint, as far as it tells it from the others.
        at: (α, β), or (α,) on a line: by least squares, where it does not follow from the directions.
        outside: The share of its way from the center that leads out of the plane, in [0, 1]: 0 for a point of the plane.
    """

    name: str
    at: tuple[float, ...]
    outside: float = 0.0

    @property
    def is_projected(self) -> bool:
        """Whether what is seen there is not the solution itself."""
        return self.outside > 0.01


def write_points(file: h5py.File, points: Sequence[NamedPoint], dimensions: Dimensions) -> None:
    """Write them into a new file; nothing where there are none."""
    if not points:
        return
    group = file.create_group("points")
    columns = {
        "name": stored_all(point.name for point in points),
        **{axis: np.array([point.at[place] for point in points]) for place, axis in _axes(len(points[0].at))},
        "outside": np.array([point.outside for point in points]),
    }
    for name, column in columns.items():
        dimensions.name(group.create_dataset(name, data=column), ("point",), "points/")


def read_points(path: Path, file: h5py.File, num_axes: int) -> tuple[NamedPoint, ...]:
    """Those of a file; none of one of before.

    Raises:
        LandscapeError: They are damaged.
    """
    if not holds(file, "points/name"):
        return ()
    check_datasets(path, file, {"points/name": ((None,), "O")})
    count = file["points/name"].size
    numbers = [*(axis for _, axis in _axes(num_axes)), "outside"]
    check_datasets(path, file, {f"points/{name}": ((count,), "f8") for name in numbers})
    columns = np.stack([file[f"points/{name}"][...] for name in numbers], axis=1)
    if count > _MOST or not np.isfinite(columns).all():
        raise LandscapeError(f"{path}: is damaged: its points lie nowhere")
    names = [printable(text.decode(errors="backslashreplace")) for text in file["points/name"][...]]
    return tuple(
        NamedPoint(name=name, at=tuple(row[:-1]), outside=row[-1])
        for name, row in zip(names, columns.tolist(), strict=True)
    )


def _axes(number: int) -> list[tuple[int, str]]:
    return list(enumerate(("alpha", "beta")[:number]))
