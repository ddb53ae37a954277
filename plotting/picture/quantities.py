"""Quantities of a surface: which there are, what they are called in a picture, which kinds of picture fit."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path

from mpi_landscape.errors import LandscapeError
from mpi_landscape.storage.history.records import History
from mpi_landscape.storage.surface.value import Surface

KINDS = ("contour", "filled", "surface", "heatmap", "line", "history")

_LONGEST_TITLE = 200


def is_accuracy(quantity: str) -> bool:
    """Whether a quantity is a fraction in [0, 1] that is written in percent."""
    return quantity.endswith("accuracy")


def label_of(quantity: str) -> str:
    """Return the name for a reader: `train loss` for `train_loss`."""
    return quantity.replace("_", " ")


def group_of(surface: Surface, quantity: str) -> str:
    """Return what a common scale is common to: `loss` for `train_loss` and for `test_loss`."""
    split = quantity.split("_", 1)[0]
    return quantity.split("_", 1)[1] if split in surface.done and "_" in quantity else quantity


def check_quantities(path: str, valid: Sequence[str], asked: Sequence[str]) -> None:
    """Refuse a quantity that a file does not have; names the closest one that it has."""
    for name in asked:
        if name not in valid:
            close = difflib.get_close_matches(name, valid, n=1)
            hint = f" (did you mean {close[0]!r}?)" if close else ""
            raise LandscapeError(
                f"{path}: there is no quantity {name!r}{hint}; valid quantities are {', '.join(valid) or 'none'}"
            )


def choose_quantities(surface: Surface, asked: Sequence[str], *, kind: str) -> list[str]:
    """Return the quantities to draw: those asked for, or all losses (for a line, accuracies too).

    Args:
        surface: The surface.
        asked: Names that the user gave; empty for the default.
        kind: The kind of picture.

    Returns:
        Names, in the order asked for or in that of the file; never empty.

    Raises:
        LandscapeError: A name that the file does not have.
    """
    check_quantities(surface.path, surface.quantities, asked)
    if asked:
        return list(dict.fromkeys(asked))
    endings = ("_loss", "_accuracy") if kind == "line" else ("_loss",)
    usual = [name for name in surface.quantities if name.endswith(endings)]
    rest = [name for name in surface.quantities if not name.endswith("_stderr")]
    if not (usual or rest):
        raise LandscapeError(f"{surface.path}: there is no quantity to draw")
    return usual or rest


def kinds_of(surface: Surface) -> tuple[str, ...]:
    """Return the kinds of picture that fit the grid.

    Contours and 3-D surfaces need an area, so two points on both axes; a grid that is one point
    wide is a line.
    """
    if surface.beta is None:
        return ("line",)
    if min(len(surface.alpha), len(surface.beta)) > 1:
        return ("contour", "filled", "surface", "heatmap")
    return ("line", "heatmap")


def check_kind(kind: str) -> None:
    """Refuse a kind that does not exist, for any file."""
    if kind != "all" and kind not in KINDS:
        raise LandscapeError(f"--kind {kind!r} is not known; valid kinds are {', '.join(KINDS)}, all")


def choose_kinds(surface: Surface, asked: Sequence[str]) -> list[str]:
    """Return the kinds to draw: those asked for, all that fit for `all`, or contour and surface, or a line.

    Args:
        surface: The surface.
        asked: Kinds that the user gave; empty for the default.

    Returns:
        Kinds; never empty.

    Raises:
        LandscapeError: A kind that does not exist, or that does not fit the grid.
    """
    fitting = kinds_of(surface)
    for kind in asked:
        check_kind(kind)
        if kind == "history":
            raise LandscapeError(
                f"{surface.path}: --kind history is for training histories, and this is a surface file; "
                f"valid here: {', '.join(fitting)}"
            )
        if kind != "all" and kind not in fitting:
            shape = " x ".join(str(len(axis)) for axis in (surface.alpha, surface.beta) if axis is not None)
            points = "point" if shape == "1" else "points"
            raise LandscapeError(
                f"{surface.path}: --kind {kind} does not fit a grid of {shape} {points}; "
                f"valid here: {', '.join(fitting)}"
            )
    if "all" in asked:
        return list(fitting)
    if asked:
        return list(dict.fromkeys(asked))
    return ["contour", "surface"] if "contour" in fitting else ["line"]


def title_of(surface: Surface | History) -> str:
    """Return the title that the file gives itself, on one line, or its name."""
    title = surface.attributes.get("title", "")
    if isinstance(title, bytes):
        title = title.decode("utf-8", errors="replace")
    # Longer ones are no titles, and would take minutes to set.
    return " ".join(str(title)[:_LONGEST_TITLE].split()) or Path(surface.path).stem
