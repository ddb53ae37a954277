"""Training curves: losses, errors, weight norm and learning rate over a common axis of epochs.

Train solid, test dashed, as in Li et al. 2018, arXiv:1712.09913, figures 2 and 3; accuracies are drawn as errors, the
usual form for training curves (He et al. 2015, arXiv:1512.03385, figure 6).
"""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from matplotlib.typing import LineStyleType
from numpy.typing import NDArray

from mpi_landscape.storage.history.records import History
from plotting.drawn.line import set_scale
from plotting.drawn.marks import entitle, say
from plotting.drawn.style import ACCURACY_COLOR, FAINT, INK, LOSS_COLOR, line_color_map, style
from plotting.picture.curves import Curve, Panel, common_rules, curve_of, progress_of, reached
from plotting.picture.levels import Kind, format_value
from plotting.picture.quantities import is_accuracy, label_of
from plotting.picture.scale import Scale, choose_scale

_HEIGHTS = {"loss": 2.2, "error": 2.2, "weight norm": 1.3, "learning rate": 0.95, "seconds": 1.1}
_COLORS = {"loss": LOSS_COLOR, "error": ACCURACY_COLOR}
# For histories in one figure, as long as they suffice; lightness tells them apart without color vision too.
_OVERLAY = ("#1f5a99", "#d1693c", "#3b8f6b", "#7a5195", "#a08a00", "#333333")
_DASHES: tuple[LineStyleType, ...] = ("-", "--", "-.", ":", (0, (4, 1, 1, 1, 1, 1)))
# Beyond this many points a dot for each says nothing.
_DOTS = 12
_LOWERED: dict[str, Any] = {"color": FAINT, "linewidth": 0.7, "linestyle": (0, (1, 2))}
_BEGUN: dict[str, Any] = {"color": FAINT, "linewidth": 0.7, "linestyle": "-"}


def draw_history(
    histories: Sequence[History],
    panels: Sequence[Panel],
    *,
    title: str,
    labels: Sequence[str] = (),
    scale: Kind | Literal["auto"] = "auto",
    vmin: float | None = None,
    vmax: float | None = None,
) -> Figure:
    """Draw the curves of one training, or of several on top of each other, in a figure attached to no window.

    Several need a label each. A scale of "auto" is logarithmic for losses and learning rates where all are
    positive; its ends are for a single panel.
    """
    with style():
        heights = [_HEIGHTS[panel.name] * (1.6 if len(panels) == 1 else 1) for panel in panels]
        figure = Figure(figsize=(5.6, 1.35 + sum(heights)), layout="constrained")
        column = figure.subplots(len(panels), 1, sharex=True, squeeze=False, height_ratios=heights)
        axes: list[Axes] = list(column[:, 0])
        colors = _colors(len(histories))
        dashes = _dashes(histories, panels)
        for ax, panel in zip(axes, panels, strict=True):
            curves = [
                (curve_of(history, quantity), colors[k] or _COLORS.get(panel.name, INK), dashes.get(quantity, "-"))
                for k, history in enumerate(histories)
                for quantity in panel.quantities
            ]  # fmt: skip
            _draw_panel(ax, panel, curves, scale=scale, vmin=vmin, vmax=vmax, where=histories[0].path)
        rules = _draw_rules(axes, histories)
        _finish_epochs(axes, histories)
        entitle(axes[0], title, _facts(histories[0]) if len(histories) == 1 else (), width=54)
        _explain(figure, _history_handles(histories, labels, colors) + _split_handles(dashes) + rules)
        figure.align_ylabels(axes)
        _settle(figure, axes)
        return figure


def _settle(figure: Figure, axes: Sequence[Axes]) -> None:
    """Lay out once, and round: with several panels the solver's last bits differ from call to call."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for ax in axes:
        ax.set_position(tuple(round(part, 5) for part in ax.get_position().bounds))


def _colors(count: int) -> list[str | None]:
    """One color per history; None for a single one, whose panels have colors of their own."""
    if count == 1:
        return [None]
    if count <= len(_OVERLAY):
        return list(_OVERLAY[:count])
    # With many they are a sweep, whose order a sequence of colors shows.
    return [to_hex(line_color_map()(k / (count - 1))) for k in range(count)]


def _dashes(histories: Sequence[History], panels: Sequence[Panel]) -> dict[str, LineStyleType]:
    """The line style of each quantity: train solid, test dashed, val dash-dotted, other splits what is left."""
    splits = list(dict.fromkeys(split for history in histories for split in history.splits))
    usual = {"train": _DASHES[0], "test": _DASHES[1], "val": _DASHES[2]}
    free = [dash for dash in _DASHES if dash not in [usual.get(split) for split in splits]] or [_DASHES[-1]]
    others = [split for split in splits if split not in usual]
    chosen = usual | {split: free[k % len(free)] for k, split in enumerate(others)}
    drawn = {quantity for panel in panels for quantity in panel.quantities}
    named = [(split, f"{split}_{kind}") for split in splits for kind in ("loss", "accuracy")]
    return {quantity: chosen[split] for split, quantity in named if quantity in drawn}


def _draw_panel(
    ax: Axes,
    panel: Panel,
    curves: Sequence[tuple[Curve, str, LineStyleType]],
    *,
    scale: Kind | Literal["auto"],
    vmin: float | None,
    vmax: float | None,
    where: str,
) -> None:
    """Draw the curves of one panel on a scale for all of them."""
    values = np.concatenate([curve.results for curve, _, _ in curves])
    trained = np.concatenate([curve.value[curve.epoch > 0] for curve, _, _ in curves])
    # The error before the first step is that of guessing; beside it all others would lie flat on the axis.
    scaled = trained if panel.is_percent and np.isfinite(trained).any() else values
    kind = scale if scale != "auto" else _kind_of(panel, values)
    chosen = choose_scale(scaled, where=f"{where}: {panel.name}", kind=kind, levels=1, vmin=vmin, vmax=vmax)
    for curve, color, dash in curves:
        few = len(curve.epoch) <= _DOTS and not panel.is_step
        ax.plot(
            curve.epoch, np.where(chosen.shows(curve.value), curve.value, np.nan), color=color, linestyle=dash,
            linewidth=1.2, drawstyle="steps-pre" if panel.is_step else "default", marker="o" if few else "",
            markersize=2.5, zorder=3, label=label_of(curve.quantity),
        )  # fmt: skip
    set_scale(ax, chosen, percent=panel.is_percent, count=6 if _HEIGHTS[panel.name] > 1.5 else 3)
    if panel.is_step:
        _fit_rates(ax, chosen, values)
    ax.set_ylabel(panel.name)
    ax.tick_params(direction="out", length=3)
    if not values.size:
        ax.set_yticks([])
        say(ax, "no value is finite" if any(len(curve.epoch) for curve, *_ in curves) else "no value yet")


def _kind_of(panel: Panel, values: NDArray[np.float64]) -> Kind:
    positive = bool(values.size) and bool((values > 0).all())
    return "log" if panel.name in ("loss", "learning rate") and positive else "linear"


def _fit_rates(ax: Axes, scale: Scale, values: NDArray[np.float64]) -> None:
    """Put the ticks at the learning rates themselves where they are few and apart, and keep them off the frame."""
    # 0.1 × 0.1 is another float than 0.01.
    rates = np.unique([float(f"{value:.6g}") for value in values])
    if scale.kind != "log" or not len(rates):
        return
    pad = max(1.4, (scale.vmax / scale.vmin) ** 0.12)
    ax.set_ylim(scale.vmin / pad, scale.vmax * pad)
    ax.minorticks_off()
    if len(rates) <= 4 and (rates[1:] > 2.5 * rates[:-1]).all():
        ax.set_yticks(rates.tolist(), labels=[f"{rate:g}" for rate in rates])


def _draw_rules(axes: Sequence[Axes], histories: Sequence[History]) -> list[Artist]:
    """Mark in all panels where the learning rate was lowered or a phase began, if no history contradicts."""
    handles: list[Artist] = []
    lowered, begun = common_rules(histories)
    for epochs, label, look in (
        (lowered, "learning rate lowered", _LOWERED),
        (begun, "next phase begins", _BEGUN),
    ):
        for ax in axes:
            for epoch in epochs:
                ax.axvline(epoch, zorder=1, gid=label, **look)
        if epochs:
            handles.append(Line2D([], [], label=label, **look))
    return handles


def _finish_epochs(axes: Sequence[Axes], histories: Sequence[History]) -> None:
    """Let the epochs reach as far as any history has come; what is still to be done takes no room."""
    last = max(reached(history) for history in histories)
    # Dots must not be cut in half by the frame.
    margin = 0.02 * last if last < _DOTS else 0
    axes[-1].set_xlim(*((-margin, last + margin) if last else (-0.5, 0.5)))
    axes[-1].xaxis.set_major_locator(MaxNLocator(nbins=8, steps=[1, 2, 5, 10], integer=True))
    if not last:
        axes[-1].set_xticks([0])
    axes[-1].set_xlabel("epoch")


def _facts(history: History) -> tuple[str, ...]:
    """What stands below the title: last losses and errors, the least error, how much is done."""
    facts = []
    for split in history.splits:
        for kind in ("loss", "accuracy"):
            quantity = f"{split}_{kind}"
            curve, percent = curve_of(history, quantity), is_accuracy(quantity)
            if not len(curve.results) or (percent and split == "train"):
                continue
            name = f"{split} {'error' if percent else 'loss'}"
            fact = f"{name} {format_value(float(curve.value[-1]), percent=percent)}"
            if percent and curve.results.min() < curve.value[-1]:
                best = int(np.nanargmin(curve.value))
                fact += f" (least {format_value(float(curve.value[best]), percent=True)} after epoch {curve.epoch[best]})"
            facts.append(fact)
    return (*facts, *(f"partial: {progress}" for progress in progress_of(history)))


def _history_handles(
    histories: Sequence[History], labels: Sequence[str], colors: Sequence[str | None]
) -> list[Artist]:
    handles: list[Artist] = []
    if len(histories) > 1:
        for history, label, color in zip(histories, labels, colors, strict=True):
            text = " ".join([label, *(f"({fact})" for fact in progress_of(history))])
            handles.append(Line2D([], [], color=color, linewidth=1.8, label=text.replace("$", r"\$")))
    return handles


def _split_handles(dashes: dict[str, LineStyleType]) -> list[Artist]:
    splits = {quantity.rsplit("_", 1)[0]: dash for quantity, dash in dashes.items()}
    return [
        Line2D([], [], color=INK, linestyle=dash, linewidth=1.2, label=label_of(split).replace("$", r"\$"))
        for split, dash in splits.items()
    ]


def _explain(figure: Figure, handles: list[Artist]) -> None:
    """Explain colors and lines below the panels, in as many columns as their words leave room for."""
    if handles:
        lengths = [len(str(handle.get_label())) for handle in handles]
        one_row = sum(lengths) + 10 * len(handles) <= 92
        columns = len(handles) if one_row else max(1, min(4, 92 // (max(lengths) + 10)))
        figure.legend(
            handles=handles, loc="outside lower center", ncol=columns, frameon=False, columnspacing=1.4,
            handlelength=2.4,
        )  # fmt: skip
