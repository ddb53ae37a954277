"""One picture of a surface for a script or a notebook: that of the command line, as a figure or in given axes."""

from dataclasses import fields
from typing import Any

from mpi_landscape.errors import LandscapeError
from mpi_landscape.storage.connection.value import Connection
from mpi_landscape.storage.history.records import History
from mpi_landscape.storage.spectrum.value import Spectrum
from mpi_landscape.storage.surface.value import Surface
from mpi_landscape.storage.trajectory.value import Trajectory
from mpi_landscape.wording import listed, shown, suggestion
from plotting.asked.curvature_figures import draw_curvature
from plotting.asked.curvature_pictures import plan_curvature
from plotting.asked.history_pictures import plan_histories
from plotting.asked.path_pictures import plan_paths
from plotting.asked.pictures import fields_and_scales, plan_pictures
from plotting.asked.request import Request
from plotting.asked.spectrum_pictures import draw_spectra, plan_spectra
from plotting.asked.trajectory_pictures import draw_way, plan_trajectories
from plotting.drawn.figures import draw_figure, draw_into, in_notebooks
from plotting.drawn.history import draw_history
from plotting.drawn.path import draw_path as drawn_path
from plotting.picture.levels import parse_levels
from plotting.picture.quantities import (
    CURVATURE_KINDS,
    SPECTRUM_KINDS,
    curvature_kinds,
    kinds_of,
    valid_kinds,
)
from plotting.picture.ways import KINDS as WAYS

_OPTIONS = ("scale", "levels", "vmin", "vmax", "title")
_SCALES = ("auto", "linear", "log")


def draw(surface: Surface, *, kind: str | None, quantity: str | None, ax: Any, **options: Any) -> Any:
    """The figure of one picture, attached to no window; or the axes, where some are given.

    Args:
        surface: What to draw.
        kind: One that fits its grid; None for the usual one.
        quantity: One of its quantities; None for the usual one.
        ax: Axes of matplotlib; None for a new figure.
        options: Fields of `Request` that one picture has.

    Raises:
        LandscapeError: An option is not valid, or does not fit.
    """
    fitting = kinds_of(surface)
    if kind is None and ax is None and quantity is None and curvature_kinds(surface):
        kind = curvature_kinds(surface)[0]
    if kind is not None and kind not in valid_kinds(surface):
        raise LandscapeError(
            f"{surface.path}: plot(): kind is {shown(kind)}; valid for its grid are {listed(valid_kinds(surface))}"
        )
    for name in options:
        if name not in _OPTIONS:
            raise LandscapeError(
                f"{surface.path}: plot(): has no option {name!r}{suggestion(name, _OPTIONS)}; valid are {listed(_OPTIONS)}"
            )
    if options.get("scale", "auto") not in _SCALES:
        raise LandscapeError(
            f"{surface.path}: plot(): scale is {shown(options['scale'])}; valid are {listed(_SCALES)}"
        )
    request = _request(kind or fitting[0], quantity, options)
    if kind in CURVATURE_KINDS:
        if ax is not None:
            raise LandscapeError(f"{surface.path}: plot(): kind {kind!r} has panels of its own; leave ax out")
        return in_notebooks(draw_curvature(plan_curvature([surface], request)[0][0], request))
    (picture, *_) = plan_pictures([surface], request)
    ((panels, scales),) = fields_and_scales([picture], request)
    if ax is None:
        return in_notebooks(draw_figure(picture.kind, panels, scales))
    draw_into(ax, picture.kind, panels[0], scales[0])
    return ax


def draw_spectrum(spectrum: Spectrum, *, kind: str = SPECTRUM_KINDS[0], title: str | None = None) -> Any:
    """The figure of a spectrum, attached to no window: its density, or both its ends by rank."""
    if kind not in SPECTRUM_KINDS:
        raise LandscapeError(
            f"{spectrum.path}: plot(): kind is {shown(kind)}; valid are {listed(SPECTRUM_KINDS)}"
        )
    request = Request(kinds=(kind,), quantities=("plain",), title=title)
    return in_notebooks(draw_spectra(plan_spectra([spectrum], request)[0]))


def draw_training(history: History, *, title: str | None = None) -> Any:
    """The figure of a training's curves, attached to no window."""
    request = Request(kinds=("history",), title=title)
    (picture,) = plan_histories([history], request)
    return in_notebooks(
        draw_history(picture.histories, picture.panels, title=picture.title, labels=picture.labels)
    )


def draw_trajectory(trajectory: Trajectory, *, kind: str, surface: Surface | None, title: str | None) -> Any:
    """The figure of a trajectory's path, over the contours of a surface in its plane, or of what the plane shows of it."""
    if kind not in WAYS:
        raise LandscapeError(f"{trajectory.path}: plot(): kind is {shown(kind)}; valid are {listed(WAYS)}")
    request = Request(kinds=(kind,), title=title)
    picture = plan_trajectories([trajectory], [] if surface is None else [surface], request)[0]
    return in_notebooks(draw_way(picture, request))


def draw_path(connection: Connection, *, title: str | None = None) -> Any:
    """The figure of a path between two solutions, attached to no window."""
    (picture,) = plan_paths([connection], Request(kinds=("path",), title=title))
    return in_notebooks(drawn_path(picture.connection, title=picture.title))


def _request(kind: str, quantity: str | None, options: dict[str, Any]) -> Request:
    said = {
        field.name: options[field.name] for field in fields(Request) if options.get(field.name) is not None
    }
    levels = said.get("levels")
    if levels is not None:
        text = (
            levels if isinstance(levels, str | int) else ",".join(map(str, levels)) + "," * (len(levels) == 1)
        )
        said["levels"] = parse_levels(str(text))
    return Request(kinds=(kind,), quantities=() if quantity is None else (quantity,), **said)
