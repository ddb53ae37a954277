"""Curvature over a grid: the ratio of the extreme eigenvalues beside the loss, and these eigenvalues themselves."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import QuadMesh
from matplotlib.colors import Colormap, LogNorm, Normalize, SymLogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from mpi_landscape.wording import shortened
from plotting.drawn import marks
from plotting.drawn.contour import draw_contour
from plotting.drawn.figures import label_field, size_of
from plotting.drawn.marks import Look, dress, entitle, legend_below
from plotting.drawn.style import color_map, signed_color_map, style
from plotting.picture.cells import edges, rectangles
from plotting.picture.curvature import RatioMap
from plotting.picture.field import Field, progress_facts
from plotting.picture.levels import even_levels, format_levels, format_value, height
from plotting.picture.quantities import RATIO, label_of
from plotting.picture.scale import Scale, choose_scale
from plotting.picture.symmetric import SignedScale, decade_ticks, signed_scale

_ROUGH: Look = {"facecolor": "none", "edgecolor": "#c8c8c8", "hatch": "xxx", "linewidth": 0.0}
_UNSURE: Look = {"facecolor": "none", "edgecolor": "#c8c8c8", "hatch": "....", "linewidth": 0.0}
# Of maps whose zero is white.
_PENDING: Look = {**marks.PENDING, "facecolor": "#cccccc"}
_MOST_COLUMNS = 3


@dataclass(frozen=True, kw_only=True)
class Shown:
    """One network: its losses, where they are known, and how far from convex they are.

    Attributes:
        title: What it is of.
        loss: A loss on the same axes, with the scale of its contours.
        ratios: The map.
        facts: What stands below the title of the map.
    """

    title: str
    loss: tuple[Field, Scale] | None
    ratios: RatioMap
    facts: tuple[str, ...]


def draw_ratios(networks: Sequence[Shown], *, brightest: float = 1.0) -> Figure:
    """Draw a map of |λmin / λmax| of each network beside the contours of its loss on the same axes, of several below.

    Blue is convex and yellow is not, as in Li et al. 2018, arXiv:1712.09913, figure 7; thin contours of the loss lie over it.

    Args:
        networks: At least one.
        brightest: The ratio of the last color.
    """
    with style():
        with_loss = [each.loss is not None for each in networks]
        rows, columns = (2, len(networks)) if len(networks) > 1 else (1, 2)
        if not any(with_loss):
            columns = min(len(networks), _MOST_COLUMNS)
            rows = -(-len(networks) // columns)
        wide, tall = size_of("heatmap", networks[0].ratios.field)
        figure = Figure(figsize=(wide * columns, tall * rows), layout="constrained")
        labeled = []
        for k, network in enumerate(networks):
            place = (k + 1) if not any(with_loss) else 2 if len(networks) == 1 else columns + k + 1
            if network.loss is not None:
                ax = figure.add_subplot(rows, columns, 1 if len(networks) == 1 else k + 1)
                labeled.append((ax, _draw_loss(ax, network), *network.loss))
            _draw_ratio(figure.add_subplot(rows, columns, place), network, brightest)
        figure.draw_without_rendering()
        # Labels need the final place of every line.
        for ax, contours, field, scale in labeled:
            if contours is not None:
                label_field(ax, contours, field, scale)
        return figure


def _draw_loss(ax: Axes, network: Shown) -> Any:
    assert network.loss is not None
    field, scale = network.loss
    contours, handles = draw_contour(ax, field, scale)
    entitle(ax, f"{network.title}: {field.label}", (*field.facts, *progress_facts([field])))
    dress(ax, field)
    legend_below(ax, handles, gap=0.13)
    return contours


def _draw_ratio(ax: Axes, network: Shown, brightest: float) -> None:
    ratios = network.ratios
    field = ratios.field
    # Beyond the last color all are alike, infinity too.
    values = np.where(ratios.shown, np.minimum(field.values, 2 * brightest), np.nan)
    norm = Normalize(vmin=0.0, vmax=brightest)
    draw_cells(ax, field, values, norm, color_map())
    across, along = _borders(field)
    for mask, look in ((ratios.unsure, _UNSURE), (ratios.rough, _ROUGH)):
        marks.draw_polygons(ax, rectangles(mask, across, along), look, zorder=1.6)
    if network.loss is not None and ratios.shown.any():
        _overlay(ax, *network.loss)
    if not ratios.shown.any():
        marks.say(ax, "no ratio is finite" if field.done.any() else "no point is computed yet")
    split, _, suffix = field.quantity.partition(f"_{RATIO}")
    subject = f"{split} |λmin/λmax|" + (", normalized" if suffix else "")
    entitle(ax, f"{network.title}: {subject}", (*network.facts, *progress_facts([field])))
    dress(ax, field)
    ax.set_xlim(field.alpha[0], field.alpha[-1])
    ax.set_ylim(field.plane[1][0], field.plane[1][-1])
    marks.mark_center(ax, field)
    marks.mark_points(ax, field)
    legend_below(ax, _ratio_handles(ratios), gap=0.13)
    ticks = [0.0, *even_levels(0.0, brightest, 4, "linear"), brightest]
    is_beyond = bool((field.values[ratios.shown] > brightest).any())
    bar = _color_bar(ax, norm, color_map(), extend="max" if is_beyond else "neither")
    bar.set_ticks(ticks, labels=format_levels(ticks))
    bar.set_label("|λmin/λmax|, 0 where convex", fontsize=8)


def _ratio_handles(ratios: RatioMap) -> list[Artist]:
    field, handles = ratios.field, list[Artist]()
    undefined = field.undefined & ~ratios.shown
    if (undefined & ~ratios.flat).any():
        handles.append(Patch(**marks.UNDEFINED, label="λmax or λmin not finite"))
    elif undefined.any():
        handles.append(Patch(**marks.UNDEFINED, label="both are 0 within rounding"))
    if ratios.unsure.any():
        look = {**_UNSURE, "facecolor": color_map()(0.0)}
        handles.append(Patch(**look, label="λmin is 0 within rounding"))
    if ratios.rough.any():
        look = {**_ROUGH, "facecolor": color_map()(0.3)}
        handles.append(Patch(**look, label="at least: residual of λmin > 10 %"))
    if field.is_partial:
        handles.append(Patch(**marks.PENDING, label="not computed yet"))
    return handles


def _overlay(ax: Axes, field: Field, scale: Scale) -> None:
    """Thin lines at the levels of the loss, where all of it is known."""
    shown = field.done & scale.shows(field.values)
    levels = [level for level in scale.levels if shown.any() and level < field.values[shown].max()]
    if field.is_partial or not levels or min(field.values.shape) < 2:
        return
    heights = np.zeros(field.values.shape)
    heights[shown] = height(field.values[shown], scale.kind)
    alpha, beta = field.plane
    ax.contour(
        alpha, beta, np.ma.masked_where(~shown, heights).T, levels=height(levels, scale.kind), colors="white",
        linewidths=0.5, alpha=0.55, zorder=3, linestyles="solid",
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class EndPanel:
    """One map of an eigenvalue, or of what belongs to one.

    Attributes:
        field: What is drawn.
        facts: What stands below its title.
        scaled_by: (n,) float64, finite: the values that its colors reach over.
    """

    field: Field
    facts: tuple[str, ...]
    scaled_by: NDArray[np.float64]


def draw_extremes(panels: Sequence[EndPanel], *, kind: Any = "auto", columns: int = _MOST_COLUMNS) -> Figure:
    """Draw maps of eigenvalues and of what belongs to them, side by side.

    Numbers of one sign have logarithmic colors where they differ much, those of both signs colors that part at zero.

    Args:
        panels: At least one.
        kind: Of the scales: auto, linear or log.
        columns: Panels in a row, if there is room for so many.
    """
    with style():
        columns = min(len(panels), columns, _MOST_COLUMNS)
        rows = -(-len(panels) // columns)
        wide, tall = size_of("heatmap", panels[0].field)
        figure = Figure(figsize=(wide * columns, tall * rows), layout="constrained")
        for k, panel in enumerate(panels):
            _draw_end(figure.add_subplot(rows, columns, k + 1), panel, kind)
        figure.draw_without_rendering()
        return figure


def _draw_end(ax: Axes, panel: EndPanel, kind: Any) -> None:
    field, known = panel.field, panel.scaled_by
    values = np.where(field.finite, field.values, np.nan)
    if (known < 0).any():
        scale = signed_scale(known, kind=kind)
        norm, colors = signed_norm(scale), signed_color_map()
        ticks = decade_ticks(scale) or [*even_levels(scale.low, scale.high, 6, "linear")]
        draw_cells(ax, field, values, norm, colors, pending=_PENDING)
        ends: tuple[float, float] | None = (scale.low, scale.high)
    else:
        chosen = choose_scale(known, where=f"{field.title}: {field.label}", kind=kind)
        is_log = chosen.kind == "log"
        norm = (LogNorm if is_log else Normalize)(vmin=chosen.vmin, vmax=chosen.vmax)
        colors, ends = color_map(), None
        ticks = list(even_levels(chosen.vmin, chosen.vmax, 6, chosen.kind))
        no_logarithm = field.finite & ~chosen.shows(field.values)
        draw_cells(ax, field, np.where(no_logarithm, np.nan, values), norm, colors)
        if no_logarithm.any():
            marks.draw_polygons(
                ax, rectangles(no_logarithm, *_borders(field)), marks.NO_LOGARITHM, zorder=1.6
            )
    if not known.size:
        marks.say(ax, "no finite value" if field.done.any() else "no point is computed yet")
    entitle(ax, f"{field.title}: {label_of_end(field.quantity)}", (*panel.facts, *progress_facts([field])))
    dress(ax, field)
    ax.set_xlim(field.alpha[0], field.alpha[-1])
    ax.set_ylim(field.plane[1][0], field.plane[1][-1])
    marks.mark_center(ax, field)
    marks.mark_points(ax, field)
    shown = np.isfinite(values) if ends is not None else chosen.shows(field.values)
    handles = marks.missing_handles(field, shown, pending=False)
    if field.is_partial:
        handles.append(Patch(**(marks.PENDING if ends is None else _PENDING), label="not computed yet"))
    legend_below(ax, handles, gap=0.13)
    if known.size and known.min() < known.max():
        bar = _color_bar(ax, norm, colors)
        bar.set_ticks(ticks, labels=[format_value(tick) for tick in ticks])
        bar.minorticks_off()
        if ends is not None:
            bar.ax.set_ylim(*ends)
        units = shortened(field.measure.units, 80)
        label = label_of_end(field.quantity) + (f" ({units})" if units else "")
        bar.set_label(textwrap.fill(label, 48), parse_math=False, fontsize=8)


def signed_norm(scale: SignedScale) -> Normalize:
    """Colors symmetric around zero."""
    size = scale.size
    if scale.linear_below is None:
        return Normalize(vmin=-size, vmax=size)
    return SymLogNorm(linthresh=scale.linear_below, vmin=-size, vmax=size, base=10)


def label_of_end(quantity: str) -> str:
    """A quantity of the curvature for a reader: `train λmax residual` for `train_lambda_max_residual`."""
    return (
        label_of(quantity).replace("lambda max", "λmax").replace("lambda min", "λmin").replace("lambda", "λ")
    )


def draw_cells(
    ax: Axes,
    field: Field,
    values: NDArray[np.float64],
    norm: Normalize,
    colors: Colormap,
    *,
    pending: Look = marks.PENDING,
) -> QuadMesh:
    """Draw one cell per point that reaches half-way to its neighbors and not beyond the outermost points.

    So the map lies on the axes of contours of the same points. Gray where there is no result, hatched where `values` is NaN.
    """
    across, along = _borders(field)
    mesh = ax.pcolormesh(
        across, along, np.ma.masked_invalid(values).T, cmap=colors.with_extremes(bad=(0, 0, 0, 0)), norm=norm,
        rasterized=True, zorder=1,
    )  # fmt: skip
    for mask, look in ((~field.done, pending), (field.done & np.isnan(values), marks.UNDEFINED)):
        marks.draw_polygons(ax, rectangles(mask, across, along), {**look, "linewidth": 0.0}, zorder=1.5)
    return mesh


def _borders(field: Field) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The borders of the cells along both axes."""
    first, second = (np.clip(edges(axis), axis[0], axis[-1]) for axis in field.plane)
    return first, second


def _color_bar(ax: Axes, norm: Normalize, colors: Colormap, *, extend: Any = "neither") -> Any:
    # Within the frame of the axes, so that it stays as tall as a panel whose units are equal.
    bar = ax.figure.colorbar(
        ScalarMappable(norm, colors), cax=ax.inset_axes((1.04, 0, 0.045, 1)), extend=extend, extendfrac=0.035
    )
    bar.ax.tick_params(length=2.5)
    bar.outline.set_linewidth(0.5)
    return bar
