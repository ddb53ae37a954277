"""Quantities of a surface: what they measure, what they are called in a picture, which kinds of picture fit."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mpi_landscape.errors import LandscapeError
from mpi_landscape.storage.connection.value import Connection
from mpi_landscape.storage.history.records import History
from mpi_landscape.storage.spectrum.value import Spectrum
from mpi_landscape.storage.surface.value import Surface
from mpi_landscape.wording import listed, shortened, suggestion

KINDS = (
    "contour",
    "filled",
    "surface",
    "heatmap",
    "line",
    "persistence",
    "history",
    "path",
    "histogram",
    "norms",
    "curvature",
    "extremes",
    "density",
    "eigenvalues",
)
# Of a surface file with both ends of the spectrum at its points.
CURVATURE_KINDS = ("curvature", "extremes")
# Of the file of a spectrum.
SPECTRUM_KINDS = ("density", "eigenvalues")

# Matrices of second derivatives; a hyphen would be a place to break a line at.
OPERATORS = {
    "hessian": "Hessian",
    "gauss_newton": "Gauss\N{EN DASH}Newton part",
    "remainder": "remainder",
}
RATIO, ENDS = "curvature_ratio", ("lambda_max", "lambda_min")
# Endings of the names of eigenvalues: in the network's own coordinates, and in those of each filter's norm.
_COORDINATES = ("", "_normalized")
_OF_CURVATURE = ("lambda_", "hessian_products", RATIO)
_LONGEST_TITLE = 200
# Characters per line of the label of an axis, which is as long as a panel, and of the units in it.
_LABEL_WIDTH, _LONGEST_UNITS = 40, 80


@dataclass(frozen=True, kw_only=True)
class Measure:
    """What a quantity measures on any split: quantities of the same measure may share a scale, others never.

    Attributes:
        name: Without the split: `loss` for `train_loss` and for `test_loss`.
        units: As the file says them; empty where they are not known.
    """

    name: str
    units: str = ""

    @property
    def is_fraction(self) -> bool:
        """Whether values are fractions of 1, which are written in percent and drawn from 0 to 100 %."""
        return self.units == "1"

    def axis_label(self, quantity: str | None = None, *, log: bool = False) -> str:
        """The label of an axis or a color bar: a quantity, or the measure of several splits, and its units.

        Example:
            >>> Measure(name="loss", units="nats per example").axis_label("train_loss", log=True)
            'train loss (nats per example, log)'
        """
        units = "" if self.is_fraction else shortened(self.units, _LONGEST_UNITS)
        notes = ", ".join(filter(None, [units, "log" if log else ""]))
        label = label_of(quantity or self.name) + (f" ({notes})" if notes else "")
        return textwrap.fill(label, _LABEL_WIDTH)


def is_accuracy(quantity: str) -> bool:
    """Whether a quantity is a fraction in [0, 1], by its name alone."""
    return quantity.endswith("accuracy")


def label_of(quantity: str) -> str:
    """The name for a reader: `train loss` for `train_loss`."""
    return quantity.replace("_", " ")


def measure_of(surface: Surface, quantity: str) -> Measure:
    """What a quantity of a surface measures; where its units are not known, its name tells an accuracy."""
    return Measure(
        name=quantity.removeprefix(f"{surface.split_of(quantity)}_"),
        units=surface.units.get(quantity) or ("1" if is_accuracy(quantity) else ""),
    )


def check_quantities(path: str, valid: Sequence[str], asked: Sequence[str]) -> None:
    """Refuse a quantity that a file does not have; names the closest one that it has."""
    for name in asked:
        if name not in valid:
            raise LandscapeError(
                f"{path}: there is no quantity {name!r}{suggestion(name, valid)}; "
                f"valid quantities are {listed(valid)}"
            )


def ratios_of(surface: Surface) -> list[str]:
    """The names of the ratios that a surface has both ends of: `train_curvature_ratio`, and that in normalized coordinates.

    Example:
        >>> import numpy as np
        >>> ends = {"train_lambda_max": np.ones(3), "train_lambda_min": np.zeros(3)}
        >>> line = Surface(path="a.h5", alpha=np.arange(3.0), beta=None, values=ends, done={"train": np.ones(3, bool)})
        >>> ratios_of(line)
        ['train_curvature_ratio']
    """
    return [name for name in _named_ratios(surface) if set(ends_of(name)) <= set(surface.values)]


def _named_ratios(surface: Surface) -> list[str]:
    return [f"{split}_{RATIO}{suffix}" for suffix in _COORDINATES for split in surface.done]


def ends_of(ratio: str) -> tuple[str, str]:
    """The quantities whose ratio it is.

    Example:
        >>> ends_of("train_curvature_ratio_normalized")
        ('train_lambda_max_normalized', 'train_lambda_min_normalized')
    """
    split, _, suffix = ratio.partition(f"_{RATIO}")
    return f"{split}_{ENDS[0]}{suffix}", f"{split}_{ENDS[1]}{suffix}"


def known_ends(surface: Surface) -> list[tuple[str, ...]]:
    """The extreme eigenvalues that a surface has, those of one split and one choice of coordinates together.

    A Gauss-Newton matrix has λmax alone: none of its eigenvalues is below zero.
    """
    every = [tuple(end for end in ends_of(name) if end in surface.values) for name in _named_ratios(surface)]
    return [ends for ends in every if ends]


def is_of_curvature(surface: Surface, quantity: str) -> bool:
    """Whether a quantity is one of the curvature's: an end of the spectrum, how sure it is, what follows from both."""
    split = surface.split_of(quantity)
    return quantity.removeprefix(f"{split}_").startswith(_OF_CURVATURE)


def choose_quantities(surface: Surface, asked: Sequence[str], *, kind: str) -> list[str]:
    """The quantities to draw, at least one, in the order asked for or in that of the file.

    Where none is asked for, all but fractions such as accuracies are drawn, and in a line these too; of what follows from
    another quantity, such as a perplexity, that one alone; curvature has pictures of its own.
    """
    check_quantities(surface.path, surface.quantities, asked)
    if asked:
        return list(dict.fromkeys(asked))
    drawable = [name for name in surface.quantities if not name.endswith(("_stderr", "_perplexity"))]
    if not drawable:
        raise LandscapeError(f"{surface.path}: there is no quantity to draw")
    drawable = [name for name in drawable if not is_of_curvature(surface, name)] or drawable
    usual = [name for name in drawable if kind == "line" or not measure_of(surface, name).is_fraction]
    return usual or drawable


def figures_of_line(surface: Surface, quantities: Sequence[str]) -> list[tuple[str, ...]]:
    """The quantities of a line by figure: each measure has its own, but the first shares it with a fraction.

    So loss and accuracy stand in one figure, on two axes, as in Li et al. 2018, arXiv:1712.09913, figure 2.
    The first has the losses, where there are any; within each the order is that given.
    """
    measures = {name: measure_of(surface, name) for name in quantities}
    # Sorting keeps the order of all others.
    ordered = sorted(dict.fromkeys(measures.values()), key=lambda measure: measure.name != "loss")
    left = [measure for measure in ordered if not measure.is_fraction]
    right = [measure for measure in ordered if measure.is_fraction]
    figures = [{*left[:1], *right[:1]}, *({measure} for measure in (*left[1:], *right[1:]))]
    return [tuple(name for name in quantities if measures[name] in figure) for figure in figures]


def kinds_of(surface: Surface) -> tuple[str, ...]:
    """The kinds of picture that fit the grid.

    Contours and 3-D surfaces need an area, so two points on both axes; a grid that is one point wide is a line.
    """
    if surface.beta is None:
        return ("line",)
    if min(len(surface.alpha), len(surface.beta)) > 1:
        return ("contour", "filled", "surface", "heatmap")
    return ("line", "heatmap")


def valid_kinds(surface: Surface) -> tuple[str, ...]:
    """Those, what is drawn only where it is asked for, as it takes a library of its own, and those of the curvature."""
    further = () if surface.seeds is not None else ("persistence",)
    return (*kinds_of(surface), *further, *curvature_kinds(surface))


def curvature_kinds(surface: Surface) -> tuple[str, ...]:
    """The pictures of a surface's curvature, if it has one: maps of a plane, and curves along a line."""
    is_plane = surface.beta is not None and min(len(surface.alpha), len(surface.beta)) > 1
    if not known_ends(surface):
        return ()
    if not is_plane:
        return CURVATURE_KINDS[:1]
    return CURVATURE_KINDS if ratios_of(surface) else CURVATURE_KINDS[1:]


def check_kind(kind: str) -> None:
    """Refuse a kind that does not exist, for any file."""
    if kind != "all" and kind not in KINDS:
        raise LandscapeError(f"--kind {kind!r} is not known; valid kinds are {', '.join(KINDS)}, all")


def choose_kinds(surface: Surface, asked: Sequence[str]) -> list[str]:
    """The kinds to draw: those asked for, all that fit for `all`, or contour and surface, or a line."""
    fitting, valid = kinds_of(surface), valid_kinds(surface)
    for kind in asked:
        check_kind(kind)
        if kind in SPECTRUM_KINDS:
            raise LandscapeError(
                f"{surface.path}: --kind {kind} is for the spectrum at a point (python -m mpi_landscape.hessian), and this is a "
                f"surface file; valid here: {', '.join(valid)}"
            )
        if kind in ("histogram", "norms"):
            raise LandscapeError(
                f"{surface.path}: --kind {kind} is for the weights of checkpoints (python -m mpi_landscape.weights), and this is "
                f"a surface file; valid here: {', '.join(valid)}"
            )
        if kind == "history":
            raise LandscapeError(
                f"{surface.path}: --kind history is for training histories, and this is a surface file; "
                f"valid here: {', '.join(valid)}"
            )
        if kind != "all" and kind not in valid:
            shape = " x ".join(str(len(axis)) for axis in (surface.alpha, surface.beta) if axis is not None)
            points = "point" if shape == "1" else "points"
            if surface.seeds is not None:
                points = f"points on {len(surface.seeds)} lines"
            raise LandscapeError(
                f"{surface.path}: --kind {kind} does not fit a grid of {shape} {points}; "
                f"valid here: {', '.join(valid)}"
            )
    if "all" in asked:
        return list(fitting)
    if asked:
        return list(dict.fromkeys(asked))
    return ["contour", "surface"] if "contour" in fitting else ["line"]


def title_of(surface: Surface | History | Connection | Spectrum) -> str:
    """The title that the file gives itself, on one line, or its name."""
    title = surface.attributes.get("title", "")
    if isinstance(title, bytes):
        title = title.decode("utf-8", errors="replace")
    # A longer one is no title, and would take minutes to set.
    return " ".join(str(title)[:_LONGEST_TITLE].split()) or Path(surface.path).stem
