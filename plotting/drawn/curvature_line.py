"""Curvature along a line: λmax and λmin below the losses, on one axis along the line."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator, FuncFormatter, NullLocator

from plotting.drawn.curvature import label_of_end
from plotting.drawn.line import draw_line, hatch_undefined
from plotting.drawn.marks import axis_ticks, entitle, mark_rules, missing_handles, say
from plotting.drawn.style import FAINT, style
from plotting.picture.field import Field, progress_facts
from plotting.picture.levels import format_value
from plotting.picture.scale import Scale
from plotting.picture.symmetric import SignedScale, decade_ticks, signed_scale

# As the map of an eigenvalue has them: blue above zero, red below.
HIGHEST, LOWEST = "#2a6fb0", "#b2182b"


def draw_ends_on_line(
    losses: Sequence[Field],
    scale: Scale | None,
    ends: Sequence[tuple[Field, str]],
    *,
    title: str,
    facts: tuple[str, ...],
    kind: Any = "auto",
) -> Figure:
    """Draw losses along a line above and eigenvalues below, each with the band of its error.

    Args:
        losses: And accuracies, as `draw_line` takes them; none where they are not known.
        scale: Of the losses.
        ends: Each eigenvalue, its error in `stderr`, with its color.
        title: Above the picture.
        facts: Below the title.
        kind: Of the axis of the eigenvalues: auto, linear or log.
    """
    with style():
        rows = 2 if losses else 1
        figure = Figure(figsize=(5.6, 2.9 * rows + 0.9), layout="constrained")
        column: Any = figure.subplots(rows, 1, sharex=True, squeeze=False)[:, 0]
        entitle(
            column[0], title, (*facts, *progress_facts([*losses, *[field for field, _ in ends]])), width=54
        )
        if losses and scale is not None:
            _, handles = draw_line(column[0], losses, scale)
            column[0].set_xlabel("")
            column[0].legend(
                handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.03), frameon=False, columnspacing=1.2,
                ncol=4 if len(handles) > 2 else 2,
            )  # fmt: skip
        _draw_ends(column[-1], ends, kind)
        figure.draw_without_rendering()
        return figure


def _draw_ends(ax: Axes, ends: Sequence[tuple[Field, str]], kind: Any) -> None:
    fields = [field for field, _ in ends]
    scale = signed_scale(np.concatenate([field.results for field in fields]), kind=kind)
    handles: list[Any] = []
    for field, color in ends:
        handles.append(_draw_end(ax, field, color))
        for handle in missing_handles(field, field.finite, pending=False):
            handle.set_label(f"{label_of_end(field.quantity)}: {handle.get_label()}")
            handles.append(handle)
    hatch_undefined(ax, fields)
    ax.axhline(0, color=FAINT, linewidth=0.6, zorder=1)
    set_signed_axis(ax, scale)
    ax.set_ylabel("eigenvalue" + ("" if scale.linear_below is None else " (log beyond ±" + _of(scale) + ")"))
    alpha = fields[0].alpha
    ax.set_xlabel(fields[0].axis, fontsize=11)
    if len(alpha) > 1:
        ax.set_xlim(alpha[0], alpha[-1])
        ax.xaxis.set_major_locator(axis_ticks())
    else:
        ax.set_xticks(alpha.tolist())
    if len(alpha) and alpha[0] < 0 < alpha[-1]:
        ax.axvline(0, color=FAINT, linewidth=0.6, linestyle=(0, (1, 2)), zorder=1, gid="center")
    mark_rules(ax, fields[0])
    if not any(field.finite.any() for field in fields):
        say(
            ax, "no finite value" if any(field.done.any() for field in fields) else "no point is computed yet"
        )
    ax.legend(
        handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.17), frameon=False, columnspacing=1.2,
        ncol=4 if len(handles) > 2 else 2,
    )  # fmt: skip


def _of(scale: SignedScale) -> str:
    return format_value(scale.linear_below or 0.0)


def set_signed_axis(ax: Axes, scale: SignedScale) -> None:
    """Give the vertical axis a scale of both signs, and readable ticks."""
    span = scale.high - scale.low
    if scale.linear_below is None:
        ax.set_ylim(scale.low - 0.05 * span, scale.high + 0.05 * span)
        ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: format_value(value, 5)))
        return
    ax.set_yscale("symlog", linthresh=scale.linear_below, base=10)
    small = 0.4 * scale.linear_below
    ax.set_ylim(
        1.6 * scale.low if scale.low <= -scale.linear_below else scale.low - small,
        1.6 * scale.high if scale.high >= scale.linear_below else scale.high + small,
    )
    ticks = decade_ticks(scale)
    ax.yaxis.set_major_locator(FixedLocator(ticks))
    ax.yaxis.set_major_formatter(FixedFormatter([format_value(tick) for tick in ticks]))
    ax.yaxis.set_minor_locator(NullLocator())


def _draw_end(ax: Axes, field: Field, color: str) -> Any:
    """Draw one curve through the finished points, the band of its error, and each of several lines."""
    values = np.where(field.finite, field.values, np.nan)
    dots = field.is_partial or len(field.alpha) == 1
    if field.band is not None:
        for each, done in zip(field.band.values.T, field.band.done.T, strict=True):
            shown = np.where(done & np.isfinite(each), each, np.nan)
            ax.plot(field.alpha, shown, color=color, linewidth=0.4, alpha=0.5, zorder=2.5, gid="repeat")
    (drawn,) = ax.plot(
        field.alpha[field.done], values[field.done], color=color, linewidth=1.5, markersize=2.5, zorder=3,
        marker="o" if dots else "", label=_name(field), gid=field.quantity,
    )  # fmt: skip
    if field.stderr is not None:
        error = np.where(field.finite, field.stderr, np.nan)
        ax.fill_between(
            field.alpha, values - error, values + error, color=color, alpha=0.2, linewidth=0, zorder=2
        )
    return drawn


def _name(field: Field) -> str:
    name = label_of_end(field.quantity)
    return name if field.band is None else f"mean {name}"
