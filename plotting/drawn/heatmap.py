"""A heat map of a field: one cell per point, and nothing between them."""

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import LogNorm, Normalize

from plotting.drawn import marks
from plotting.drawn.style import color_map
from plotting.picture.cells import edges, rectangles
from plotting.picture.field import Field
from plotting.picture.scale import Scale


def color_norm(scale: Scale) -> Normalize:
    """The continuous color scale, over values."""
    norm = LogNorm if scale.kind == "log" else Normalize
    return norm(vmin=scale.vmin, vmax=scale.vmax)


def draw_heatmap(ax: Axes, field: Field, scale: Scale) -> tuple[QuadMesh, list[Artist]]:
    """Draw one colored cell per point, gray where there is no result, hatched where it has no color.

    Returns the cells, masked where no color is due, and legend entries.
    """
    alpha, beta = field.plane
    across, along = edges(alpha), edges(beta)
    shown = field.done & scale.shows(field.values)
    mesh = ax.pcolormesh(
        across,
        along,
        np.ma.masked_where(~shown, field.values).T,
        cmap=color_map().with_extremes(bad=(0, 0, 0, 0)),
        norm=color_norm(scale),
        # Cells as vectors show seams in PDF viewers, and a fine grid makes a file of megabytes.
        rasterized=True,
        zorder=1,
    )
    for mask, look in (
        (~field.done, marks.PENDING),
        (field.finite & ~shown, marks.NO_LOGARITHM),
        (field.undefined, marks.UNDEFINED),
    ):
        marks.draw_polygons(ax, rectangles(mask, across, along), {**look, "linewidth": 0.0}, zorder=1.5)
    reason = marks.why_empty(field, shown)
    if reason is not None:
        marks.say(ax, reason)
    ax.set_xlim(across[0], across[-1])
    ax.set_ylim(along[0], along[-1])
    marks.mark_center(ax, field)
    marks.mark_points(ax, field)
    return mesh, marks.missing_handles(field, shown, pending=True)
