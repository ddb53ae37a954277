"""Which pictures of curvature a command line asks for: maps of the ratio and of its ends, and curves along a line."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mpi_landscape.errors import LandscapeError
from mpi_landscape.storage.surface.value import Surface
from mpi_landscape.wording import listed
from plotting.asked.request import Request, Wanted, distinct_names, output_file, places
from plotting.picture.curvature import check_same_axes, grounds_of
from plotting.picture.quantities import (
    CURVATURE_KINDS,
    check_quantities,
    curvature_kinds,
    is_of_curvature,
    kinds_of,
    known_ends,
    ratios_of,
)


@dataclass(frozen=True, kw_only=True)
class Network:
    """A surface with curvature, what it is called, and where the losses beside it are taken from."""

    surface: Surface
    ground: Surface
    title: str


@dataclass(frozen=True, kw_only=True)
class CurvaturePicture:
    """One picture to draw.

    Attributes:
        kind: One of `CURVATURE_KINDS`.
        networks: Side by side.
        ratio: Of maps of kind `curvature`: which.
        quantities: Of such maps the loss that is asked for; of others the eigenvalues and what belongs to them, of a line after
            the losses that are asked for.
        path: Where it goes.
    """

    kind: str
    networks: tuple[Network, ...]
    ratio: str | None
    quantities: tuple[str, ...]
    path: Path


def usual_request(request: Request) -> Request:
    """The request for the other pictures of surfaces."""
    return replace(request, kinds=tuple(kind for kind in request.kinds if kind not in CURVATURE_KINDS))


def plan_curvature(
    surfaces: Sequence[Surface], request: Request
) -> tuple[list[CurvaturePicture], list[Surface]]:
    """The pictures of curvature that a request asks for, and the surfaces that others are to be drawn of.

    Raises:
        LandscapeError: A surface has no curvature that is asked for, or its losses are of other axes.
    """
    bent = [surface for surface in surfaces if known_ends(surface)]
    asked = [kind for kind in request.kinds if kind in CURVATURE_KINDS]
    others = [kind for kind in request.kinds if kind not in CURVATURE_KINDS]
    if asked and surfaces and not bent:
        raise LandscapeError(
            f"{surfaces[0].path}: --kind {asked[0]} is for files with curvature (python -m mpi_landscape.hessian), and this one "
            f"has no lambda_max; valid here: {', '.join(kinds_of(surfaces[0]))}"
        )
    about_it = any(is_of_curvature(surface, name) for surface in bent for name in request.quantities)
    is_default = not request.kinds and (about_it or not request.quantities)
    if not bent or not (asked or is_default or "all" in others):
        return [], list(surfaces)
    flat = [surface for surface in surfaces if not known_ends(surface)]
    for other in flat:
        if not any(grounds_of(surface, [other]) for surface in bent):
            check_same_axes(bent[0], other)
    networks = _networks(bent, flat, request)
    return _planned(networks, request), list(surfaces) if others else []


def _networks(bent: Sequence[Surface], flat: Sequence[Surface], request: Request) -> list[Network]:
    names = distinct_names(bent) if request.title is None else [request.title] * len(bent)
    return [
        Network(surface=surface, ground=_ground(surface, flat), title=name)
        for surface, name in zip(bent, names, strict=True)
    ]


def _ground(surface: Surface, flat: Sequence[Surface]) -> Surface:
    """The one file without curvature on the axes of a map, or the map's own."""
    found = grounds_of(surface, flat)
    if len(found) > 1:
        raise LandscapeError(
            f"{surface.path}: {listed(each.path for each in found)} all lie on its axes; give one of them"
        )
    return found[0] if found else surface


def _planned(networks: Sequence[Network], request: Request) -> list[CurvaturePicture]:
    groups = [tuple(networks)] if request.together else [(network,) for network in networks]
    drawn = [
        each for group in groups for kind in _kinds(group, request) for each in _of_kind(group, kind, request)
    ]
    paths = places([wanted for wanted, *_ in drawn], request)
    return [
        CurvaturePicture(kind=wanted.kind, networks=group, ratio=ratio, quantities=quantities, path=path)
        for (wanted, group, ratio, quantities), path in zip(drawn, paths, strict=True)
    ]


def _kinds(group: Sequence[Network], request: Request) -> list[str]:
    """The kinds to draw of networks side by side, which have grids of one kind."""
    surface = group[0].surface
    for network in group[1:]:
        if is_line(network.surface) != is_line(surface):
            raise LandscapeError(
                f"{network.surface.path}: --together: is {_shape(network.surface)}, and {surface.path} {_shape(surface)}; draw "
                f"them one by one"
            )
    fitting = curvature_kinds(surface)
    asked = [kind for kind in dict.fromkeys(request.kinds) if kind in CURVATURE_KINDS]
    for kind in asked:
        if kind not in fitting:
            missing = "has no lambda_min" if kind == "curvature" else f"is {_shape(surface)}"
            raise LandscapeError(
                f"{surface.path}: --kind {kind} does not fit, as it {missing}; valid here: {', '.join(fitting)}"
            )
    if asked:
        return asked
    if request.quantities:
        ratio = any(name in ratios_of(surface) for name in request.quantities)
        return list(fitting[:1] if ratio else fitting[-1:])
    # One picture where one is asked for, or where options are those of the map alone.
    is_one = output_file(request) is not None or request.levels is not None or request.vmax is not None
    return list(fitting[:1] if is_one else fitting)


def is_line(surface: Surface) -> bool:
    """Whether there is one axis with more than one point at most."""
    return surface.beta is None or min(len(surface.alpha), len(surface.beta)) < 2


def _shape(surface: Surface) -> str:
    return "a line" if is_line(surface) else "a plane"


_Drawn = tuple[Wanted, tuple[Network, ...], str | None, tuple[str, ...]]


def _of_kind(group: tuple[Network, ...], kind: str, request: Request) -> list[_Drawn]:
    """The pictures of one kind of networks side by side."""
    _check_options(group[0].surface, kind, request)

    def wanted(names: Sequence[str]) -> Wanted:
        return Wanted(kind=kind, sources=tuple(each.surface.path for each in group), quantities=tuple(names))

    first = group[0].surface
    if kind == "extremes":
        for network in group:
            valid = [name for name in network.surface.quantities if is_of_curvature(network.surface, name)]
            check_quantities(network.surface.path, valid, request.quantities)
        if request.quantities:
            return [(wanted(request.quantities), group, None, tuple(dict.fromkeys(request.quantities)))]
        return [(wanted(ends if k else ()), group, None, ends) for k, ends in enumerate(_common_ends(group))]
    if is_line(first):
        return _of_line(group, request)
    ratios = [name for name in request.quantities if name in ratios_of(first)]
    losses = tuple(name for name in request.quantities if name not in ratios)
    for network in group:
        check_quantities(network.surface.path, ratios_of(network.surface), ratios)
        valid = [name for name in network.ground.quantities if not is_of_curvature(network.ground, name)]
        check_quantities(network.ground.path, [*valid, *ratios_of(network.surface)], losses)
    if len(losses) > 1:
        raise LandscapeError(
            f"{first.path}: --kind curvature has one loss beside the map; choose one of {listed(losses)}"
        )
    common = [name for name in ratios_of(first) if all(name in ratios_of(each.surface) for each in group)]
    if not common:
        raise LandscapeError(
            f"{group[-1].surface.path}: has none of {listed(ratios_of(first))}; draw the files one by one"
        )
    chosen = list(dict.fromkeys(ratios)) or common
    return [
        (wanted((*((name,) if k or ratios else ()), *losses)), group, name, losses)
        for k, name in enumerate(chosen)
    ]


def _common_ends(group: Sequence[Network]) -> list[tuple[str, ...]]:
    """The eigenvalues that all of them have."""
    found = [
        ends
        for ends in known_ends(group[0].surface)
        if all(ends in known_ends(each.surface) for each in group)
    ]
    if not found:
        raise LandscapeError(
            f"{group[-1].surface.path}: has none of the eigenvalues of {group[0].surface.path}; draw the files one by one"
        )
    return found


def _of_line(group: tuple[Network, ...], request: Request) -> list[_Drawn]:
    """The pictures of a line: losses and accuracies above eigenvalues."""
    (network, *others) = group
    if others:
        raise LandscapeError(
            f"{others[0].surface.path}: --together is not for lines with curvature, which have two panels each; leave it out"
        )
    surface, ground = network.surface, network.ground
    losses = [name for name in ground.quantities if not is_of_curvature(ground, name)]
    every = [name for ends in known_ends(surface) for name in ends]
    check_quantities(surface.path, [*losses, *every], request.quantities)
    chosen = tuple(name for name in dict.fromkeys(request.quantities) if name in losses)
    drawn: list[_Drawn] = []
    for k, ends in enumerate(known_ends(surface)):
        asked = tuple(name for name in ends if name in request.quantities)
        if asked or not set(every) & set(request.quantities):
            names = (*chosen, *(asked or (ends if k else ())))
            wanted = Wanted(kind=CURVATURE_KINDS[0], sources=(surface.path,), quantities=names)
            drawn.append((wanted, group, None, (*chosen, *(asked or ends))))
    return drawn


def _check_options(surface: Surface, kind: str, request: Request) -> None:
    """Refuse options that one picture of several scales cannot have."""
    ends = (("--vmin", request.vmin is not None), ("--vmax", request.vmax is not None))
    given = {"--levels": request.levels is not None, **dict(ends)}
    refused = [name for name, is_given in given.items() if is_given]
    if kind == "curvature" and not is_line(surface):
        # The brightest color of the map may be moved, and the levels are those of the loss.
        refused = [name for name in refused if name == "--vmin"]
        if request.vmax is not None and request.vmax <= 0:
            raise LandscapeError(
                f"--vmax {request.vmax:g} is not above 0, where the colors of |λmin/λmax| begin"
            )
    if refused:
        raise LandscapeError(f"{surface.path}: {refused[0]} is not for --kind {kind}; leave it out")
