"""The file of a surface as a job keeps it: made or recognised by rank 0, then open for tiles."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mpi_landscape.errors import LandscapeError
from mpi_landscape.geometry.kept import KeptPlane
from mpi_landscape.geometry.plane import Plane
from mpi_landscape.placement.points import points_of
from mpi_landscape.storage import identity
from mpi_landscape.storage.cells import Cells
from mpi_landscape.storage.provenance import provenance
from mpi_landscape.storage.surface.constants import check_constants
from mpi_landscape.storage.surface.creation import Contents, create
from mpi_landscape.storage.surface.reader import read_attributes
from mpi_landscape.storage.surface.schema import TARGET
from mpi_landscape.storage.surface.tiles import open_tiles
from mpi_landscape.surfaces.losses import Losses
from mpi_landscape.surfaces.sampling import Before


class SurfaceFile:
    """A surface file of this very run.

    Args:
        path: Where it is.
        losses: What is computed into it.
        contents: What a new file holds, on rank 0 alone; given back once the file is there.
        before: What the file that is there says; None for a new one.
    """

    def __init__(self, path: Path, losses: Losses, contents: Contents | None, before: Before | None) -> None:
        self._path, self._contents, self._before = path, contents, before
        self._certificate, self._identity = losses.certificate, losses.identity
        self._rounding = losses.placed.precision.rounding
        self._checked = {name: value for name, value in losses.facts.items() if name.startswith("checked_")}
        target = losses.request.compute.relative_error
        self._notes = {TARGET: target or 0.0} if losses.plan.samples else {}

    @property
    def path(self) -> Path:
        """Where it is."""
        return self._path

    @property
    def notes(self) -> Mapping[str, float]:
        """The relative error that this run is asked for."""
        return self._notes

    def ensure(self) -> None:
        """Leave a file of this very run: the one that is there, or a new one.

        Raises:
            LandscapeError: The one that is there is another run's, or none can be made.
        """
        # For the readers of the file alone: the evaluator may have vectors of its own.
        contents, self._contents = self._contents, None
        assert contents is not None
        if self._before is None:
            create(self._path, contents)
            return
        identity.check_same(self._path, self._before.attributes, self._identity)
        check_constants(self._path, contents.grid, contents.plan)
        _check_center(self._path, self._before.attributes, self._certificate, self._rounding)
        _check_points(self._path, self._before.attributes, self._checked, self._rounding / 10)

    def check(self) -> None:
        """See that the file is still the one of this very run.

        Raises:
            LandscapeError: It is not.
        """
        identity.check_same(self._path, read_attributes(self._path), self._identity)

    def open(self, comm: Any | None, mode: str) -> Cells:
        """Open it for tiles."""
        return open_tiles(self._path, comm, mode=mode)


def contents_of(losses: Losses, plane: Plane | KeptPlane, attributes: Mapping[str, Any]) -> Contents:
    """What a new file holds.

    Args:
        losses: What is computed into it.
        plane: The vectors.
        attributes: More for the file to say of itself.
    """
    request = losses.request
    vectors: dict[str, Any] = (
        {"products": plane.products, "directions": {}}
        if isinstance(plane, KeptPlane)
        else {
            "center": plane.center.numpy(),
            "directions": {name: vector.numpy() for name, vector in plane.directions.items()},
        }
    )
    return Contents(
        grid=losses.grid,
        plan=losses.plan,
        quantities=losses.placed.quantities,
        **vectors,
        layout=[
            {"name": entry.name, "shape": entry.real_shape, "offset": entry.offset, "kind": entry.kind}
            for entry in plane.layout.entries
        ],
        orders=losses.orders,
        save_vectors=losses.saves_vectors,
        points=points_of(
            request.directions,
            request.problem.model,
            plane,
            where=request.problem.where,
            checkpoint=request.checkpoint,
            given=request.problem.ends,
        ),
        attributes={
            **provenance(),
            **attributes,
            **identity.as_attributes(losses.identity),
            **losses.certificate,
            **losses.facts,
        },
    )


def _check_center(path: Path, stored: Mapping[str, Any], now: Mapping[str, float], rounding: float) -> None:
    """The same parameters and data must give the same loss: otherwise the network's code or the loss has changed.

    Raises:
        LandscapeError: They do not.
    """
    for name, value in now.items():
        before = float(stored.get(name, np.nan))
        if (
            name.endswith("_loss")
            and np.isfinite([before, value]).all()
            and abs(before - value) > rounding * abs(before)
        ):
            raise LandscapeError(
                f"{path}: belongs to another run: its {name.split('_')[1]} loss at the center is {before:.9g}, now it is "
                f"{value:.9g}, so the network's code or the loss has changed; choose another --output, or --overwrite"
            )


def _check_points(path: Path, stored: Mapping[str, Any], now: Mapping[str, Any], rounding: float) -> None:
    """Likewise away from the center, where another loss of the same name, or another edge of the code, shows itself.

    Raises:
        LandscapeError: A loss is another one.
    """
    points = np.asarray(stored.get("checked_points", ()))
    if points.shape != np.shape(now.get("checked_points", ())) or not np.array_equal(
        points, now["checked_points"]
    ):
        return  # of before such points were kept
    for name in (name for name in now if name.endswith("_loss_plain")):
        before, value = np.asarray(stored.get(name, np.nan)), np.asarray(now[name])
        with np.errstate(invalid="ignore"):
            far = np.abs(before - value) > rounding * np.abs(before)
        if before.shape == value.shape and (far & np.isfinite(before) & np.isfinite(value)).any():
            place = int(np.argmax(far))
            raise LandscapeError(
                f"{path}: belongs to another run: the {name.split('_')[1]} loss of a few examples at "
                f"{tuple(points[place].tolist())} is {before[place]:.9g} there, now it is {value[place]:.9g}, so the network's "
                f"code or the loss has changed; choose another --output, or --overwrite"
            )
