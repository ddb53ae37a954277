"""Trajectories: their way over labeled contours of the loss, and how much of it the plane shows.

One dot for each checkpoint, red where the learning rate dropped (Li et al. 2018, arXiv:1712.09913, figure 9).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from mpi_landscape.storage.trajectory.value import Trajectory
from plotting.drawn.contour import draw_contour
from plotting.drawn.figures import label_field
from plotting.drawn.line import set_scale
from plotting.drawn.marks import EQUAL_ASPECT_LIMIT, axis_ticks, entitle, say
from plotting.drawn.style import ACCURACY_COLOR, FAINT, INK, LOSS_COLOR, halo, style
from plotting.picture.field import Field
from plotting.picture.quantities import label_of
from plotting.picture.scale import Scale, choose_scale
from plotting.picture.ways import axis_labels, drops, facts_of

# As long as they suffice; lightness tells them apart without color vision too.
_COLORS = (LOSS_COLOR, "#d1693c", "#3b8f6b", "#7a5195", "#a08a00", "#333333")
_DROP = "#d7191c"
_MARGIN = 0.1


def draw_path(
    trajectory: Trajectory, field: Field | None, scale: Scale | None, *, title: str, label: str = ""
) -> Figure:
    """The way of each trajectory in the plane, over the contours of a field on the same axes where there is one.

    Args:
        trajectory: What to draw.
        field: A quantity of a surface on its axes; None for the way alone.
        scale: That of the field.
        title: Above the picture.
        label: What the contours are of.
    """
    with style():
        figure = Figure(figsize=_size(trajectory, field), layout="constrained")
        ax = figure.add_subplot()
        contours, handles = None, list[Artist]()
        if field is not None and scale is not None:
            contours, handles = draw_contour(ax, field, scale)
        handles = [*_draw_ways(ax, trajectory), *handles]
        _frame(ax, trajectory, field)
        entitle(ax, f"{title}: {label}" if label else title, facts_of(trajectory))
        columns = len(handles) if len(handles) <= 4 else 3
        figure.legend(
            handles=handles, loc="outside lower center", ncol=columns, frameon=False, columnspacing=1.2,
            handlelength=1.8,
        )  # fmt: skip
        figure.draw_without_rendering()
        if contours is not None and field is not None and scale is not None:
            label_field(ax, contours, field, scale)
        return figure


def draw_seen(trajectory: Trajectory, quantities: Sequence[str], *, title: str) -> Figure:
    """What the plane shows of the way: true losses against those in the plane, and the distance out of it.

    Args:
        trajectory: What to draw.
        quantities: Of checkpoints; each has a counterpart in the plane.
        title: Above the picture.
    """
    with style():
        figure = Figure(figsize=(5.6, 1.3 + 2.4 * len(quantities) + 1.9), layout="constrained")
        column = figure.subplots(
            len(quantities) + 1, 1, sharex=True, squeeze=False, height_ratios=[2.4] * len(quantities) + [1.9]
        )
        axes: list[Axes] = list(column[:, 0])
        for ax, quantity in zip(axes, quantities, strict=False):
            _draw_losses(ax, trajectory, quantity)
        _draw_distances(axes[-1], trajectory)
        axes[-1].set_xlabel("epoch")
        axes[-1].xaxis.set_major_locator(MaxNLocator(nbins=8, steps=[1, 2, 5, 10], integer=True))
        entitle(axes[0], title, facts_of(trajectory), width=54)
        several = [
            Line2D([], [], color=color, linewidth=1.8, label=name.replace("$", r"\$"))
            for name, color in zip(trajectory.names, _colors(trajectory), strict=True)
            if len(trajectory.names) > 1
        ]
        kinds = [
            Line2D([], [], color=INK, linewidth=1.2, label="of the checkpoint"),
            Line2D([], [], color=INK, linewidth=1.2, linestyle="--", label="at its place in the plane"),
            Line2D([], [], color=FAINT, linewidth=1.0, linestyle=":", label="distance from the center"),
        ]
        figure.legend(
            handles=[*several, *kinds], loc="outside lower center", ncol=3, frameon=False, columnspacing=1.2
        )
        figure.align_ylabels(axes)
        return figure


def _colors(trajectory: Trajectory) -> list[str]:
    return [_COLORS[number % len(_COLORS)] for number in range(len(trajectory.names))]


def _draw_ways(ax: Axes, trajectory: Trajectory) -> list[Artist]:
    handles: list[Artist] = []
    many = max(len(trajectory.way(number)) for number in range(len(trajectory.names))) > 60
    dropped = False
    for number, (name, color) in enumerate(zip(trajectory.names, _colors(trajectory), strict=True)):
        places = trajectory.way(number)
        look: dict[str, Any] = {
            "color": color, "linewidth": 1.0, "marker": "o", "markersize": 2.6 if many else 3.8, "markeredgewidth": 0.5,
            "markeredgecolor": "white",
        }  # fmt: skip
        x, y = trajectory.alpha[places], trajectory.beta[places]
        ax.plot(x, y, zorder=4, path_effects=halo(2.4), markerfacecolor=color, gid=f"path {name}", **look)
        handles.append(Line2D([], [], label=(name or "a dot per checkpoint").replace("$", r"\$"), **look))
        first: dict[str, Any] = {
            "marker": "s", "markersize": 5.5, "markerfacecolor": "white", "markeredgecolor": color,
            "markeredgewidth": 1.3, "linestyle": "none",
        }  # fmt: skip
        ax.plot(x[:1], y[:1], zorder=5.5, **first)
        if number == 0:
            begin = Line2D([], [], label=f"epoch {trajectory.epoch[places[0]]}", **first)
        red = drops(trajectory, number)
        if red:
            dropped = True
            ax.plot(trajectory.alpha[red], trajectory.beta[red], zorder=5.6, gid="drops", **_red(many=many))
    handles.append(begin)
    if dropped:
        handles.append(Line2D([], [], label="learning rate dropped", **_red(many=False)))
    ax.plot(
        0, 0, "+", color=INK, markersize=10, markeredgewidth=1.4, path_effects=halo(3), zorder=6, gid="center"
    )
    handles.append(Line2D([], [], color=INK, marker="+", markersize=9, linestyle="none", label="center"))
    return handles


def _red(*, many: bool) -> dict[str, Any]:
    return {
        "marker": "o", "markersize": 4.6 if many else 6.0, "markerfacecolor": _DROP, "markeredgecolor": "white",
        "markeredgewidth": 0.7, "linestyle": "none",
    }  # fmt: skip


def _limits(trajectory: Trajectory, field: Field | None) -> tuple[tuple[float, float], tuple[float, float]]:
    """Ends of both axes: those of the field, or what holds the ways and the center."""
    if field is not None:
        alpha, beta = field.plane
        return (float(alpha[0]), float(alpha[-1])), (float(beta[0]), float(beta[-1]))
    ends = []
    for name in ("alpha", "beta"):
        low, high = trajectory.extent(name)
        margin = _MARGIN * (high - low) or 1.0
        ends.append((low - margin, high + margin))
    return ends[0], ends[1]


def _size(trajectory: Trajectory, field: Field | None) -> tuple[float, float]:
    """Inches: less tall where the ranges are wide."""
    (left, right), (low, high) = _limits(trajectory, field)
    ratio = (high - low) / (right - left)
    if 1 / EQUAL_ASPECT_LIMIT <= ratio < 1:
        return 5.2, 1.7 + 3.9 * ratio
    return (5.2, 5.4) if ratio >= 1 else (5.2, 4.4)


def _frame(ax: Axes, trajectory: Trajectory, field: Field | None) -> None:
    alpha, beta = _limits(trajectory, field)
    ax.set_xlim(*alpha)
    ax.set_ylim(*beta)
    spans = alpha[1] - alpha[0], beta[1] - beta[0]
    if max(spans) <= EQUAL_ASPECT_LIMIT * min(spans):
        ax.set_aspect("equal")
    labels = axis_labels(trajectory)
    ax.set_xlabel(labels[0], fontsize=9)
    ax.set_ylabel(labels[1], fontsize=9)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(axis_ticks())
    ax.tick_params(direction="out", length=3)


def _draw_losses(ax: Axes, trajectory: Trajectory, quantity: str) -> None:
    true, inside = trajectory.values[quantity], trajectory.values[f"{quantity}_in_plane"]
    values = np.concatenate([true[trajectory.done], inside[trajectory.done]])
    positive = bool(values[np.isfinite(values)].size) and bool((values[np.isfinite(values)] > 0).all())
    is_share = trajectory.units.get(quantity) == "1"
    scale = choose_scale(
        values, where=trajectory.path, kind="log" if positive and not is_share else "linear", levels=1
    )
    for number, color in enumerate(_colors(trajectory)):
        places = trajectory.way(number)
        epochs = trajectory.epoch[places]
        for column, dash in ((true, "-"), (inside, "--")):
            shown = np.where(scale.shows(column[places]), column[places], np.nan)
            ax.plot(
                epochs, shown, color=color, linestyle=dash, linewidth=1.2, marker="o" if len(epochs) <= 40 else "",
                markersize=2.4, zorder=3,
            )  # fmt: skip
        for place in drops(trajectory, number):
            ax.axvline(trajectory.epoch[place], color=_DROP, linewidth=0.7, linestyle=(0, (1, 2)), zorder=1)
    set_scale(ax, scale, percent=is_share, count=6)
    units = trajectory.units.get(quantity, "")
    ax.set_ylabel(label_of(quantity) + (f"\n({units})" if units and not is_share else ""))
    ax.tick_params(direction="out", length=3)
    if not values.size:
        say(ax, "no value yet")


def _draw_distances(ax: Axes, trajectory: Trajectory) -> None:
    for number, color in enumerate(_colors(trajectory)):
        places = trajectory.way(number)
        epochs = trajectory.epoch[places]
        ax.plot(epochs, trajectory.from_center[places], color=FAINT, linestyle=":", linewidth=1.0, zorder=2)
        ax.plot(
            epochs, trajectory.distance[places], color=color if len(trajectory.names) > 1 else ACCURACY_COLOR,
            linewidth=1.2, marker="o" if len(epochs) <= 40 else "", markersize=2.4, zorder=3,
        )  # fmt: skip
    ax.set_ylim(bottom=0)
    ax.set_ylabel("distance out\nof the plane")
    ax.tick_params(direction="out", length=3)
