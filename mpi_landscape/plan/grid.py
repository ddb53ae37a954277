"""Axes and grids: where the points of a surface are."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from mpi_landscape.errors import LandscapeError
from mpi_landscape.plan.order import Order, axis_levels, coarse_to_fine

__all__ = ["MAX_AXIS_POINTS", "Axis", "Grid", "axis_levels"]

# A million points on one axis is a slip of the keyboard; the bound also keeps every flat index
# of a grid (2⁴⁰ at most) far inside int64.
MAX_AXIS_POINTS = 2**20


@dataclass(frozen=True)
class Axis:
    """Equally spaced values of α or β, both ends included.

    Args:
        min: first value, in units of the direction.
        max: last value; above `min` unless there is only one point.
        num: number of points, from 1 to `MAX_AXIS_POINTS`; one point is `min` alone.

    Raises:
        LandscapeError: these three numbers are not an axis.
    """

    min: float
    max: float
    num: int

    def __post_init__(self) -> None:
        given = f"axis {self.min}:{self.max}:{self.num}"
        if isinstance(self.num, bool) or not isinstance(self.num, (int, np.integer)):
            raise LandscapeError(f"{given}: num is the number of points, a whole number")
        if not 1 <= self.num <= MAX_AXIS_POINTS:
            raise LandscapeError(f"{given}: num must be between 1 and {MAX_AXIS_POINTS}")
        if not (math.isfinite(self.min) and math.isfinite(self.max)):
            raise LandscapeError(f"{given}: min and max must be finite numbers")
        if self.min > self.max or (self.min == self.max and self.num > 1):
            raise LandscapeError(f"{given}: min must be below max (or num be 1)")
        object.__setattr__(self, "min", float(self.min))
        object.__setattr__(self, "max", float(self.max))
        object.__setattr__(self, "num", int(self.num))

    @classmethod
    def parse(cls, text: str, *, where: str) -> Axis:
        """Read `MIN:MAX:NUM`, the form of the command line.

        Args:
            text: for instance `-1:1:51`.
            where: what the text was given to, for the message: `--alpha`.

        Raises:
            LandscapeError: the text has another form, or is not an axis.

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


@dataclass(frozen=True)
class Grid:
    """All pairs of α and β, or a line of α alone.

    Args:
        alpha: the axis along the first direction.
        beta: the axis along the second direction; None for a line.
    """

    alpha: Axis
    beta: Axis | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """(num_alpha, num_beta), or (num_alpha,) for a line."""
        return (self.alpha.num,) if self.beta is None else (self.alpha.num, self.beta.num)

    @property
    def num_points(self) -> int:
        """Number of points."""
        return math.prod(self.shape)

    @cached_property
    def _order(self) -> Order:
        return coarse_to_fine(self.alpha.num, 1 if self.beta is None else self.beta.num)

    def points(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Flat indices of the points at these positions of the coarse-to-fine order.

        A point's level is the larger level of its two indices (`axis_levels`); lower levels come
        first, and within a level rows are scattered over the range. One to one from
        0 … num_points−1 onto itself.

        Args:
            positions: int64 array of any shape, each in [0, num_points).

        Returns:
            int64 array of the same shape: index into an array of `shape` in C order (beta fastest).

        Raises:
            IndexError: a position outside the grid.
        """
        positions = np.asarray(positions, dtype=np.int64)
        if positions.size and not (positions.min() >= 0 and positions.max() < self.num_points):
            raise IndexError(f"positions of this grid run from 0 to {self.num_points - 1}, got {positions}")
        return self._order.points(positions)

    def coordinates(self, indices: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(α, β) of points given by their flat C-order index.

        Args:
            indices: int64 array, each in [0, num_points).

        Returns:
            Two float64 arrays of the same shape, in units of the directions; β is 0 on a line.
        """
        indices = np.asarray(indices, dtype=np.int64)
        if self.beta is None:
            return self.alpha.values[indices], np.zeros(indices.shape)
        row, column = np.divmod(indices, self.beta.num)
        return self.alpha.values[row], self.beta.values[column]
