"""Which pictures of surfaces a command line asks for: kinds, quantities and scales."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mpi_landscape.storage.surface.value import Surface
from plotting.asked.request import Request, Wanted, distinct_names, output_file, places
from plotting.picture.field import Field, field_of, sides
from plotting.picture.quantities import Measure, choose_kinds, choose_quantities, figures_of_line, measure_of
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
    """The pictures that a request asks for.

    With a picture as output, kind and quantity that were left open become the first default one, so that one
    picture results.
    """
    groups = [list(surfaces)] if request.together and surfaces else [[surface] for surface in surfaces]
    single = output_file(request) is not None
    drawn = [picture for group in groups for picture in _drawn(group, request, single=single)]
    paths = places([wanted for wanted, _ in drawn], request)
    return [
        Picture(kind=wanted.kind, panels=panels, path=path)
        for (wanted, panels), path in zip(drawn, paths, strict=True)
    ]


def _drawn(
    group: Sequence[Surface], request: Request, *, single: bool
) -> list[tuple[Wanted, tuple[Panel, ...]]]:
    """The pictures of surfaces that stand side by side."""
    kinds = choose_kinds(group[0], request.kinds)
    if single and not request.kinds:
        kinds = kinds[:1]
    drawn = []
    for kind in kinds:
        for surface in group[1:]:
            choose_kinds(surface, [kind])
        pictures = _lines(group, request) if kind == "line" else _areas(group, request, kind)
        for k, panels in enumerate(pictures[:1] if single and not request.quantities else pictures):
            # The usual quantities of a line are not named.
            usual = kind == "line" and k == 0 and not request.quantities
            wanted = Wanted(
                kind=kind,
                sources=tuple(panel.surface.path for panel in panels),
                quantities=() if usual else panels[0].quantities,
            )
            drawn.append((wanted, panels))
    return drawn


def _lines(group: Sequence[Surface], request: Request) -> list[tuple[Panel, ...]]:
    """The panels of each figure; a figure after the first has those of the surfaces that have its measure."""
    figures: dict[Measure | None, list[Panel]] = {}
    for surface in group:
        chosen = choose_quantities(surface, request.quantities, kind="line")
        for k, quantities in enumerate(figures_of_line(surface, chosen)):
            key = measure_of(surface, quantities[0]) if k else None
            figures.setdefault(key, []).append(Panel(surface=surface, quantities=quantities))
    return [tuple(panels) for panels in figures.values()]


def _areas(group: Sequence[Surface], request: Request, kind: str) -> list[tuple[Panel, ...]]:
    """The panels of each picture: one quantity of every surface."""
    quantities = choose_quantities(group[0], request.quantities, kind=kind)
    if not request.quantities:
        quantities = [name for name in quantities if all(name in s.values for s in group)] or quantities
    for surface in group[1:]:
        choose_quantities(surface, quantities, kind=kind)
    return [tuple(Panel(surface=surface, quantities=(name,)) for surface in group) for name in quantities]


def fields_and_scales(
    pictures: Sequence[Picture], request: Request
) -> list[tuple[list[list[Field]], list[Scale]]]:
    """Per picture the fields of each panel, and one scale per panel, the same object where it is common."""
    drawn = [(_panel_fields(picture, request), picture.kind == "line") for picture in pictures]
    if not request.common_scale:
        return [
            (panels, [_scale([fields], request, is_line=is_line) for fields in panels])
            for panels, is_line in drawn
        ]
    groups: dict[tuple[Measure, bool], list[list[Field]]] = {}
    for panels, is_line in drawn:
        for fields in panels:
            groups.setdefault((_measure(fields), is_line), []).append(fields)
    scales = {key: _scale(members, request, is_line=key[1]) for key, members in groups.items()}
    return [(panels, [scales[_measure(fields), is_line] for fields in panels]) for panels, is_line in drawn]


def _measure(fields: Sequence[Field]) -> Measure:
    """What the left axis of a panel measures."""
    return sides(fields)[0][0].measure


def _panel_fields(picture: Picture, request: Request) -> list[list[Field]]:
    """The fields of each panel, named so that panels beside each other can be told apart."""
    surfaces = [panel.surface for panel in picture.panels]
    names = distinct_names(surfaces) if request.title is None else [request.title] * len(surfaces)
    as_line = picture.kind == "line"
    return [
        [field_of(panel.surface, each, title=name, as_line=as_line) for each in panel.quantities]
        for panel, name in zip(picture.panels, names, strict=True)
    ]


def _scale(panels: Sequence[Sequence[Field]], request: Request, *, is_line: bool) -> Scale:
    fields = [field for panel in panels for field in sides(panel)[0]]
    return choose_scale(
        np.concatenate([field.results for field in fields]),
        where=f"{fields[0].title}: {fields[0].label}",
        kind=request.scale,
        levels=None if is_line else request.levels,
        vmin=request.vmin,
        vmax=request.vmax,
        fraction=fields[0].measure.is_fraction,
    )
