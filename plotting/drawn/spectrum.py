"""Spectra: densities with outliers as sticks, their bulks on a scale of their own, and both ends by rank."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from mpi_landscape.storage.spectrum.value import Spectrum
from mpi_landscape.wording import shortened
from plotting.drawn.marks import entitle, say
from plotting.drawn.style import ACCURACY_COLOR, FAINT, LOSS_COLOR, style
from plotting.picture.levels import format_value
from plotting.picture.spectrum import Density, count_of, density_of, smoothing_words, tail_of

# As long as they suffice; lightness tells them apart without color vision too.
_COLORS = (LOSS_COLOR, ACCURACY_COLOR, "#3b8f6b", "#7a5195", "#a08a00", "#333333")
_NEGATIVE = "#fdeae4"
_LONGEST_NAME = 40
# A bulk that takes less than this share of the whole width has a panel of its own.
_NARROW = 0.6
# Eigenvalues that are farther apart than by this factor are drawn on a logarithmic axis.
_WIDE = 30.0


@dataclass(frozen=True, kw_only=True)
class Column:
    """Spectra over each other: of one operator, of one network each.

    Attributes:
        title: Above them.
        facts: Below the title.
        spectra: With their names.
    """

    title: str
    facts: tuple[str, ...]
    spectra: tuple[tuple[str, Spectrum], ...]


def draw_densities(columns: Sequence[Column]) -> Figure:
    """Draw the densities of spectra, all columns on one scale: the whole above and the bulk below.

    The height is logarithmic, as the few eigenvalues that matter are a thousandth of all. A stick is as high as the curve of one
    eigenvalue would be (Papyan 2018, arXiv:1811.07062; Ghorbani, Krishnan and Xiao 2019, arXiv:1901.10159, figure 1).
    """
    with style():
        found = [[density_of(spectrum) for _, spectrum in column.spectra] for column in columns]
        known = [each for densities in found for each in densities if each is not None]
        ends, bulk = _limits(known)
        has_bulk = any(each.nodes.size for each in known) and bulk[1] - bulk[0] < _NARROW * (
            ends[1] - ends[0]
        )
        rows = 2 if has_bulk else 1
        figure = Figure(
            figsize=(5.6 if len(columns) == 1 else 4.6 * len(columns), 0.9 + 2.9 * rows), layout="constrained"
        )
        axes: Any = figure.subplots(rows, len(columns), squeeze=False, sharey="row")
        for k, (column, densities) in enumerate(zip(columns, found, strict=True)):
            _draw_panel(axes[0, k], densities, ends, is_bulk=False)
            entitle(axes[0, k], column.title, column.facts, width=54 if len(columns) == 1 else 42)
            axes[-1, k].set_xlabel("eigenvalue")
            if has_bulk:
                _draw_panel(axes[1, k], densities, bulk, is_bulk=True)
                axes[1, k].set_title("the bulk", fontsize=8.5, color=FAINT, pad=3)
        for row in axes:
            row[0].set_ylabel("density (log)")
            _set_height(row[0], known)
        figure.legend(
            handles=_handles(columns, found), loc="outside lower center", ncol=2, frameon=False, columnspacing=1.2,
            title=smoothing_words(known) if known else None, title_fontsize=7.5,
        )  # fmt: skip
        figure.draw_without_rendering()
        return figure


def _limits(densities: Sequence[Density]) -> tuple[tuple[float, float], tuple[float, float]]:
    """The ends of the horizontal axis for all of the spectra, and for their bulks."""
    if not densities:
        return (-1.0, 1.0), (-1.0, 1.0)
    reach = 4 * max(each.width for each in densities)
    whole = min(each.ends[0] for each in densities), max(each.ends[1] for each in densities)
    bulk = min(each.bulk[0] for each in densities), max(each.bulk[1] for each in densities)
    air = max(0.03 * (whole[1] - whole[0]), reach)
    return (whole[0] - air, whole[1] + air), (bulk[0] - reach, bulk[1] + reach)


def _draw_panel(
    ax: Axes, densities: Sequence[Density | None], ends: tuple[float, float], *, is_bulk: bool
) -> None:
    single = len(densities) == 1
    for k, density in enumerate(densities):
        if density is None:
            continue
        color = _COLORS[k % len(_COLORS)]
        places, heights = density.curve(*ends)
        ax.plot(
            places,
            np.where(heights > 0, heights, np.nan),
            color=color,
            linewidth=1.2,
            zorder=3 + k / 100,
            gid=f"density {k}",
        )
        if single:
            ax.fill_between(places, heights, 1e-300, color=color, alpha=0.18, linewidth=0, zorder=2)
        if not is_bulk:
            _draw_sticks(ax, density, color, k)
    ax.set_yscale("log")
    ax.set_xlim(*ends)
    if ends[0] < 0 and any(density is not None for density in densities):
        ax.axvspan(ends[0], 0, facecolor=_NEGATIVE, linewidth=0, zorder=0, gid="negative")
    if ends[0] < 0 < ends[1]:
        ax.axvline(0, color=FAINT, linewidth=0.6, linestyle=(0, (1, 2)), zorder=1)
    ax.xaxis.set_major_locator(MaxNLocator(nbins=7, steps=[1, 2, 5, 10]))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: format_value(value, 6)))
    ax.tick_params(direction="out", length=3)
    if not any(density is not None for density in densities):
        say(ax, "nothing is computed yet")


def _draw_sticks(ax: Axes, density: Density, color: str, k: int) -> None:
    outliers, top = density.outliers, density.one_height
    if outliers.size:
        ax.vlines(outliers, 1e-300, top, color=color, linewidth=1.1, zorder=4, gid=f"sticks {k}")
        ax.plot(
            outliers,
            np.full(outliers.size, top),
            "o",
            color=color,
            markersize=3,
            zorder=4,
            gid=f"outliers {k}",
        )


def _set_height(ax: Axes, densities: Sequence[Density]) -> None:
    """Heights from below that of a single eigenvalue to the top of the highest curve."""
    if not densities:
        ax.set_ylim(0.1, 10)
        return
    low = min(each.one_height for each in densities)
    high = max(float(each.curve(*each.bulk)[1].max(initial=low)) for each in densities)
    ax.set_ylim(low / 4, max(2.5 * high, 20 * low))
    ax.yaxis.set_major_locator(LogLocator(numticks=8))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: format_value(value)))
    ax.yaxis.set_minor_formatter(NullFormatter())


def _handles(columns: Sequence[Column], found: Sequence[Sequence[Density | None]]) -> list[Any]:
    """What the curves are of, and what sticks and the tinted side are."""
    handles: list[Any] = []
    known = [each for densities in found for each in densities if each is not None]
    several = max(len(densities) for densities in found) > 1
    longest = max(range(len(columns)), key=lambda k: len(found[k]))
    for k, ((name, spectrum), density) in enumerate(
        zip(columns[longest].spectra, found[longest], strict=True)
    ):
        if several:
            told = (
                "" if density is None else f": {count_of(density)}, λmax {format_value(spectrum.lambda_max)}"
            )
            label = _name(name) + told * (len(columns) == 1)
            handles.append(Line2D([], [], color=_COLORS[k % len(_COLORS)], linewidth=1.6, label=label))
    if any(each.outliers.size and each.nodes.size for each in known):
        look: Any = {
            "color": FAINT if several else _COLORS[0],
            "marker": "o",
            "markersize": 3,
            "linewidth": 1.1,
        }
        handles.append(Line2D([], [], label="outlier: beyond twice the edge of the rest", **look))
    if any(each.ends[0] < 0 for each in known):
        handles.append(Patch(facecolor=_NEGATIVE, edgecolor="#e0b8ac", linewidth=0.5, label="negative"))
    return handles


def draw_eigenvalues(columns: Sequence[Column]) -> Figure:
    """Draw the known eigenvalues of both ends by rank, each with a bar of its residual; several networks over each other.

    A row for each column of densities: operators have no scale in common here.
    """
    with style():
        sides = [
            upper for upper in (True, False) if any(_has_tail(column, upper=upper) for column in columns)
        ]
        sides = sides or [True]
        figure = Figure(
            figsize=(4.6 if len(sides) == 1 else 7.4, 0.7 + 3.2 * len(columns)), layout="constrained"
        )
        parts: Any = np.atleast_1d(np.asarray(figure.subfigures(len(columns), 1)))
        for part, column in zip(parts, columns, strict=True):
            axes = part.subplots(1, len(sides), squeeze=False)[0]
            for ax, upper in zip(axes, sides, strict=True):
                _draw_tail(ax, column, upper=upper)
            small = " · ".join(column.facts)
            part.suptitle(f"{column.title}\n{small}" if small else column.title, fontsize=9, parse_math=False)
        if len(columns[0].spectra) > 1:
            handles = [
                Line2D(
                    [],
                    [],
                    marker="o",
                    markersize=3,
                    linewidth=0.8,
                    label=_name(name),
                    color=_COLORS[k % len(_COLORS)],
                )
                for k, (name, _) in enumerate(columns[0].spectra)
            ]
            parts[-1].legend(handles=handles, loc="outside lower center", ncol=2, frameon=False)
        figure.draw_without_rendering()
        return figure


def _has_tail(column: Column, *, upper: bool) -> bool:
    return any(tail_of(spectrum, upper=upper)[1].size for _, spectrum in column.spectra)


def _name(name: str) -> str:
    return shortened(name, _LONGEST_NAME).replace("$", r"\$")


def _draw_tail(ax: Axes, column: Column, *, upper: bool) -> None:
    found = [tail_of(spectrum, upper=upper) for _, spectrum in column.spectra]
    values = np.concatenate([each for _, each, _ in found])
    for k, (ranks, eigenvalues, residuals) in enumerate(found):
        color = _COLORS[k % len(_COLORS)]
        ax.errorbar(
            ranks if upper else ranks - column.spectra[k][1].num_parameters, eigenvalues, yerr=residuals, fmt="o-", color=color,
            linewidth=0.8, markersize=3, elinewidth=1.0, capsize=2.5, zorder=3 + k / 100,
        )  # fmt: skip
    is_log = values.size > 1 and values.min() > 0 and values.max() > _WIDE * values.min()
    if is_log:
        ax.set_yscale("log")
    elif values.size and values.min() <= 0 <= values.max():
        ax.axhline(0, color=FAINT, linewidth=0.6, zorder=1)
    if not is_log:
        ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: format_value(value, 8)))
    ax.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True, min_n_ticks=1))
    if not upper:
        ax.xaxis.set_major_formatter(FuncFormatter(lambda rank, _: "n" if rank == 0 else f"n − {-int(rank)}"))
    ax.set_xlabel("rank")
    ax.set_title("largest" if upper else "smallest", fontsize=8.5, color=FAINT, pad=3)
    ax.set_ylabel("eigenvalue (log)" if is_log else "eigenvalue")
    ax.tick_params(direction="out", length=3)
    if not values.size:
        ax.set_xticks([])
        ends = [spectrum.largest if upper else spectrum.smallest for _, spectrum in column.spectra]
        wanted = any(end.size for end in ends)
        say(ax, "no eigenvalue is known yet" if wanted else "none of this end is in the file")
