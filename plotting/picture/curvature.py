"""The curvature of a surface as pictures show it: how far from convex each point is, and which points do not tell."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mpi_landscape.errors import LandscapeError
from mpi_landscape.storage.identity import of_attributes
from mpi_landscape.storage.surface.curvature import NOT_CONVEX, rounding_of
from mpi_landscape.storage.surface.value import Surface
from mpi_landscape.wording import listed
from plotting.picture.field import Field, field_of, warning_facts
from plotting.picture.levels import drawable, format_value
from plotting.picture.quantities import OPERATORS, RATIO, Measure, ends_of, title_of

# An eigenvalue over its residual, below which it is not found well.
_CONVERGED = 10.0


@dataclass(frozen=True, kw_only=True)
class RatioMap:
    """|λmin / λmax| where λmin is negative, 0 where it is not (Li et al. 2018, arXiv:1712.09913, section 6, figure 7).

    Attributes:
        field: Its values, of the shape of the grid: infinite where λmax is not above zero and λmin below it, NaN where an end is
            not finite or both are zero.
        unsure: Where |λmin| may be rounding alone, so that the value is 0 as far as is known.
        flat: Where both ends may.
        rough: Where the residual of λmin is above a tenth of it. A Ritz value lies above the least eigenvalue, so that the value
            is the least that the ratio can be.
    """

    field: Field
    unsure: NDArray[np.bool_]
    flat: NDArray[np.bool_]
    rough: NDArray[np.bool_]

    @property
    def shown(self) -> NDArray[np.bool_]:
        """Where there is a ratio, be it infinite."""
        return self.field.done & ~np.isnan(self.field.values)

    @property
    def share_beyond(self) -> float:
        """The share of the points with a ratio that have one above `NOT_CONVEX`; NaN without any."""
        ratios = self.field.values[self.shown]
        return float(np.mean(ratios > NOT_CONVEX)) if ratios.size else float("nan")

    @property
    def largest(self) -> tuple[float, tuple[int, ...]] | None:
        """The largest ratio and the index of its point; None without any."""
        if not self.shown.any():
            return None
        place = _place(np.where(self.shown, self.field.values, -np.inf))
        return float(self.field.values[place]), place


def residual_of(surface: Surface, end: str) -> NDArray[np.float64]:
    """The residual of an end; 0 where that is not known."""
    return np.fmax(surface.values.get(f"{end}_residual", np.zeros(surface.values[end].shape)), 0.0)


def with_error(surface: Surface, end: str, *, title: str) -> Field:
    """An end along a line, with its residual, or what rounding makes of it where that is more."""
    field = field_of(surface, end, title=title, as_line=True)
    error = np.fmax(residual_of(surface, end), rounding_of(surface, end))
    return field if surface.seeds is not None else replace(field, stderr=error.reshape(-1))


def ratio_map(surface: Surface, ratio: str, *, title: str | None = None) -> RatioMap:
    """The map of a ratio that `ratios_of` names."""
    highest, lowest = (drawable(surface.values[name]) for name in ends_of(ratio))
    noise, residual = (find(surface, ends_of(ratio)[1]) for find in (rounding_of, residual_of))
    done = surface.done_of(ratio)
    known = done & np.isfinite(highest) & np.isfinite(lowest)
    flat = known & (np.abs(highest) <= noise) & (np.abs(lowest) <= noise)
    unsure = known & ~flat & (lowest != 0) & (np.abs(lowest) <= noise)
    rough = known & ~flat & ~unsure & (residual > np.abs(lowest) / _CONVERGED)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = np.where(highest > 0, -lowest / highest, np.inf)
    values = np.where(known & ~flat, np.where(unsure | (lowest >= 0), 0.0, ratios), np.nan)
    field = Field(
        title=title_of(surface) if title is None else title,
        quantity=ratio,
        measure=Measure(name=RATIO),
        alpha=surface.alpha,
        beta=surface.beta,
        values=values,
        done=done,
        points=surface.points,
    )
    return RatioMap(field=field, unsure=unsure, flat=flat, rough=rough)


def ratio_facts(surface: Surface, ratios: RatioMap) -> tuple[str, ...]:
    """What stands below the title of a map of the ratio."""
    facts = []
    if ratios.largest is not None:
        share, (value, place) = ratios.share_beyond, ratios.largest
        # Along a line it stands over curves of other numbers.
        subject = (
            "" if ratios.field.beta is not None and min(ratios.field.values.shape) > 1 else "|λmin/λmax| "
        )
        facts.append(f"{subject}beyond {NOT_CONVEX} at {format_value(share, percent=True)} of points")
        facts.append(f"largest {format_value(value)} at {_where(ratios.field, place)}")
    return (*facts, *operator_facts(surface), *warning_facts(surface))


def operator_facts(surface: Surface) -> tuple[str, ...]:
    """Of which matrix and of which parameters the eigenvalues are, where that is not the usual."""
    operator = str(surface.attributes.get("hessian_operator", "hessian"))
    parameters = str(surface.attributes.get("hessian_parameters", "trainable"))
    facts = [] if operator == "hessian" else [f"of the {OPERATORS.get(operator, operator)}"]
    named = {"trainable": [], "moving": ["of the parameters that move"]}
    return (*facts, *named.get(parameters, [f"of the parameters {parameters}"]))


def end_facts(field: Field) -> tuple[str, ...]:
    """What stands below the title of a map of an eigenvalue: its least and its greatest value, and where."""
    if not field.finite.any():
        return ()
    if field.results.min() == field.results.max():
        return (f"{format_value(float(field.results[0]))} everywhere",)
    facts = []
    for name, sign in (("least", -1), ("greatest", 1)):
        place = _place(sign * np.where(field.finite, field.values, -sign * np.inf))
        facts.append(f"{name} {format_value(float(field.values[place]))} at {_where(field, place)}")
    return tuple(facts)


def _place(values: NDArray[np.float64]) -> tuple[int, ...]:
    """The index of the greatest value."""
    return tuple(int(i) for i in np.unravel_index(int(np.argmax(values)), values.shape))


def _where(field: Field, place: Sequence[int]) -> str:
    """The coordinates of a point."""
    axes = [axis for axis in (field.alpha, field.beta) if axis is not None]
    told = ", ".join(format_value(float(axis[i]), 2) for axis, i in zip(axes, place, strict=False))
    return told if len(axes) == 1 else f"({told})"


def grounds_of(surface: Surface, others: Sequence[Surface]) -> list[Surface]:
    """The surfaces without curvature that lie on the axes of one that has it, over the same ranges."""
    return [other for other in others if not _differing(surface, other)]


def check_same_axes(surface: Surface, other: Surface) -> None:
    """Refuse the losses of another plane beside a map of the curvature.

    Raises:
        LandscapeError: The surface is of another plane, or reaches over another stretch of it.
    """
    differing = _differing(surface, other)
    if differing:
        raise LandscapeError(
            f"{other.path}: is not on the axes of {surface.path} (another {listed(differing)}); valid beside a map of the "
            f"curvature is a surface with its center, its directions and its ranges"
        )


def _differing(surface: Surface, other: Surface) -> list[str]:
    own, there = of_attributes(surface.attributes), of_attributes(other.attributes)
    found = [
        words
        for words, key in (
            ("center", "center"),
            ("direction alpha", "direction_alpha"),
            ("direction beta", "direction_beta"),
        )
        if own.get(key) != there.get(key)
    ]
    for name, mine, its in (
        ("alpha", surface.alpha, other.alpha),
        ("beta", surface.beta, other.beta),
    ):
        if (mine is None) != (its is None):
            found.append("number of axes")
        elif mine is not None and its is not None and not np.allclose(mine[[0, -1]], its[[0, -1]]):
            found.append(f"range of {name}")
    return found
