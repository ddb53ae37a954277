"""A field: one quantity of one surface, with what is known of each of its points."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mpi_landscape.errors import LandscapeError
from mpi_landscape.storage.surface import decay
from mpi_landscape.storage.surface.points import NamedPoint
from mpi_landscape.storage.surface.value import Surface
from plotting.picture.levels import drawable, format_value
from plotting.picture.quantities import Measure, label_of, measure_of, title_of


@dataclass(frozen=True, kw_only=True)
class Band:
    """Several lines of one quantity.

    Attributes:
        values: (num_alpha, num_lines) float64.
        done: The same shape, bool.
    """

    values: NDArray[np.float64]
    done: NDArray[np.bool_]

    @property
    def mean(self) -> NDArray[np.float64]:
        """(num_alpha,) float64 over the lines; NaN or infinite where one is."""
        with np.errstate(invalid="ignore"):
            mean: NDArray[np.float64] = self.values.mean(axis=1)
        return mean

    @property
    def ends(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The least and the greatest of the lines: (num_alpha,) float64 each; NaN where one is."""
        return self.values.min(axis=1), self.values.max(axis=1)


@dataclass(frozen=True, kw_only=True)
class Field:
    """One quantity over a grid or a line.

    Attributes:
        title: What the surface is of.
        quantity: Its name in the file.
        measure: What it measures, and in which units.
        alpha: (num_alpha,) float64.
        beta: (num_beta,) float64; None for a line.
        values: (num_alpha, num_beta) or (num_alpha,) float64, in the unit of the quantity.
        done: The same shape, bool: True where the value is a result, NaN and infinity included.
        axis: For a line, the name of its axis.
        facts: What the file says at single points, for the line below the title.
        stderr: Like `values`: the standard error, where the file has it.
        points: That have names, within the ranges: solutions that directions lead to.
        band: Of several lines, all of them; `values` is then their mean, where all are done.
    """

    title: str
    quantity: str
    measure: Measure
    alpha: NDArray[np.float64]
    beta: NDArray[np.float64] | None
    values: NDArray[np.float64]
    done: NDArray[np.bool_]
    axis: str = "α"
    facts: tuple[str, ...] = ()
    stderr: NDArray[np.float64] | None = None
    points: tuple[NamedPoint, ...] = ()
    band: Band | None = None

    @property
    def label(self) -> str:
        """The quantity's name for a reader."""
        name = label_of(self.quantity)
        return name if self.band is None else f"mean {name}"

    @property
    def plane(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The two axes of a grid; a line has no plane."""
        if self.beta is None:
            raise LandscapeError(f"{self.title}: {self.quantity} is a line; draw it with kind 'line'")
        return self.alpha, self.beta

    @property
    def finite(self) -> NDArray[np.bool_]:
        """Where there is a finite result; the shape of `values`."""
        return self.done & np.isfinite(self.values)

    @property
    def undefined(self) -> NDArray[np.bool_]:
        """Where the result is NaN or infinite; the shape of `values`."""
        return self.done & ~np.isfinite(self.values)

    @property
    def is_partial(self) -> bool:
        """Whether points are still to be computed."""
        return not bool(self.done.all())

    @property
    def results(self) -> NDArray[np.float64]:
        """(n,) float64: the finite results, in C order."""
        if self.band is not None:
            return self.band.values[self.band.done & np.isfinite(self.band.values)]
        return self.values[self.finite]


def field_of(surface: Surface, quantity: str, *, title: str | None = None, as_line: bool = False) -> Field:
    """One quantity of a surface; `as_line` makes a grid that is one point wide a line along its longer axis."""
    values, done = drawable(surface.values[quantity]), surface.done_of(quantity)
    band, stderr = None, surface.values.get(f"{quantity}_stderr")
    if surface.seeds is not None:
        # The error of a sample is small beside what directions differ by.
        band, stderr = Band(values=values, done=done), None
        values, done = band.mean, np.logical_and.reduce(done, axis=1)
    field = Field(
        title=title_of(surface) if title is None else title,
        quantity=quantity,
        measure=measure_of(surface, quantity),
        alpha=surface.alpha,
        beta=surface.beta,
        values=values,
        done=done,
        facts=_facts(surface, quantity, values, done, as_line=as_line or surface.is_line),
        stderr=stderr,
        points=surface.points,
        band=band,
    )
    field = _line(field) if as_line else field
    return replace(field, points=tuple(point for point in field.points if _is_within(field, point)))


def sides(fields: Sequence[Field]) -> tuple[list[Field], list[Field]]:
    """The fields of a line on its left and on its right axis: fractions are right, unless they are alone."""
    left = [field for field in fields if not field.measure.is_fraction]
    return (left, [field for field in fields if field.measure.is_fraction]) if left else (list(fields), [])


def _is_within(field: Field, point: NamedPoint) -> bool:
    axes = [axis for axis in (field.alpha, field.beta) if axis is not None]
    return all(axis[0] <= place <= axis[-1] for axis, place in zip(axes, point.at, strict=True))


def _line(field: Field) -> Field:
    if field.beta is None:
        return field
    along_alpha = len(field.beta) == 1
    across, single = (1, field.beta[0]) if along_alpha else (0, field.alpha[0])
    on_it = [point for point in field.points if point.at[across] == single]
    return replace(
        field,
        alpha=field.alpha if along_alpha else field.beta,
        beta=None,
        values=field.values.reshape(-1),
        done=field.done.reshape(-1),
        axis="α" if along_alpha else "β",
        points=tuple(replace(point, at=(point.at[1 - across],)) for point in on_it),
        stderr=None if field.stderr is None else field.stderr.reshape(-1),
    )


def _center(axes: Sequence[NDArray[np.float64]]) -> tuple[int, ...] | None:
    """The index of the point (0, 0), if it is on the grid."""
    zeros = [np.flatnonzero(axis == 0) for axis in axes]
    return tuple(int(places[0]) for places in zeros) if all(map(len, zeros)) else None


def _facts(
    surface: Surface, quantity: str, values: NDArray[np.float64], done: NDArray[np.bool_], *, as_line: bool
) -> tuple[str, ...]:
    """What stands below the title: center, extremum, test error."""
    percent = measure_of(surface, quantity).is_fraction
    # A line shows several quantities, and its center is a rule instead of a cross.
    mark = "center" if as_line else "center (+)"
    facts = []
    axes = [axis for axis in (surface.alpha, surface.beta) if axis is not None]
    center = _center(axes)
    if center is not None and done[center]:
        facts.append(f"{mark} {format_value(float(values[center]), percent=percent)}")
    finite = done & np.isfinite(values)
    if finite.any() and values[finite].min() < values[finite].max():
        fill, pick, name = (-np.inf, np.argmax, "maximum") if percent else (np.inf, np.argmin, "minimum")
        place = np.unravel_index(int(pick(np.where(finite, values, fill))), values.shape)
        best = tuple(int(i) for i in place)
        if best == center:
            facts[-1] += f", the {name}"
        else:
            # The other axis of a grid that is drawn as a line has one point, which says nothing.
            told = [(axis, i) for axis, i in zip(axes, best, strict=True) if not as_line or len(axis) > 1]
            where = ", ".join(format_value(float(axis[i]), 2) for axis, i in told)
            value = format_value(float(values[best]), percent=percent)
            facts.append(f"{name} {value} at {where if as_line else f'({where})'}")
    # Only losses are sampled with a standard error.
    error = surface.relative_errors.get(quantity.removesuffix("_loss"))
    if error:
        facts.append(f"sampled: standard error ≤ {format_value(error, percent=True)}")
    if as_line and facts:
        which = label_of(quantity) if surface.seeds is None else f"mean {label_of(quantity)}"
        facts[0] = f"{which}: {facts[0]}"
    if surface.seeds is not None:
        facts.append(f"{len(surface.seeds)} random directions (thin), shaded from least to greatest")
    accuracy = surface.values.get("test_accuracy")
    tested = surface.done.get("test")
    if center is not None and accuracy is not None and (tested is None or bool(np.all(tested[center]))):
        # Of several lines the center is one point.
        facts.append(f"test error {format_value(1 - float(np.ravel(accuracy[center])[0]), percent=True)}")
    return (
        *facts,
        *decay_facts(surface, quantity),
        *precision_facts(surface),
        *normalization_facts(surface),
        *warning_facts(surface),
    )


def decay_facts(surface: Surface, quantity: str) -> tuple[str, ...]:
    """That weight decay is in a loss."""
    added = decay.words(surface.attributes)
    return (added,) if added and quantity.endswith("_loss") else ()


def precision_facts(surface: Surface) -> tuple[str, ...]:
    """How far losses in a format of fewer bits are from float32, where the file was computed in one."""
    error = surface.attributes.get("precision_error")
    if error is None:
        return ()
    name = surface.attributes.get("identity_precision", "low precision")
    points = int(surface.attributes.get("precision_error_points", 0))
    if not points or math.isnan(error):
        return (f"{name}: how far off float32 is not known",)
    off = f"{float(error):.1g} at most" if math.isfinite(error) else "any amount (it overflows)"
    return (f"{name}: off float32 by {off}, measured at {points} points",)


def normalization_facts(surface: Surface) -> tuple[str, ...]:
    """That every point has batch statistics of its own."""
    return ("batch norm recomputed at every point",) if "identity_batch_norm" in surface.attributes else ()


def warning_facts(surface: Surface) -> tuple[str, ...]:
    """What was found odd when the surface was computed."""
    warnings = str(surface.attributes.get("warnings", ""))
    return tuple(f"warning: {each}" for each in warnings.split("; ") if each)


def progress_facts(fields: Sequence[Field]) -> tuple[str, ...]:
    """How much is done: never 100 % while a point is missing, nor 0 % while one is there."""
    share = 100 * float(np.mean([field.done.mean() for field in fields]))
    if share == 100:
        return ()
    text = "< 1" if 0 < share < 1 else "99" if share > 99 else f"{share:.0f}"
    return (f"partial: {text} % of points",)
