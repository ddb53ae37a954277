"""Contour lines and filled contours of a field, complete or not."""

from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm
from matplotlib.contour import ContourSet
from matplotlib.tri import Triangulation
from numpy.typing import NDArray

from plotting.drawn import marks
from plotting.drawn.style import FAINT, color_map, line_color_map
from plotting.picture.cells import gaps
from plotting.picture.field import Field
from plotting.picture.levels import format_value, height
from plotting.picture.scale import Extend, Scale


def draw_contour(ax: Axes, field: Field, scale: Scale) -> tuple[ContourSet | None, list[Artist]]:
    """Draw thin lines at the levels of a scale, from blue (low) to green (high).

    Both axes have two points or more. Returns the lines, whose levels are `height(level)`, or None if there
    are none, and legend entries.
    """
    shown = field.done & scale.shows(field.values)
    values = field.values[shown]
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
    levels = [level for level in scale.levels if low < level < high]
    empty = marks.why_empty(field, shown)
    if empty is None and not levels:
        empty = f"no level lies between {format_value(low)} and {format_value(high)}"
    palette = line_color_map()(np.linspace(0, 1, max(len(scale.levels), 2)))
    colors = [tuple(palette[scale.levels.index(level)]) for level in levels]
    options = {"levels": height(levels, scale.kind), "colors": colors, "linewidths": 0.9, "zorder": 3}
    return _draw(ax, field, scale, options, empty, filled=False)


def draw_filled(ax: Axes, field: Field, scale: Scale) -> tuple[ContourSet | None, list[Artist]]:
    """Draw bands between the levels and ends of a scale, one step of color per band; returns likewise."""
    shown = field.done & scale.shows(field.values)
    extend = scale.extend(field.values[field.done])
    norm = band_norm(scale, extend)
    options = {"levels": band_edges(scale), "extend": extend, "cmap": color_map(), "norm": norm}
    return _draw(ax, field, scale, options, marks.why_empty(field, shown), filled=True)


def band_edges(scale: Scale) -> NDArray[np.float64]:
    """The heights of the levels of a scale and of its ends, (number of levels + 2,) float64."""
    return height([scale.vmin, *scale.levels, scale.vmax], scale.kind)


def band_norm(scale: Scale, extend: Extend) -> BoundaryNorm:
    """The steps of color of filled contours, over heights."""
    return BoundaryNorm(band_edges(scale).tolist(), color_map().N, extend=extend)


def _draw(
    ax: Axes, field: Field, scale: Scale, options: dict[str, Any], empty: str | None, *, filled: bool
) -> tuple[ContourSet | None, list[Artist]]:
    alpha, beta = field.plane
    shown = field.done & scale.shows(field.values)
    # Heights that cannot be shown are masked wherever they are used; zero keeps them out of the logarithm.
    heights = np.zeros(field.values.shape)
    heights[shown] = height(field.values[shown], scale.kind)
    triangles = triangulate(field, shown) if field.is_partial else None
    handles = marks.missing_handles(field, shown, pending=False)
    contours: ContourSet | None = None
    _draw_gaps(ax, field, shown, triangles)
    if field.is_partial:
        if triangles is None and empty is None:
            empty = f"only {int(field.done.sum())} points are computed: too few for contours"
        handles += marks.draw_points(ax, field, color="#a0a0a0" if filled else FAINT)
    # Bands show a constant as one color; lines cannot.
    drawable = empty is None or (filled and shown.any() and (triangles is not None or not field.is_partial))
    if drawable and triangles is not None:
        if not np.all(triangles.mask):
            draw: Any = ax.tricontourf if filled else ax.tricontour
            contours = draw(triangles, heights[field.done], **options)
    elif drawable:
        draw = ax.contourf if filled else ax.contour
        contours = draw(alpha, beta, np.ma.masked_where(~shown, heights).T, **options)
    if filled and contours is not None and scale.levels:
        contours.set_edgecolor("face")
        contours.set_linewidth(0.2)
    if empty is not None:
        marks.say(ax, empty)
    ax.set_xlim(alpha[0], alpha[-1])
    ax.set_ylim(beta[0], beta[-1])
    marks.mark_center(ax, field)
    marks.mark_points(ax, field)
    return contours, handles


def _draw_gaps(ax: Axes, field: Field, shown: NDArray[np.bool_], triangles: Triangulation | None) -> None:
    """Fill what contours leave empty because of results that cannot be shown."""
    no_logarithm = field.finite & ~shown
    for cause, look in ((no_logarithm, marks.NO_LOGARITHM), (field.undefined, marks.UNDEFINED)):
        if triangles is not None:
            corners = triangles.triangles
            touched = cause[field.done][corners].any(axis=1)
            polygons = np.stack([triangles.x[corners[touched]], triangles.y[corners[touched]]], axis=-1)
        elif not field.is_partial:
            polygons = gaps(field, shown, cause)
        else:
            continue
        marks.draw_polygons(ax, polygons, look, zorder=0.6)


def triangulate(field: Field, shown: NDArray[np.bool_]) -> Triangulation | None:
    """The finished points of a partial field, joined to triangles.

    A point whose result cannot be shown is a corner all the same, and its triangles are masked: nothing is
    interpolated across it.

    Returns the triangulation over `numpy.nonzero(field.done)`; None for fewer than three points or one row.
    """
    alpha, beta = field.plane
    rows, columns = np.nonzero(field.done)
    if min(len(np.unique(rows)), len(np.unique(columns))) < 2 or _collinear(rows, columns):
        return None
    # Triangles are chosen among indices, where the grid is square: axes of unlike length would give slivers.
    triangles = Triangulation(rows.astype(np.float64), columns.astype(np.float64)).triangles
    mask = ~shown[field.done][triangles].all(axis=1)
    return Triangulation(alpha[rows], beta[columns], triangles, mask=mask)


def _collinear(rows: NDArray[np.int64], columns: NDArray[np.int64]) -> bool:
    across, along = rows - rows[0], columns - columns[0]
    farthest = int(np.argmax(np.abs(across) + np.abs(along)))
    return bool((across * along[farthest] == along * across[farthest]).all())
