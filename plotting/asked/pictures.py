"""Which pictures of surfaces a command line asks for: kinds, quantities and scales."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mpi_landscape.storage.surface.value import Surface
from plotting.asked.request import Request, Wanted, output_file, places
from plotting.picture.field import Field, field_of
from plotting.picture.names import distinct_names
from plotting.picture.quantities import choose_kinds, choose_quantities, group_of, is_accuracy, label_of
from plotting.picture.scale import Scale, choose_scale


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One panel: a surface and the quantities in it (several only in a line)."""

    surface: Surface
    quantities: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One picture to draw: its kind, its panels, and the file that it goes to."""

    kind: str
    panels: tuple[Panel, ...]
    path: Path


def plan_pictures(surfaces: Sequence[Surface], request: Request) -> list[Picture]:
    """List the pictures that a request asks for.

    With a picture as output, kind and quantity that were left open become the first default one, so that one
    picture results.

    Args:
        surfaces: One per file, in the order given.
        request: What is wanted.

    Returns:
        Pictures with different paths.

    Raises:
        LandscapeError: A kind, quantity, suffix or output that does not fit; says which do.
    """
    groups = [list(surfaces)] if request.together and surfaces else [[surface] for surface in surfaces]
    single = output_file(request) is not None
    drawn = [picture for group in groups for picture in _panels(group, request, single=single)]
    wanted = [
        Wanted(
            kind=kind,
            sources=tuple(panel.surface.path for panel in panels),
            # Default quantities of a line are not named.
            quantities=panels[0].quantities if kind != "line" or request.quantities else (),
        )
        for kind, panels in drawn
    ]
    return [
        Picture(kind=kind, panels=panels, path=path)
        for (kind, panels), path in zip(drawn, places(wanted, request), strict=True)
    ]


def _panels(
    group: Sequence[Surface], request: Request, *, single: bool
) -> list[tuple[str, tuple[Panel, ...]]]:
    kinds = choose_kinds(group[0], request.kinds)
    if single and not request.kinds:
        kinds = kinds[:1]
    drawn = []
    for kind in kinds:
        for surface in group[1:]:
            choose_kinds(surface, [kind])
        if kind == "line":
            panels = [
                Panel(surface=s, quantities=tuple(choose_quantities(s, request.quantities, kind=kind)))
                for s in group
            ]
            drawn.append((kind, tuple(panels)))
            continue
        quantities = choose_quantities(group[0], request.quantities, kind=kind)
        if single and not request.quantities:
            quantities = quantities[:1]
        for quantity in quantities:
            for surface in group[1:]:
                choose_quantities(surface, [quantity], kind=kind)
            drawn.append((kind, tuple(Panel(surface=surface, quantities=(quantity,)) for surface in group)))
    return drawn


def fields_and_scales(
    pictures: Sequence[Picture], request: Request
) -> list[tuple[list[list[Field]], list[Scale]]]:
    """Take the fields of all pictures out of their surfaces and choose the scales.

    Args:
        pictures: From `plan_pictures`.
        request: What is wanted.

    Returns:
        Per picture: the fields of each panel, and one scale per panel, the same object where it is common.

    Raises:
        LandscapeError: The scale asked for does not fit the values.
    """
    drawn = [_panel_fields(picture, request) for picture in pictures]
    if not request.common_scale:
        return [
            (panels, [_scale([fields], picture.kind, request) for fields in panels])
            for picture, panels in zip(pictures, drawn, strict=True)
        ]
    groups: dict[tuple[str, bool], list[tuple[str, list[Field]]]] = {}
    keys = []
    for picture, panels in zip(pictures, drawn, strict=True):
        key = (group_of(picture.panels[0].surface, _left(panels[0])[0].quantity), picture.kind == "line")
        keys.append(key)
        groups.setdefault(key, []).extend((picture.kind, fields) for fields in panels)
    scales = {
        key: _scale([fields for _, fields in members], members[0][0], request)
        for key, members in groups.items()
    }
    return [(panels, [scales[key]] * len(panels)) for panels, key in zip(drawn, keys, strict=True)]


def _panel_fields(picture: Picture, request: Request) -> list[list[Field]]:
    """Take out the fields of each panel, named so that panels beside each other can be told apart."""
    surfaces = [panel.surface for panel in picture.panels]
    names = distinct_names(surfaces) if request.title is None else [request.title] * len(surfaces)
    return [
        [
            field_of(panel.surface, quantity, title=name, as_line=picture.kind == "line")
            for quantity in panel.quantities
        ]
        for panel, name in zip(picture.panels, names, strict=True)
    ]


def _left(fields: Sequence[Field]) -> list[Field]:
    """Return the fields that the scale is for: in a line, what is on the left axis."""
    return [field for field in fields if not is_accuracy(field.quantity)] or list(fields)


def _scale(panels: Sequence[Sequence[Field]], kind: str, request: Request) -> Scale:
    fields = [field for panel in panels for field in _left(panel)]
    return choose_scale(
        np.concatenate([field.results for field in fields]),
        where=f"{fields[0].title}: {label_of(fields[0].quantity)}",
        kind=request.scale,
        levels=None if kind == "line" else request.levels,
        vmin=request.vmin,
        vmax=request.vmax,
    )
