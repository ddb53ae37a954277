"""Pictures of curvature made of what is planned."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from plotting.asked.curvature_pictures import CurvaturePicture, Network, is_line
from plotting.asked.request import Request
from plotting.drawn.curvature import EndPanel, Shown, draw_extremes, draw_ratios
from plotting.drawn.curvature_line import HIGHEST, LOWEST, draw_ends_on_line
from plotting.picture.curvature import (
    end_facts,
    operator_facts,
    ratio_facts,
    ratio_map,
    with_error,
)
from plotting.picture.field import Field, field_of, sides
from plotting.picture.quantities import (
    choose_quantities,
    ends_of,
    figures_of_line,
    is_of_curvature,
    ratios_of,
)
from plotting.picture.scale import Scale, choose_scale


def draw_curvature(picture: CurvaturePicture, request: Request) -> Any:
    """The figure of a picture, attached to no window."""
    if picture.kind == "extremes":
        return _extremes(picture, request)
    if is_line(picture.networks[0].surface):
        return _line(picture, request)
    losses = [_loss(network, picture) for network in picture.networks]
    known = [field for field in losses if field is not None]
    common = _scale(known, request) if request.common_scale and known else None
    shown = []
    for network, loss in zip(picture.networks, losses, strict=True):
        assert picture.ratio is not None
        ratios = ratio_map(network.surface, picture.ratio, title=network.title)
        scaled = None if loss is None else (loss, common or _scale([loss], request))
        shown.append(
            Shown(title=network.title, loss=scaled, ratios=ratios, facts=ratio_facts(network.surface, ratios))
        )
    return draw_ratios(shown, brightest=1.0 if request.vmax is None else request.vmax)


def _scale(fields: Sequence[Field], request: Request) -> Scale:
    """The scale of losses; the ends are those of the ratio."""
    return choose_scale(
        np.concatenate([field.results for field in fields]),
        where=f"{fields[0].title}: {fields[0].label}",
        kind=request.scale,
        levels=request.levels,
        fraction=fields[0].measure.is_fraction,
    )


def _loss(network: Network, picture: CurvaturePicture) -> Field | None:
    """The loss asked for, or that of the split that the ratio is of, or the first one."""
    ground = network.ground
    name = next(iter(picture.quantities), None)
    if name is None and picture.ratio is not None:
        own = f"{network.surface.split_of(picture.ratio)}_loss"
        losses = [each for each in ground.values if each.endswith("_loss")]
        name = own if own in losses else next(iter(losses), None)
    return None if name is None else field_of(ground, name, title=network.title)


def _extremes(picture: CurvaturePicture, request: Request) -> Any:
    fields = [
        (network, field_of(network.surface, name, title=network.title))
        for network in picture.networks
        for name in picture.quantities
    ]
    panels = []
    for network, field in fields:
        alike = (
            [each for _, each in fields if each.quantity == field.quantity]
            if request.common_scale
            else [field]
        )
        panels.append(
            EndPanel(
                field=field,
                facts=(*end_facts(field), *operator_facts(network.surface)),
                scaled_by=np.concatenate([each.results for each in alike]),
            )
        )
    return draw_extremes(panels, kind=request.scale, columns=len(picture.quantities))


def _line(picture: CurvaturePicture, request: Request) -> Any:
    (network,) = picture.networks
    ground, surface = network.ground, network.surface
    ends = [name for name in picture.quantities if is_of_curvature(surface, name)]
    names: Sequence[str] = [name for name in picture.quantities if name not in ends]
    if not names:
        usual = choose_quantities(ground, (), kind="line")
        names = figures_of_line(ground, [name for name in usual if not is_of_curvature(ground, name)])[0]
    losses = [field_of(ground, name, title=network.title, as_line=True) for name in names]
    scale = None
    if losses:
        scale = choose_scale(
            np.concatenate([field.results for field in sides(losses)[0]]),
            where=f"{network.title}: {losses[0].label}",
            kind=request.scale,
            fraction=losses[0].measure.is_fraction,
        )
    curves = [
        (with_error(surface, name, title=network.title), LOWEST if "lambda_min" in name else HIGHEST)
        for name in ends
    ]
    both = [name for name in ratios_of(surface) if set(ends_of(name)) == set(ends)]
    facts = ratio_facts(surface, ratio_map(surface, both[0])) if both else operator_facts(surface)
    return draw_ends_on_line(losses, scale, curves, title=network.title, facts=facts, kind=request.scale)
