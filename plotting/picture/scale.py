"""The scale of a picture: linear or logarithmic, from where to where, and the levels on it."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mpi_landscape.errors import LandscapeError
from plotting.picture.levels import Kind, Levels, even_levels, format_value, is_constant, quantile_levels

Extend = Literal["neither", "min", "max", "both"]

_DEFAULT_LEVELS = 10


@dataclass(frozen=True, kw_only=True)
class Scale:
    """What color, height and contour lines mean, in the unit of the quantity.

    Attributes:
        kind: "linear" or "log".
        vmin: The value at the lower end.
        vmax: The value at the upper end, above `vmin`.
        levels: The contour levels, ascending, strictly between the ends.
    """

    kind: Kind
    vmin: float
    vmax: float
    levels: tuple[float, ...]

    def shows(self, values: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which values have a place on the scale, in their shape: the finite ones, if logarithmic the positive ones.

        Example:
            >>> scale = Scale(kind="log", vmin=1.0, vmax=10.0, levels=())
            >>> scale.shows(np.array([-1.0, 0.0, 2.0, 99.0, np.inf])).tolist()
            [False, False, True, True, False]
        """
        finite = np.isfinite(values)
        return finite & (values > 0) if self.kind == "log" else finite

    def extend(self, values: NDArray[np.float64]) -> Extend:
        """On which sides values lie beyond the ends, in the words of a matplotlib color bar.

        Example:
            >>> Scale(kind="linear", vmin=0.0, vmax=1.0, levels=()).extend(np.array([-3.0, 0.5]))
            'min'
        """
        shown = values[self.shows(values)]
        below, above = bool((shown < self.vmin).any()), bool((shown > self.vmax).any())
        return "both" if below and above else "min" if below else "max" if above else "neither"


def choose_scale(
    values: NDArray[np.float64],
    *,
    where: str,
    kind: Kind | Literal["auto"] = "auto",
    levels: Levels | None = None,
    vmin: float | None = None,
    vmax: float | None = None,
    fraction: bool = False,
) -> Scale:
    """The scale for values, as far as the user has not chosen it.

    Args:
        values: Any shape, float64; those that are not finite have no say.
        where: Quantity and file, for messages.
        kind: "auto" takes the logarithm where a linear scale would press half of the points into its
            lowest twentieth, and spaces the levels by quantiles; the others space them evenly.
        levels: How many, or which; None for about ten.
        vmin: The lower end; None for the smallest value.
        vmax: The upper end; None for the largest value.
        fraction: Whether the values are fractions of 1: "auto" is linear then, and a linear scale whose ends are
            left open reaches from 0 to 1, so that pictures can be compared.

    Returns:
        The scale. Without any finite value it is linear from 0 to 1, without levels.

    Raises:
        LandscapeError: The ends are not in order, or a logarithm of nothing positive is asked for.

    Example:
        An exploding corner would flatten all else on a linear scale.

        >>> scale = choose_scale(np.append(np.linspace(1.0, 2.0, 99), 1e6), where="loss")
        >>> scale.kind, scale.vmin, scale.vmax
        ('log', 1.0, 1000000.0)
    """
    finite = values[np.isfinite(values)]
    _check_ends(kind, vmin, vmax)
    if kind == "log" and finite.size and not (finite > 0).any():
        raise LandscapeError(
            f"{where}: --scale log needs positive values, and there is none; use --scale linear"
        )
    drawn_kind = kind if kind != "auto" else "linear" if fraction else _kind_of(finite, vmin)
    if drawn_kind == "log":
        finite = finite[finite > 0]
    if not finite.size:
        bottom, top = (1.0, 10.0) if drawn_kind == "log" else (0.0, 1.0)
    else:
        bottom, top = float(finite.min()), float(finite.max())
    low, high = bottom if vmin is None else vmin, top if vmax is None else vmax
    if (vmin is not None or vmax is not None) and low >= high:
        raise LandscapeError(
            f"{where}: the scale would reach from {format_value(low)} to {format_value(high)}; "
            f"the values lie between {format_value(bottom)} and {format_value(top)}, "
            f"choose --vmin and --vmax around them"
        )
    wanted = _DEFAULT_LEVELS if levels is None else levels
    chosen = _levels_between(finite, low, high, wanted, drawn_kind, even=kind != "auto")
    if fraction and drawn_kind == "linear":
        low, high = min(low, 0.0) if vmin is None else low, max(high, 1.0) if vmax is None else high
    if is_constant(low, high):
        low, high = _widen(low, high, drawn_kind)
    return Scale(kind=drawn_kind, vmin=low, vmax=high, levels=chosen)


def _check_ends(kind: str, vmin: float | None, vmax: float | None) -> None:
    for name, end in (("--vmin", vmin), ("--vmax", vmax)):
        if end is not None and not math.isfinite(end):
            raise LandscapeError(f"{name} {end:g} is not finite; give a number")
        if end is not None and kind == "log" and end <= 0:
            raise LandscapeError(f"{name} {end:g} has no place on --scale log; give a positive number")
    if vmin is not None and vmax is not None and vmin >= vmax:
        raise LandscapeError(f"--vmin {vmin:g} is not below --vmax {vmax:g}")


def _kind_of(finite: NDArray[np.float64], vmin: float | None) -> Kind:
    """Linear for a funnel (a few tiny values), logarithmic for an explosion (a few huge ones)."""
    if not finite.size or finite.min() <= 0 or (vmin is not None and vmin <= 0):
        return "linear"
    low, middle, high = np.quantile(finite, (0, 0.5, 1))
    # Scaled first: the span of values near the largest float would overflow.
    pressed = middle / high - low / high < 0.05 * (1 - low / high)
    return "log" if high > 10 * low and pressed else "linear"


def _levels_between(
    finite: NDArray[np.float64], low: float, high: float, levels: Levels, kind: Kind, *, even: bool
) -> tuple[float, ...]:
    if isinstance(levels, tuple):
        return tuple(level for level in levels if low < level < high)
    inside = finite[(finite >= low) & (finite <= high)]
    if not inside.size:
        return ()
    return even_levels(low, high, levels, kind) if even else quantile_levels(inside, levels, kind)


def _widen(low: float, high: float, kind: Kind) -> tuple[float, float]:
    """The ends of a scale for a constant, which lies in their middle."""
    if kind == "log":
        return low / 2, high * 2
    pad = 0.5 * abs(low) or 0.5
    return low - pad, high + pad
