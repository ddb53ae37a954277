"""Axes and grids: where the points of a surface are."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mpi_landscape.errors import InvalidSectionError, LandscapeError
from mpi_landscape.plan.order import Order, axis_levels, coarse_to_fine, in_strips
from mpi_landscape.wording import shown

__all__ = ["MAX_AXIS_POINTS", "Axis", "Grid", "axis_levels"]

# A million points on one axis is a slip of the keyboard; the bound also keeps every flat index
# of a grid (2⁴⁰ at most) far inside int64.
MAX_AXIS_POINTS = 2**20


@dataclass(frozen=True)
class Axis:
    """Equally spaced values of α or β, both ends included.

    Args:
        min: First value, in units of the direction.
        max: Last value; above `min` unless there is only one point.
        num: Number of points, from 1 to `MAX_AXIS_POINTS`; one point is `min` alone.

    Raises:
        InvalidSectionError: These three numbers are not an axis.
    """

    # For the configuration: how an axis is written in short, and that it has no other fields.
    SHORTHAND: ClassVar[str] = "[min, max, num]"
    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    min: float = -1.0
    max: float = 1.0
    num: int = 51

    def __post_init__(self) -> None:
        object.__setattr__(self, "min", _finite("min", self.min))
        object.__setattr__(self, "max", _finite("max", self.max))
        if (
            isinstance(self.num, bool)
            or not isinstance(self.num, Integral)
            or not 1 <= self.num <= MAX_AXIS_POINTS
        ):
            raise InvalidSectionError(
                f"num is {shown(self.num)}; expected a whole number from 1 to {MAX_AXIS_POINTS}", field="num"
            )
        object.__setattr__(self, "num", int(self.num))
        if self.min > self.max:
            raise InvalidSectionError(f"min {self.min} is above max {self.max}; expected min below max")
        if self.min == self.max and self.num > 1:
            raise InvalidSectionError(f"min and max are both {self.min}; expected min below max, or num 1")
        # Steps of two ulps leave no doubt.
        ulp = math.ulp(max(abs(self.min), abs(self.max)))
        if self.num > 1 and self.max / 2 - self.min / 2 < ulp * (self.num - 1) and self._coincide():
            raise InvalidSectionError(
                f"num is {self.num}, but between {self.min!r} and {self.max!r} numbers of 64 bits are {ulp:g} apart, so that "
                f"points would coincide; expected at most {1 + int((self.max - self.min) / ulp)}",
                field="num",
            )

    def _coincide(self) -> bool:
        return bool((np.diff(self.values) <= 0).any())

    @classmethod
    def parse(cls, text: str, *, where: str) -> Axis:
        """Read `MIN:MAX:NUM`, the form of the command line; `where` names what it was given to, such as `--alpha`.

        Raises:
            LandscapeError: The text has another form, or is not an axis.

        Example:
            >>> Axis.parse("-1:1:51", where="--alpha")
            Axis(min=-1.0, max=1.0, num=51)
        """
        try:
            low, high, num = text.split(":")
            minimum, maximum, count = float(low), float(high), int(num)
        except ValueError:
            raise LandscapeError(
                f"{where}: {text!r} is not MIN:MAX:NUM, two numbers and a whole number, such as -1:1:51"
            ) from None
        try:
            return cls(minimum, maximum, count)
        except LandscapeError as error:
            raise LandscapeError(f"{where}: {error}") from None

    @cached_property
    def values(self) -> NDArray[np.float64]:
        """The points: (num,) float64, ascending, read-only.

        value[k] = (min·(num−1−k) + max·k) / (num−1), from `min` and `max` as the decimal
        numbers they were written as, rounded once. So −0.3:0.7:11 holds 0 and 0.3, where the
        same formula in float64 gives −4e-17 and 0.29999999999999993: a center that is missed by an
        ulp is not the center.
        """
        if self.num == 1:
            values = np.array([self.min])
        else:
            first, last = Fraction(repr(self.min)), Fraction(repr(self.max))
            denominator = math.lcm(first.denominator, last.denominator)
            start, step = int(first * denominator) * (self.num - 1), int((last - first) * denominator)
            denominator *= self.num - 1
            # Division of Python integers is correctly rounded, so both ends are exact too.
            values = np.array([(start + step * k) / denominator for k in range(self.num)])
        values.flags.writeable = False
        return values


def _finite(field: str, value: Any) -> float:
    try:
        number = float(value) if isinstance(value, Real) and not isinstance(value, bool) else math.nan
    except OverflowError:  # a whole number above 1e308
        number = math.inf
    if not math.isfinite(number):
        raise InvalidSectionError(f"{field} is {shown(value)}; expected a finite number", field=field)
    return number


@dataclass(frozen=True)
class Grid:
    """All pairs of α and β, a line of α alone, with None for β, or several lines, each along a direction of its own.

    Attributes:
        alpha: Along the first direction, or along each line's own.
        beta: Along the second direction.
        seeds: Of the lines, that of each one's random direction; empty for one line and for a plane.
        strips: The alphas of a strip, where points are visited in strips, neighbors together; 0 for coarse to fine.
    """

    alpha: Axis
    beta: Axis | None = None
    seeds: tuple[int, ...] = ()
    strips: int = 0

    def __post_init__(self) -> None:
        assert not (self.seeds and self.beta), "several lines have no second direction"

    @property
    def shape(self) -> tuple[int, ...]:
        """(num_alpha, num_beta), (num_alpha,) for a line, (num_alpha, num_lines) for several."""
        if self.beta is not None:
            return (self.alpha.num, self.beta.num)
        return (self.alpha.num, len(self.seeds)) if self.seeds else (self.alpha.num,)

    @property
    def num_directions(self) -> int:
        """How many directions the points lie along: 2, 1 for a line, one for each of several lines."""
        return 2 if self.beta is not None else max(1, len(self.seeds))

    @property
    def num_points(self) -> int:
        """Number of points."""
        return math.prod(self.shape)

    @cached_property
    def _order(self) -> Order:
        num_alpha, num_beta = self.alpha.num, *(self.shape[1:] or (1,))
        return (
            in_strips(num_alpha, num_beta, self.strips)
            if self.strips
            else coarse_to_fine(num_alpha, num_beta)
        )

    def points(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Flat indices of the points at these positions of the order, which is coarse to fine or in strips.

        Coarse to fine, a point's level is the larger level of its two indices (`axis_levels`); lower levels come first, and
        within a level rows are scattered over the range. One to one from 0 … num_points−1 onto itself.

        Args:
            positions: Int64 array of any shape, each in [0, num_points).

        Returns:
            Int64 array of the same shape: index into an array of `shape` in C order (beta, or the line, fastest).

        Raises:
            IndexError: A position is outside the grid.
        """
        positions = np.asarray(positions, dtype=np.int64)
        if positions.size and not (positions.min() >= 0 and positions.max() < self.num_points):
            raise IndexError(f"positions of this grid run from 0 to {self.num_points - 1}, got {positions}")
        return self._order.points(positions)

    def coordinates(self, indices: NDArray[np.int64]) -> tuple[NDArray[np.float64], ...]:
        """Coordinates along the directions of points given by their flat C-order index: (α, β).

        Args:
            indices: Int64 array, each in [0, num_points).

        Returns:
            Float64 arrays of the same shape, in units of the directions: two, with zeros for β on a line; of several lines one
            for each, all but one of them 0 at a point.

        Example:
            >>> lines = Grid(Axis(-1, 1, 3), seeds=(7, 8))
            >>> [each.tolist() for each in lines.coordinates(np.array([0, 1, 5]))]
            [[-1.0, 0.0, 0.0], [0.0, -1.0, 1.0]]
        """
        indices = np.asarray(indices, dtype=np.int64)
        if self.beta is not None:
            row, column = np.divmod(indices, self.beta.num)
            return self.alpha.values[row], self.beta.values[column]
        if not self.seeds:
            return self.alpha.values[indices], np.zeros(indices.shape)
        row, line = np.divmod(indices, len(self.seeds))
        return tuple(np.where(line == each, self.alpha.values[row], 0.0) for each in range(len(self.seeds)))

    @property
    def coordinate_values(self) -> tuple[NDArray[np.float64], ...]:
        """The values of each of `coordinates`, in their order: of a line a single 0 for β."""
        if self.seeds:
            return (self.alpha.values,) * len(self.seeds)
        return self.alpha.values, np.zeros(1) if self.beta is None else self.beta.values

    def along(self, line: int, alpha: float) -> tuple[float, ...]:
        """The point at a coordinate of one of several lines, as one number for each direction."""
        return tuple(alpha if each == line else 0.0 for each in range(len(self.seeds)))
