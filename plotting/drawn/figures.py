"""Figures: one or several panels with their titles, color bars and legends, and how they are saved."""

import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from mpi_landscape.errors import LandscapeError
from mpi_landscape.storage.places import write_whole
from plotting.drawn.contour import band_edges, band_norm, draw_contour, draw_filled
from plotting.drawn.heatmap import color_norm, draw_heatmap
from plotting.drawn.labels import label_contours
from plotting.drawn.line import draw_line
from plotting.drawn.marks import EQUAL_ASPECT_LIMIT, dress, entitle, label_of_point, legend_below
from plotting.drawn.persistence import draw_persistence
from plotting.drawn.relief import draw_surface
from plotting.drawn.style import color_map, style
from plotting.picture.cells import thin
from plotting.picture.field import Field, progress_facts
from plotting.picture.levels import even_levels, format_levels, format_value, height, is_constant
from plotting.picture.scale import Scale

# Points per axis beyond which a picture gets slower but not finer.
_LIMITS = {"contour": 501, "filled": 501, "surface": 161, "heatmap": 2001}
_SIZES = {
    "contour": (4.6, 4.7),
    "filled": (5.3, 4.7),
    "heatmap": (5.3, 4.7),
    "surface": (5.2, 4.6),
    "line": (5.6, 3.9),
    "persistence": (4.6, 4.7),
}
_DRAW: dict[str, Any] = {
    "contour": draw_contour,
    "filled": draw_filled,
    "heatmap": draw_heatmap,
    "surface": draw_surface,
}
_MAX_COLUMNS = 4


def draw_figure(kind: str, panels: Sequence[Sequence[Field]], scales: Sequence[Scale]) -> Figure:
    """Draw panels of one kind side by side, in a figure that is attached to no window.

    A panel has one field, or several if it is a line; one scale object for all means one color bar.
    """
    with style():
        rows = -(-len(panels) // _MAX_COLUMNS)
        columns = -(-len(panels) // rows)
        width, tall = size_of(kind, panels[0][0])
        figure = Figure(
            figsize=(width * columns, tall * rows), layout=None if kind == "surface" else "constrained"
        )
        if kind == "surface":
            # 3-D axes are square with the drawing in their middle; saving trims what they leave over.
            figure.subplots_adjust(left=0.02, right=0.92, bottom=0.04, top=0.9, wspace=0.12, hspace=0.2)
        options = {"projection": "3d"} if kind == "surface" else {}
        axes = [figure.add_subplot(rows, columns, k + 1, **options) for k in range(len(panels))]
        lines = [
            _draw_panel(ax, kind, fields, scale)
            for ax, fields, scale in zip(axes, panels, scales, strict=True)
        ]
        if kind in ("filled", "heatmap"):
            _add_color_bars(axes, kind, [fields[0] for fields in panels], scales, columns)
        figure.draw_without_rendering()
        # Labels need the final place of every line.
        for ax, contours, (field, *_), scale in zip(axes, lines, panels, scales, strict=True):
            if contours is not None:
                label_field(ax, contours, field, scale)
        return figure


def draw_into(ax: Axes, kind: str, fields: Sequence[Field], scale: Scale) -> None:
    """Draw one panel into axes of somebody else's figure, of projection 3d for a surface.

    Raises:
        LandscapeError: They are no axes, or of another projection.
    """
    if not isinstance(ax, Axes) or (ax.name == "3d") != (kind == "surface"):
        given = f"axes of projection {ax.name}" if isinstance(ax, Axes) else f"a {type(ax).__name__}"
        needed = (
            "axes of projection 3d: plt.subplots(subplot_kw={'projection': '3d'})"
            if kind == "surface"
            else "plain axes"
        )
        raise LandscapeError(f"plot(): ax is {given}; kind {kind!r} needs {needed}")
    with style():
        contours = _draw_panel(ax, kind, fields, scale)
        if kind in ("filled", "heatmap"):
            _add_color_bar(ax, kind, [fields[0]], scale)
        if contours is not None:
            # Labels need the final place of every line; a figure within another knows that one as its own.
            figure: Any = ax.figure
            getattr(figure, "figure", figure).draw_without_rendering()
            label_field(ax, contours, fields[0], scale)


def label_field(ax: Axes, contours: Any, field: Field, scale: Scale) -> None:
    """Write levels on contour lines, whose place on the figure is final."""
    drawn = np.isin(height(scale.levels, scale.kind), contours.levels)
    levels = np.array(scale.levels)[drawn].tolist()
    # The names of solutions stand beside them.
    names = [(point.at, label_of_point(point)) for point in field.points]
    label_contours(ax, contours, format_levels(levels, percent=field.measure.is_fraction), names)


def size_of(kind: str, field: Field) -> tuple[float, float]:
    """Inches for one panel, less tall where the ranges are wide."""
    width, tall = _SIZES[kind]
    if field.beta is not None and kind not in ("surface", "persistence"):
        spans = np.ptp(field.alpha), np.ptp(field.beta)
        ratio = spans[1] / spans[0] if min(spans) > 0 else 1.0
        if 1 / EQUAL_ASPECT_LIMIT <= ratio < 1:
            tall = 1.4 + (tall - 1.4) * ratio
        elif 1 < ratio <= EQUAL_ASPECT_LIMIT:
            width = max(3.6, 1.6 + (width - 1.6) / ratio)
    return width, tall


def _draw_panel(ax: Axes, kind: str, fields: Sequence[Field], scale: Scale) -> Any:
    if kind == "persistence":
        (field,) = fields
        handles = draw_persistence(ax, field, scale)
        entitle(ax, f"{field.title}: minima of the {field.label}", (*field.facts, *progress_facts(fields)))
        legend_below(ax, handles, gap=0.13)
        return None
    field, note = thin(fields[0], _LIMITS.get(kind, 0))
    facts = (*field.facts, *progress_facts(fields), *([note] if note else []))
    if kind == "line":
        _, handles = draw_line(ax, fields, scale)
        entitle(ax, field.title, facts, width=54)
        ax.legend(
            handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.14),
            ncol=4 if len(handles) > 2 else 2, frameon=False, columnspacing=1.2,
        )  # fmt: skip
        return None
    drawn, handles = _DRAW[kind](ax, field, scale)
    entitle(ax, f"{field.title}: {field.label}", facts)
    if kind != "surface":
        dress(ax, field)
    legend_below(ax, handles, gap=0.03 if kind == "surface" else 0.13)
    return drawn if kind == "contour" else None


def _add_color_bars(
    axes: Sequence[Axes], kind: str, fields: Sequence[Field], scales: Sequence[Scale], columns: int
) -> None:
    """Put a bar to the right of each panel, or of the first row if all panels share one scale."""
    if len(axes) > 1 and all(scale is scales[0] for scale in scales):
        _add_color_bar(axes[min(columns, len(axes)) - 1], kind, fields, scales[0])
        return
    for ax, field, scale in zip(axes, fields, scales, strict=True):
        _add_color_bar(ax, kind, [field], scale)


def _add_color_bar(ax: Axes, kind: str, fields: Sequence[Field], scale: Scale) -> None:
    values = np.concatenate([field.results for field in fields])
    if not values.size or is_constant(float(values.min()), float(values.max())):
        return
    measure, extend = fields[0].measure, scale.extend(values)
    if kind == "filled":
        norm: Normalize = band_norm(scale, extend)
        places = band_edges(scale).tolist()
        ends = [format_value(end, percent=measure.is_fraction) for end in (scale.vmin, scale.vmax)]
        texts = [ends[0], *format_levels(scale.levels, percent=measure.is_fraction), ends[1]]
    else:
        norm = color_norm(scale)
        places = list(even_levels(scale.vmin, scale.vmax, 7, scale.kind)) or [scale.vmin, scale.vmax]
        texts = format_levels(places, percent=measure.is_fraction)
    # Within the frame of the axes, so that it stays as tall as a panel whose units are equal.
    bar = ax.figure.colorbar(
        ScalarMappable(norm, color_map()), cax=ax.inset_axes((1.04, 0, 0.045, 1)),
        spacing="uniform", extend=extend, extendfrac=0.035,
    )  # fmt: skip
    bar.set_ticks(places, labels=texts)
    bar.minorticks_off()
    bar.ax.tick_params(length=2.5)
    bar.outline.set_linewidth(0.5)
    names = {field.quantity for field in fields}
    label = measure.axis_label(names.pop() if len(names) == 1 else None, log=scale.kind == "log")
    bar.set_label(label, parse_math=False)


def in_notebooks(figure: Figure) -> Figure:
    """The same figure, which a notebook shows where it is the value of a cell; without pyplot nothing tells IPython how."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    if shell is not None:
        pictures = shell.display_formatter.formatters["image/png"]
        if Figure not in pictures.type_printers:
            pictures.for_type(Figure, _png)
    return figure


def _png(figure: Figure) -> bytes:
    memory = io.BytesIO()
    with style():
        figure.savefig(memory, format="png", dpi=110, bbox_inches="tight", pad_inches=0.06)
    return memory.getvalue()


def save(figure: Figure, path: Path, *, dpi: int) -> None:
    """Write a figure to a file, whose suffix says the format; the same figure gives the same bytes.

    Missing folders are made. Dots per inch are those of a PNG, and of heat maps within the other formats.
    """
    suffix = path.suffix.lower().lstrip(".")
    # A date would make every picture of the same file another file.
    metadata: dict[str, Any] = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}.get(suffix, {})
    memory = io.BytesIO()
    with style():
        figure.savefig(
            memory, format=suffix, dpi=dpi, bbox_inches="tight", pad_inches=0.06, metadata=metadata
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, memory.getvalue())
    except OSError as error:
        raise LandscapeError(
            f"{path}: cannot be written: {error.strerror or error}; choose another --output"
        ) from error
