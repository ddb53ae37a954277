"""Quantities along a line; loss and accuracy on two axes (Li et al. 2018, arXiv:1712.09913, figure 2)."""

from collections.abc import Sequence

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullFormatter
from numpy.typing import NDArray

from plotting.drawn.marks import UNDEFINED, axis_ticks, mark_rules, missing_handles, say
from plotting.drawn.style import ACCURACY_COLOR, FAINT, LOSS_COLOR
from plotting.picture.cells import edges
from plotting.picture.field import Band, Field, sides
from plotting.picture.levels import even_levels, format_levels, format_value
from plotting.picture.scale import Scale, choose_scale


def draw_line(ax: Axes, fields: Sequence[Field], scale: Scale) -> tuple[Axes | None, list[Artist]]:
    """Draw quantities along a line, one measure per axis: fractions right, unless they are alone.

    The scale is that of the left axis. Returns the right axis if there is one, and legend entries.
    """
    left, fractions = sides(fields)
    handles, missing, right = _draw_side(ax, left, scale), _missing(left, scale), None
    if fractions:
        right = ax.twinx()
        results = np.concatenate([field.results for field in fractions])
        shares = choose_scale(results, where=fractions[0].quantity, fraction=True)
        handles += _draw_side(right, fractions, shares)
        missing += _missing(fractions, shares)
    hatch_undefined(ax, fields)
    ax.set_xlabel(fields[0].axis, fontsize=11)
    alpha = fields[0].alpha
    if len(alpha) > 1:
        ax.set_xlim(alpha[0], alpha[-1])
        ax.xaxis.set_major_locator(axis_ticks())
    else:
        ax.set_xticks(alpha.tolist())
    if len(alpha) and alpha[0] < 0 < alpha[-1]:
        ax.axvline(0, color=FAINT, linewidth=0.6, linestyle=(0, (1, 2)), zorder=1, gid="center")
    mark_rules(ax, fields[0])
    if not any(field.finite.any() for field in fields):
        computed = any(field.done.any() for field in fields)
        say(ax, "no finite value" if computed else "no point is computed yet")
    return right, handles + missing


def _draw_side(ax: Axes, fields: Sequence[Field], scale: Scale) -> list[Artist]:
    """Draw the curves of one axis, which has their color."""
    measure = fields[0].measure
    color = ACCURACY_COLOR if measure.is_fraction else LOSS_COLOR
    handles: list[Artist] = [_draw_one(ax, field, color, scale) for field in fields]
    ax.set_ylabel(measure.axis_label(), color=color, parse_math=False)
    ax.tick_params(axis="y", colors=color, direction="out", length=3)
    set_scale(ax, scale, percent=measure.is_fraction)
    return handles


def _draw_one(ax: Axes, field: Field, color: str, scale: Scale) -> Artist:
    """Draw one curve through the finished points; a result without a place interrupts it."""
    alpha, values = field.alpha[field.done], field.values[field.done]
    shown = scale.shows(values)
    curve = np.where(shown, values, np.nan)
    lonely = shown & ~(np.roll(shown, 1) & (np.arange(len(shown)) > 0))
    lonely &= ~(np.roll(shown, -1) & (np.arange(len(shown)) < len(shown) - 1))
    dots = field.is_partial or len(field.alpha) == 1
    # Dashed on the test split, as in Li et al. 2018, figure 2.
    dash = {"test": "--", "val": "-."}.get(field.quantity.split("_")[0], "-")
    if field.band is not None:
        _draw_band(ax, field, field.band, color, scale, dash)
    (drawn,) = ax.plot(
        alpha, curve, color=color, linestyle=dash, linewidth=1.5, label=field.label, markersize=2.5, zorder=3,
        marker="o" if dots or lonely.any() else "",
        markevery=None if dots else np.flatnonzero(lonely).tolist(),
    )  # fmt: skip
    if field.stderr is not None:
        error = np.where(shown, field.stderr[field.done], np.nan)
        ax.fill_between(alpha, curve - error, curve + error, color=color, alpha=0.2, linewidth=0, zorder=2)
    return drawn


def _draw_band(ax: Axes, field: Field, band: Band, color: str, scale: Scale, dash: str) -> None:
    """Draw each of several lines, and the band from the least to the greatest of them."""
    for values, done in zip(band.values.T, band.done.T, strict=True):
        curve = np.where(done & scale.shows(values), values, np.nan)
        ax.plot(
            field.alpha,
            curve,
            color=color,
            linestyle=dash,
            linewidth=0.4,
            alpha=0.5,
            zorder=2.5,
            gid="repeat",
        )
    low, high = (np.where(field.done & scale.shows(end), end, np.nan) for end in band.ends)
    ax.fill_between(field.alpha, low, high, color=color, alpha=0.13, linewidth=0, zorder=2, gid="band")


def set_scale(ax: Axes, scale: Scale, *, percent: bool, count: int = 6) -> None:
    """Give the vertical axis a scale, a little air, and readable ticks, about `count` if logarithmic."""
    if scale.kind == "log":
        ax.set_yscale("log")
        pad = (scale.vmax / scale.vmin) ** 0.04
        ax.set_ylim(scale.vmin / pad, scale.vmax * pad)
        ticks = even_levels(scale.vmin / pad, scale.vmax * pad, count, "log")
        ax.set_yticks(ticks, labels=format_levels(ticks, percent=percent))
        ax.yaxis.set_minor_formatter(NullFormatter())
    else:
        pad = 0.04 * (scale.vmax - scale.vmin)
        ax.set_ylim(scale.vmin - pad, scale.vmax + pad)

        def text(value: float, _: object) -> str:
            return f"{100 * value:.4g} %" if percent else format_value(value, 5)

        ax.yaxis.set_major_formatter(FuncFormatter(text))


def hatch_undefined(ax: Axes, fields: Sequence[Field]) -> None:
    """Hatch the stretches where a result is NaN or infinite."""
    undefined: NDArray[np.bool_] = np.any([field.undefined for field in fields], axis=0)
    borders = edges(fields[0].alpha)
    for k in np.nonzero(undefined)[0]:
        ax.axvspan(borders[k], borders[k + 1], zorder=0.5, **UNDEFINED)


def _missing(fields: Sequence[Field], scale: Scale) -> list[Artist]:
    """The legend entries for results without a place, which name their quantity."""
    handles: list[Artist] = []
    for field in fields:
        for handle in missing_handles(field, scale.shows(field.values), pending=False):
            handle.set_label(f"{field.label}: {handle.get_label()}")
            handles.append(handle)
    return handles
