"""Which pictures of trajectories a command line asks for."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mpi_landscape.errors import LandscapeError
from mpi_landscape.storage.surface.value import Surface
from mpi_landscape.storage.trajectory.value import Trajectory
from mpi_landscape.wording import listed
from plotting.asked.pictures import Panel, Picture, fields_and_scales
from plotting.asked.request import Request, Wanted, output_file, places
from plotting.drawn.ways import draw_path, draw_seen
from plotting.picture.field import field_of
from plotting.picture.quantities import check_quantities, label_of
from plotting.picture.ways import KINDS, check_same_axes, fitting


@dataclass(frozen=True, kw_only=True)
class WayPicture:
    """One picture: the path of trajectories, over a quantity of a surface if there is one, or what the plane shows of it."""

    trajectory: Trajectory
    kind: str
    surface: Surface | None
    quantities: tuple[str, ...]
    title: str
    path: Path


def plan_trajectories(
    trajectories: Sequence[Trajectory], surfaces: Sequence[Surface], request: Request
) -> list[WayPicture]:
    """The pictures that a request asks for; a surface is the ground of every trajectory in whose plane it lies.

    Raises:
        LandscapeError: An option does not fit, or a surface lies in the plane of none.
    """
    for surface in surfaces:
        if not any(surface in fitting(trajectory, surfaces) for trajectory in trajectories):
            check_same_axes(trajectories[0], surface)
    drawn = [each for trajectory in trajectories for each in _of(trajectory, surfaces, request)]
    wanted = [
        Wanted(
            kind=kind,
            sources=(trajectory.path,),
            quantities=quantities if request.quantities or surface else (),
        )
        for trajectory, kind, surface, quantities in drawn
    ]
    return [
        WayPicture(
            trajectory=trajectory,
            kind=kind,
            surface=surface,
            quantities=quantities,
            title=request.title if request.title is not None else str(trajectory.attributes.get("title", "")),
            path=path,
        )
        for (trajectory, kind, surface, quantities), path in zip(drawn, places(wanted, request), strict=True)
    ]


_Drawn = tuple[Trajectory, str, Surface | None, tuple[str, ...]]


def _of(trajectory: Trajectory, surfaces: Sequence[Surface], request: Request) -> list[_Drawn]:
    """What to draw of one file."""
    kinds = _kinds(trajectory, request)
    grounds = fitting(trajectory, surfaces)
    if len(grounds) > 1:
        raise LandscapeError(
            f"{trajectory.path}: {listed([each.path for each in grounds])} all lie in its plane; give one surface"
        )
    found: list[_Drawn] = []
    if "path" in kinds:
        found += _paths(trajectory, grounds[0] if grounds else None, request)
    if "seen" in kinds:
        seen = [name for name in trajectory.values if f"{name}_in_plane" in trajectory.values]
        check_quantities(trajectory.path, seen, request.quantities)
        losses = [name for name in seen if name.endswith("_loss")] or seen
        found.append((trajectory, "seen", None, tuple(request.quantities) or tuple(losses)))
    return found


def _paths(trajectory: Trajectory, surface: Surface | None, request: Request) -> list[_Drawn]:
    if surface is None:
        return [(trajectory, "path", None, ())]
    check_quantities(surface.path, surface.quantities, request.quantities)
    usual = [name for name in surface.quantities if name.endswith("_loss")] or surface.quantities
    return [(trajectory, "path", surface, (name,)) for name in request.quantities or usual[:1]]


def _kinds(trajectory: Trajectory, request: Request) -> tuple[str, ...]:
    for kind in request.kinds:
        if kind not in (*KINDS, "all"):
            raise LandscapeError(
                f"{trajectory.path}: --kind {kind} is not for a trajectory file; valid here: {', '.join(KINDS)}, all"
            )
    for option, given in (("--common-scale", request.common_scale), ("--together", request.together)):
        if given:
            raise LandscapeError(f"{trajectory.path}: {option} is for surface files; leave it out")
    if "all" in request.kinds or not request.kinds:
        return KINDS[:1] if output_file(request) is not None and not request.kinds else KINDS
    return tuple(dict.fromkeys(request.kinds))


def draw_way(picture: WayPicture, request: Request) -> Any:
    """The figure of a picture, attached to no window."""
    if picture.kind == "seen":
        return draw_seen(picture.trajectory, picture.quantities, title=picture.title)
    if picture.surface is None:
        return draw_path(picture.trajectory, None, None, title=picture.title)
    (name,) = picture.quantities
    contour = Picture(
        kind="contour", panels=(Panel(surface=picture.surface, quantities=(name,)),), path=picture.path
    )
    ((_, scales),) = fields_and_scales([contour], request)
    field = field_of(picture.surface, name, title=picture.title)
    return draw_path(picture.trajectory, field, scales[0], title=picture.title, label=label_of(name))
