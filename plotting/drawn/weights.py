"""Histograms of weights on one scale, and norms per tensor (Li et al. 2018, arXiv:1712.09913, figure 2 c and f)."""

from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from mpi_landscape.storage.weights_file import WeightCounts
from mpi_landscape.wording import shortened
from plotting.drawn.marks import entitle, say
from plotting.drawn.style import ACCURACY_COLOR, LOSS_COLOR, line_color_map, style
from plotting.picture.weights import densities, facts_of, norm_facts, stretch

_OVERLAY = (LOSS_COLOR, ACCURACY_COLOR, "#3a8f4d", "#7a4fa3")
# Names of tensors below an axis, and characters of one.
_MOST_NAMES, _LONGEST_NAME = 40, 28
# Norms that are farther apart than by this factor are drawn on a logarithmic axis.
_WIDE = 30.0


def draw_weights(
    kind: str, counts: WeightCounts, *, title: str, scale: Literal["auto", "linear", "log"] = "auto"
) -> Figure:
    """The figure of one picture, `histogram` or `norms`, attached to no window."""
    with style():
        wide = 5.6 if kind == "histogram" else min(11.0, max(5.6, 2.0 + 0.16 * int(counts.counted.sum())))
        figure = Figure(figsize=(wide, 3.9 if kind == "histogram" else 4.6), layout="constrained")
        ax = figure.add_subplot()
        if kind == "histogram":
            _draw_histograms(ax, counts, is_log=scale == "log")
            entitle(ax, title or "weights", facts_of(counts), width=54)
        else:
            _draw_norms(ax, counts, scale=scale)
            entitle(ax, title or "norms of the weights", norm_facts(counts), width=54)
        if len(counts.checkpoints) > 1 or kind == "norms":
            figure.legend(
                *ax.get_legend_handles_labels(), loc="outside lower center", ncol=2, frameon=False, fontsize=8
            )
        return figure


def _colors(count: int) -> list[str]:
    if count <= len(_OVERLAY):
        return list(_OVERLAY[:count])
    return [to_hex(line_color_map()(k / (count - 1))) for k in range(count)]


def _names(counts: WeightCounts) -> list[str]:
    norms = np.sqrt((counts.norm**2).sum(axis=1))
    return [
        f"{shortened(name, _LONGEST_NAME)} (norm {norm:.4g})"
        for name, norm in zip(counts.checkpoints, norms, strict=True)
    ]


def _draw_histograms(ax: Axes, counts: WeightCounts, *, is_log: bool) -> None:
    """Draw the outline of each checkpoint's histogram over a pale fill, in common bins."""
    colors = _colors(len(counts.checkpoints))
    edges, every = densities(counts)
    for density, color, name in zip(every, colors, _names(counts), strict=True):
        shown = np.where(density > 0, density, np.nan) if is_log else density
        ax.stairs(shown, edges, color=color, linewidth=1.1, label=name, zorder=3, baseline=None)
        if not is_log:
            ax.stairs(density, edges, color=color, fill=True, alpha=0.18, linewidth=0, zorder=2)
    if is_log:
        ax.set_yscale("log")
    else:
        ax.set_ylim(bottom=0)
    ax.set_xlim(*stretch(counts))
    ax.set_xlabel("weight")
    ax.set_ylabel("density")
    if not counts.count.any():
        say(ax, "no weight lies in the bins")


def _draw_norms(ax: Axes, counts: WeightCounts, *, scale: Literal["auto", "linear", "log"]) -> None:
    """Draw the norm of each tensor that is counted, in the order of the network."""
    colors = _colors(len(counts.checkpoints))
    tensors = [name for name, counted in zip(counts.tensors, counts.counted, strict=True) if counted]
    norms, places = counts.norm[:, counts.counted], np.arange(len(tensors))
    some = norms[np.isfinite(norms) & (norms > 0)]
    is_log = bool(some.size) and (scale == "log" or (scale == "auto" and some.max() > _WIDE * some.min()))
    for norm, color, name in zip(norms, colors, _names(counts), strict=True):
        shown = np.where(np.isfinite(norm) & ((norm > 0) | (not is_log)), norm, np.nan)
        ax.plot(places, shown, "o-", color=color, linewidth=0.8, markersize=3, label=name, zorder=3)
    if is_log:
        ax.set_yscale("log")
    else:
        ax.set_ylim(bottom=0)
    step = -(-len(places) // _MOST_NAMES)
    ax.set_xticks(
        places[::step],
        labels=[shortened(tensors[k], _LONGEST_NAME) for k in places[::step]],
        rotation=90, fontsize=6, parse_math=False,
    )  # fmt: skip
    ax.set_xlim(-0.5, len(places) - 0.5)
    ax.set_ylabel("norm √Σw²")
    ax.grid(axis="y", linewidth=0.3, color="#dddddd", zorder=0)
