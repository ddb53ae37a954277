"""Losses along a path between two solutions beside those along the straight line, accuracies on a second axis."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from mpi_landscape.storage.connection.schema import LINE
from mpi_landscape.storage.connection.value import Connection
from plotting.drawn.line import set_scale
from plotting.drawn.marks import entitle, say
from plotting.drawn.style import ACCURACY_COLOR, FAINT, INK, LOSS_COLOR, style
from plotting.picture.levels import Kind, format_value
from plotting.picture.scale import Scale, choose_scale

# Of the straight line: the same colors, fainter.
_FAINTER = 0.45
_DASHES: tuple[Any, ...] = ("-", "--", "-.", ":")
_SIDES = (("loss", LOSS_COLOR), ("accuracy", ACCURACY_COLOR))


def draw_path(
    connection: Connection,
    *,
    title: str,
    scale: Kind | Literal["auto"] = "auto",
    vmin: float | None = None,
    vmax: float | None = None,
) -> Figure:
    """Draw a path, in a figure that is attached to no window.

    Solid on the training data and dashed on the test data; the straight line is fainter; dots are pivots.

    Args:
        connection: Finished or not.
        title: Above it.
        scale: Of the losses; one for the path and the straight line.
        vmin: Lower end of that scale.
        vmax: Its upper end.

    Raises:
        LandscapeError: The ends of the scale do not fit.
    """
    with style():
        figure = Figure(figsize=(5.6, 4.2), layout="constrained")
        ax = figure.add_subplot()
        for kind, color in _SIDES:
            names = [name for split in connection.splits for name in _names(connection, split, kind)]
            if not names:
                continue
            side = ax if kind == "loss" else ax.twinx()
            known = np.concatenate([connection.values[name][connection.done] for name in names])
            is_loss = kind == "loss"
            chosen = choose_scale(
                known,
                where=f"{connection.path}: {kind}",
                kind=scale if is_loss else "linear",
                levels=1,
                vmin=vmin if is_loss else None,
                vmax=vmax if is_loss else None,
                fraction=not is_loss,
            )
            for name in names:
                _draw_curve(side, connection, name, color, chosen)
            set_scale(side, chosen, percent=not is_loss)
            units = connection.units.get(names[0], "") if is_loss else ""
            side.set_ylabel(f"{kind} ({units})" if units else kind, color=color, parse_math=False)
            side.tick_params(axis="y", colors=color, direction="out", length=3)
        ax.set_xlabel("t, from one solution (0) to the other (1)")
        ax.set_xlim(-0.015, 1.015)
        ax.xaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10]))
        if not connection.done.any():
            say(ax, "no point is computed yet")
        entitle(ax, title, _facts(connection), width=54)
        figure.legend(
            handles=_handles(connection), loc="outside lower center", ncol=5, frameon=False, columnspacing=1.2,
            handlelength=2.2,
        )  # fmt: skip
        figure.draw_without_rendering()
        return figure


def _names(connection: Connection, split: str, kind: str) -> list[str]:
    """The quantity of a split along the straight line, where the path is another, and along the path."""
    names = (f"{LINE}{split}_{kind}", f"{split}_{kind}")[connection.is_straight :]
    return [name for name in names if name in connection.values]


def _draw_curve(ax: Axes, connection: Connection, name: str, color: str, scale: Scale) -> None:
    is_line = name.startswith(LINE)
    values: NDArray[np.float64] = connection.values[name]
    shown = np.where(connection.done & scale.shows(values), values, np.nan)
    split = name.removeprefix(LINE).rpartition("_")[0]
    ax.plot(
        connection.t[connection.done], shown[connection.done], color=color, alpha=_FAINTER if is_line else 1.0,
        linestyle=_dash(connection.splits, split), linewidth=1.0 if is_line else 1.6, zorder=2 if is_line else 3,
        marker="" if connection.done.all() else "o", markersize=2.5, gid=name,
    )  # fmt: skip
    is_first = name == f"{connection.splits[0]}_loss"
    if is_first and _has_pivots(connection):
        inner = connection.pivots.t[1:-1]
        there = np.interp(inner, connection.t, np.where(np.isnan(shown), np.nan, shown))
        ax.plot(inner, there, color=color, marker="o", linestyle="", markersize=4, zorder=4, gid="pivots")


def _has_pivots(connection: Connection) -> bool:
    return connection.pivots.on_path and len(connection.pivots.t) > 2


def _dash(splits: Sequence[str], split: str) -> Any:
    usual = {"train": "-", "test": "--", "val": "-."}
    return usual.get(split, _DASHES[splits.index(split) % len(_DASHES)])


def _facts(connection: Connection) -> tuple[str, ...]:
    """Barriers, length and cost."""
    facts = []
    for split in connection.splits:
        own, line = (connection.barriers.get(f"{each}barrier_{split}", np.nan) for each in ("", LINE))
        if not np.isnan(own):
            straight = "" if connection.is_straight else f" (straight {format_value(line)})"
            facts.append(f"{split} barrier {format_value(own)}{straight}")
    least = connection.attributes.get("line_length")
    if least and not connection.is_straight:
        facts.append(f"{format_value(float(connection.length[-1]) / float(least))} times as long")
    passes = connection.attributes.get("gradient_passes")
    if passes:
        facts.append(f"{format_value(float(passes))} gradient passes")
    if not connection.done.all():
        facts.append(f"partial: {int(connection.done.sum())} of {len(connection.t)} points")
    return tuple(facts)


def _handles(connection: Connection) -> list[Artist]:
    handles: list[Artist] = [
        Line2D([], [], color=INK, linewidth=1.6, label=f"path ({connection.attributes.get('method', '')})")
    ]
    if not connection.is_straight:
        handles.append(Line2D([], [], color=INK, linewidth=1.0, alpha=_FAINTER, label="straight line"))
    if _has_pivots(connection):
        handles.append(
            Line2D([], [], color=LOSS_COLOR, marker="o", linestyle="", markersize=4, label="pivots")
        )
    return handles + [
        Line2D([], [], color=FAINT, linewidth=1.2, linestyle=_dash(connection.splits, split), label=split)
        for split in connection.splits
    ]
