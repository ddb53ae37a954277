"""Which pictures a command line asks for: kinds, quantities, scales and file names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from mpi_landscape.errors import LandscapeError
from mpi_landscape.storage.surface import Surface
from plotting.field import Field, field_of
from plotting.figures import FORMATS
from plotting.levels import Kind
from plotting.quantities import choose_kinds, choose_quantities, group_of, is_accuracy, label_of
from plotting.scale import Scale, choose_scale


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the user wants, as the command line says it.

    Attributes:
        kinds: Kinds of picture; empty for the default.
        quantities: Quantities; empty for the default.
        output: A picture or a folder; None for beside each file.
        format: "png", "pdf" or "svg"; None for what `output` says, or PNG.
        scale: "auto", "linear" or "log".
        levels: How many contour levels, or which; None for about ten.
        vmin: Lower end of the scale.
        vmax: Upper end of the scale.
        title: Instead of the title in the file.
        common_scale: Whether all pictures of losses share one scale, all of accuracies another, and so on.
        together: Whether the files stand side by side in one figure.
    """

    kinds: tuple[str, ...] = ()
    quantities: tuple[str, ...] = ()
    output: str | None = None
    format: str | None = None
    scale: Kind | Literal["auto"] = "auto"
    levels: int | tuple[float, ...] | None = None
    vmin: float | None = None
    vmax: float | None = None
    title: str | None = None
    common_scale: bool = False
    together: bool = False


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
    file = _output_file(request)
    drawn: list[tuple[str, tuple[Panel, ...]]] = []
    for group in [list(surfaces)] if request.together else [[surface] for surface in surfaces]:
        drawn += _panels(group, request, single=file is not None)
    if file is not None:
        if len(drawn) != 1:
            raise LandscapeError(
                f"--output {request.output} is one file, but {len(drawn)} pictures are asked for; choose one "
                f"--kind and one --quantity, put several files --together, or give a folder"
            )
        return [Picture(kind=drawn[0][0], panels=drawn[0][1], path=file)]
    pictures = [
        Picture(kind=kind, panels=panels, path=_name(kind, panels, request)) for kind, panels in drawn
    ]
    seen: dict[Path, Picture] = {}
    for picture in pictures:
        if picture.path in seen:
            raise LandscapeError(
                f"{picture.path} would be the picture of both {seen[picture.path].panels[0].surface.path} "
                f"and {picture.panels[0].surface.path}; draw them one by one with different --output"
            )
        seen[picture.path] = picture
    return pictures


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


def _output_file(request: Request) -> Path | None:
    """Return the output if it names a picture; None if it names a folder or nothing."""
    if request.output is None:
        return None
    path = Path(request.output)
    suffix = path.suffix.lower().lstrip(".")
    if request.output.endswith("/") or path.is_dir() or not suffix:
        return None
    if suffix not in FORMATS:
        raise LandscapeError(
            f"--output {request.output}: {path.suffix!r} is not a format; valid are "
            f"{', '.join('.' + f for f in FORMATS)}, or a folder (with / at its end)"
        )
    if request.format is not None and request.format != suffix:
        raise LandscapeError(
            f"--output {request.output} says {suffix}, but --format says {request.format}; give one"
        )
    return path


def _name(kind: str, panels: Sequence[Panel], request: Request) -> Path:
    """Return `<folder>/<stem>_<quantity>_<kind>.<format>`; default quantities of a line are not named."""
    source = Path(panels[0].surface.path)
    folder = source.parent if request.output is None else Path(request.output)
    parts = [source.stem]
    if len(panels) > 1:
        parts.append("together")
    if kind != "line" or request.quantities:
        parts += panels[0].quantities
    return folder / f"{'_'.join([*parts, kind])}.{request.format or 'png'}"


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
    drawn = [[_fields(panel, picture.kind, request) for panel in picture.panels] for picture in pictures]
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


def _fields(panel: Panel, kind: str, request: Request) -> list[Field]:
    return [
        field_of(panel.surface, quantity, title=request.title, as_line=kind == "line")
        for quantity in panel.quantities
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
