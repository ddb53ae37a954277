"""How pictures look, whatever the user's own settings say: the same file gives the same picture."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib
import numpy as np
from matplotlib.colors import Colormap, LinearSegmentedColormap
from matplotlib.patheffects import AbstractPathEffect, withStroke

INK = "#222222"
FAINT = "#666666"
LOSS_COLOR = "#1f5a99"
ACCURACY_COLOR = "#b8402a"

_SETTINGS: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.labelsize": 10,
    "axes.linewidth": 0.7,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "legend.fontsize": 8,
    "hatch.linewidth": 0.5,
    # Text stays text in a PDF; ids in an SVG come from its content, not from a random salt.
    "pdf.fonttype": 42,
    "svg.hashsalt": "mpi_landscape",
}


@contextmanager
def style() -> Iterator[None]:
    """Set matplotlib's defaults and this project's changes to them, for as long as a picture is made."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", matplotlib.MatplotlibDeprecationWarning)
        defaults: dict[Any, Any] = {
            key: value for key, value in dict(matplotlib.rcParamsDefault).items() if "backend" not in key
        }
        context = matplotlib.rc_context({**defaults, **_SETTINGS})
    with context:
        yield


def color_map() -> Colormap:
    """Viridis: perceptually uniform, in order of lightness, readable in gray and if color-blind."""
    return matplotlib.colormaps["viridis"]


def line_color_map() -> Colormap:
    """Viridis without its last yellows, which vanish as thin lines on white paper."""
    return LinearSegmentedColormap.from_list("viridis_lines", color_map()(np.linspace(0.0, 0.86, 256)))


def signed_color_map() -> Colormap:
    """Red below zero and blue above it, white in between; they differ for the color-blind too."""
    return matplotlib.colormaps["RdBu"]


def halo(width: float = 2.0) -> list[AbstractPathEffect]:
    """A white rim that keeps a mark or a text readable on any color."""
    return [withStroke(linewidth=width, foreground="white")]
