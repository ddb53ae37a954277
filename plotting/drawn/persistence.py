"""Persistence diagrams: each minimum by the loss at which its basin begins, and that at which it joins a lower one."""

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes

from plotting.drawn.marks import say
from plotting.drawn.style import ACCURACY_COLOR, FAINT, LOSS_COLOR
from plotting.picture.basins import diagram_of
from plotting.picture.field import Field
from plotting.picture.scale import Scale


def draw_persistence(ax: Axes, field: Field, scale: Scale) -> list[Artist]:
    """Draw the minima of a field: the farther above the diagonal, the deeper. Returns legend entries."""
    diagram = diagram_of(field)
    label = field.measure.axis_label(field.quantity)
    ax.set_xlabel(f"birth: {label} at the minimum", parse_math=False)
    ax.set_ylabel("death: at the pass to a lower one", parse_math=False)
    if diagram is None:
        say(ax, "no finite value" if field.done.any() else "no point is computed yet")
        return []
    is_log = scale.kind == "log" and diagram.low > 0
    low, high = (
        float(end) for end in (np.log([diagram.low, diagram.high]) if is_log else (diagram.low, diagram.high))
    )
    # Of a single minimum there is no range to go by.
    span = high - low or max(abs(high), 1.0)
    first, last, top = low - 0.06 * span, high + 0.16 * span, high + 0.1 * span
    first, last, top = (float(np.exp(end)) if is_log else end for end in (first, last, top))
    if is_log:
        ax.set_xscale("log")
        ax.set_yscale("log")
    ax.set_xlim(first, last)
    ax.set_ylim(first, last)
    ax.set_aspect("equal")
    ax.plot([first, last], [first, last], color=FAINT, linewidth=0.7, zorder=1, gid="diagonal")
    ax.axhline(top, color=FAINT, linewidth=0.6, linestyle=(0, (4, 3)), zorder=1, gid="endless")
    births, deaths = diagram.joined.T
    ax.vlines(births, births, deaths, color=LOSS_COLOR, linewidth=0.6, alpha=0.5, zorder=2)
    handles: list[Artist] = []
    if len(births):
        handles += ax.plot(
            births, deaths, "o", color=LOSS_COLOR, markersize=4.5, zorder=3, gid="joined",
            label=f"joins a lower minimum ({len(births)})",
        )  # fmt: skip
    endless = diagram.endless
    handles += ax.plot(
        endless, np.full(len(endless), top), "^", color=ACCURACY_COLOR, markersize=6, zorder=3, clip_on=False,
        gid="never", label="the lowest: joins none" if len(endless) == 1 else f"joins none ({len(endless)})",
    )  # fmt: skip
    return handles
