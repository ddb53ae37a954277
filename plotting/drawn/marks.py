"""Everything on a picture that is not the quantity: axes, titles, the center, points without a value."""

import textwrap
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, PathPatch
from matplotlib.path import Path
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from mpi_landscape.storage.surface.points import NamedPoint
from mpi_landscape.wording import shortened
from plotting.drawn.style import FAINT, INK, halo
from plotting.picture.field import Field
from plotting.picture.levels import format_value

Look = dict[str, Any]

UNDEFINED: Look = {"facecolor": "#bdbdbd", "edgecolor": "#555555", "hatch": "/////", "linewidth": 0.0}
NO_LOGARITHM: Look = {"facecolor": "#dedede", "edgecolor": "#777777", "hatch": ".....", "linewidth": 0.0}
PENDING: Look = {"facecolor": "#f0f0f0", "edgecolor": "#aaaaaa", "linewidth": 0.5}

# Characters of a name in a picture.
_LONGEST_NAME = 32
# Beyond this ratio of the ranges equal units would make one axis too short to read.
EQUAL_ASPECT_LIMIT = 2.5


def undefined_label(values: NDArray[np.float64]) -> str:
    """What is not finite among values: `NaN`, `∞`, `NaN or ∞`."""
    kinds = {"NaN": np.isnan(values), "∞": np.isposinf(values), "−∞": np.isneginf(values)}
    return " or ".join(name for name, present in kinds.items() if present.any())


def missing_handles(field: Field, shown: NDArray[np.bool_], *, pending: bool) -> list[Artist]:
    """The legend entries for points without a place on the scale and, if `pending`, for those to come."""
    handles: list[Artist] = []
    if field.undefined.any():
        handles.append(
            Patch(**UNDEFINED, label=f"result is {undefined_label(field.values[field.undefined])}")
        )
    if (field.finite & ~shown).any():
        handles.append(Patch(**NO_LOGARITHM, label="result ≤ 0 (no logarithm)"))
    if pending and field.is_partial:
        handles.append(Patch(**PENDING, label="not computed yet"))
    return handles


def draw_polygons(ax: Axes, polygons: NDArray[np.float64], look: Look, *, zorder: float) -> None:
    """Draw polygons, (number, corners, 2) float64, as one patch, so that hatches run on across cells."""
    if len(polygons):
        closed = np.concatenate([polygons, polygons[:, :1]], axis=1)
        codes = np.full(closed.shape[:2], Path.LINETO, dtype=np.uint8)
        codes[:, 0], codes[:, -1] = Path.MOVETO, Path.CLOSEPOLY
        path = Path(closed.reshape(-1, 2), codes.reshape(-1))
        ax.add_patch(PathPatch(path, zorder=zorder, **look))


def draw_points(ax: Axes, field: Field, *, color: str) -> list[Artist]:
    """Draw a dot at each finished point of a partial field; the legend entry, if there is one."""
    alpha, beta = field.plane
    rows, columns = np.nonzero(field.done)
    if not len(rows):
        return []
    size = float(np.clip(60 / np.sqrt(len(rows)), 0.8, 2.5))
    look: Look = {"marker": ".", "color": color, "markeredgewidth": 0.0, "linestyle": "none"}
    ax.add_line(Line2D(alpha[rows], beta[columns], markersize=size, zorder=2.5, gid="points", **look))
    return [Line2D([], [], markersize=6, label="computed points", **look)]


def mark_center(ax: Axes, field: Field) -> None:
    """Mark the trained network, (0, 0), if it lies within the ranges."""
    alpha, beta = field.plane
    if alpha[0] <= 0 <= alpha[-1] and beta[0] <= 0 <= beta[-1]:
        look: Look = {"color": INK, "markersize": 9, "markeredgewidth": 1.3, "path_effects": halo(3)}
        ax.plot(0, 0, "+", zorder=6, gid="center", **look)


def mark_points(ax: Axes, field: Field) -> None:
    """Mark the solutions that have names, each with its own beside it; hollow where it is a projection."""
    middle = (field.alpha[0] + field.alpha[-1]) / 2
    for point in field.points:
        x, y = point.at
        if (x, y) != (0.0, 0.0):  # which has a mark of its own
            fill = "white" if point.is_projected else INK
            look: Look = {"color": INK, "markerfacecolor": fill, "markersize": 5, "path_effects": halo(3)}
            ax.plot(x, y, "o", zorder=6, gid="solution", **look)
        left = x <= middle
        ax.annotate(
            label_of_point(point), (x, y), xytext=(6 if left else -6, 5), textcoords="offset points", fontsize=8,
            ha="left" if left else "right", va="bottom", color=INK, path_effects=halo(2.5), zorder=7,
            parse_math=False, gid="name",
        )  # fmt: skip


def mark_rules(ax: Axes, field: Field) -> None:
    """Mark the solutions that have names on a line, each by a rule with its own on it.

    At half height: at a solution losses are low and accuracies high.
    """
    alpha = field.alpha
    span = alpha[-1] - alpha[0]
    for point in field.points:
        (x,) = point.at
        if x != 0:
            ax.axvline(x, color=FAINT, linewidth=0.6, linestyle=(0, (1, 2)), zorder=1, gid="solution")
        share = (x - alpha[0]) / span if span > 0 else 0.5
        ax.annotate(
            label_of_point(point), (x, 0.5), xycoords=("data", "axes fraction"), xytext=(0, 0),
            textcoords="offset points", fontsize=8, va="center", color=INK, path_effects=halo(2.5), zorder=7,
            ha="left" if share < 0.1 else "right" if share > 0.9 else "center", parse_math=False, gid="name",
        )  # fmt: skip


def label_of_point(point: NamedPoint) -> str:
    """The name of a solution, and that it is not there itself."""
    name = shortened(point.name, _LONGEST_NAME)
    return f"{name} (projected)" if point.is_projected else name


def say(ax: Axes, text: str) -> None:
    """Write a sentence into the middle of a picture that has nothing else to show."""
    ax.text(
        0.5, 0.6, textwrap.fill(text, 34), transform=ax.transAxes, ha="center", va="center",
        color=INK, zorder=7, bbox={"facecolor": "white", "edgecolor": "#bbbbbb", "boxstyle": "round,pad=0.5"},
    )  # fmt: skip


def why_empty(field: Field, shown: NDArray[np.bool_]) -> str | None:
    """Why there is nothing to draw lines through; None if there is."""
    if not field.done.any():
        return "no point is computed yet"
    if not shown.any():
        return f"no finite value: every result is {undefined_label(field.values[field.undefined])}"
    values = field.values[shown]
    if values.min() == values.max():
        return f"constant: {format_value(float(values.min()), 6)}"
    return None


def axis_ticks() -> MaxNLocator:
    """A locator of few round ticks, the same on both axes of a grid that is about square."""
    return MaxNLocator(nbins=6, steps=[1, 2, 5, 10])


def dress(ax: Axes, field: Field) -> None:
    """Label the axes and give them their ranges, in equal units where both stay readable."""
    alpha, beta = field.plane
    ax.set_xlabel("α", fontsize=11)
    ax.set_ylabel("β", rotation=0, fontsize=11, labelpad=8, va="center")
    spans = np.ptp(alpha), np.ptp(beta)
    if min(spans) > 0 and max(spans) <= EQUAL_ASPECT_LIMIT * min(spans):
        ax.set_aspect("equal")
    for axis, points in ((ax.xaxis, alpha), (ax.yaxis, beta)):
        if len(points) == 1:
            axis.set_ticks(points.tolist())
        else:
            axis.set_major_locator(axis_ticks())
    ax.tick_params(direction="out", length=3)


def entitle(ax: Axes, title: str, facts: tuple[str, ...], *, width: int = 46) -> None:
    """Write the title, `width` characters per line, and smaller below it what is known at single points."""
    # Lines break between facts, not within them.
    joined = " · ".join(fact.replace(" ", "\N{NO-BREAK SPACE}") for fact in facts)
    small = textwrap.fill(joined.replace(" ·", "\N{NO-BREAK SPACE}·"), round(1.35 * width))
    small = small.replace("\N{NO-BREAK SPACE}·\n", "\n")
    lines = small.count("\n") + 1 if small else 0
    ax.set_title(textwrap.fill(title, width), pad=7 + 10.5 * lines, parse_math=False)
    ax.annotate(
        small, (0.5, 1.0), xytext=(0, 5), xycoords="axes fraction", textcoords="offset points",
        ha="center", va="bottom", fontsize=7.5, color=FAINT, parse_math=False, linespacing=1.25,
    )  # fmt: skip


def legend_below(ax: Axes, handles: list[Artist], *, gap: float) -> None:
    """Explain grays and dots below the axes, where they hide nothing."""
    if handles:
        ax.legend(
            handles=handles, loc="upper center", bbox_to_anchor=(0.5, -gap), ncol=3, frameon=False,
            handlelength=1.6, columnspacing=1.2, borderpad=0,
        )  # fmt: skip
