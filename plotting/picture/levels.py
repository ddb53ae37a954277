"""Levels of a contour picture: few, readable, and where the values are."""

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

from mpi_landscape.errors import LandscapeError

Kind = Literal["linear", "log"]
Levels = int | tuple[float, ...]  # how many, or which

MAX_LEVELS = 100
# Lines closer than this share of the range would lie on top of each other on a plateau.
_MIN_GAP = 1 / 150
# Beyond, differences and products of two values leave float64, here and in matplotlib.
_LARGEST, _SMALLEST = 1e300, 1e-300
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_STEPS = (1, 2, 2.5, 5, 10)
# From sparse to dense; the first set with enough levels in the range is taken.
_MANTISSAS = ((1,), (1, 3), (1, 2, 5), (1, 2, 3, 5, 7), (1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9))


def parse_levels(text: str) -> Levels:
    """Read `--levels`: how many from 1 to 100 (`12`), or which (`0.1,0.5,1`; `0.5,` for one), then ascending.

    Example:
        >>> parse_levels("12"), parse_levels("1,0.5,"), parse_levels("0.5,")
        (12, (0.5, 1.0), (0.5,))
    """
    parts = [part.strip() for part in text.split(",")]
    try:
        if len(parts) == 1:
            count = int(parts[0])
            if 1 <= count <= MAX_LEVELS:
                return count
        else:
            levels = sorted({float(part) for part in parts if part})
            if levels and len(levels) <= MAX_LEVELS and all(math.isfinite(level) for level in levels):
                return tuple(levels)
    except ValueError:
        pass
    raise LandscapeError(
        f"--levels {text!r} is not valid; give a whole number from 1 to {MAX_LEVELS}, or finite levels "
        f"separated by commas such as 0.1,0.5,1 (write --levels=-1,0,1 when the first is negative)"
    )


def drawable(values: ArrayLike) -> NDArray[np.float64]:
    """Values as a picture can show them, of the same shape: beyond 1e300 they are infinite, below 1e-300 zero.

    Example:
        >>> drawable([-1e301, 1e-301, 2.0]).tolist()
        [-inf, 0.0, 2.0]
    """
    array = np.asarray(values, dtype=np.float64)
    size = np.abs(array)
    return np.where(size > _LARGEST, np.copysign(np.inf, array), np.where(size < _SMALLEST, 0.0, array))


def height(values: ArrayLike, kind: Kind) -> NDArray[np.float64]:
    """Values on the scale that they are drawn on: themselves, or their decimal logarithm.

    Contours of a loss over many decades are interpolated on this scale too: between 1 and 10,000
    a straight line in the loss would put nearly all levels next to the lower grid point. Values of any
    shape keep it; for the logarithm all are positive.

    Example:
        >>> height([0.01, 1000.0], "log").tolist()
        [-2.0, 3.0]
    """
    array = np.asarray(values, dtype=np.float64)
    return np.log10(array) if kind == "log" else array


def quantile_levels(values: NDArray[np.float64], count: int, kind: Kind) -> tuple[float, ...]:
    """About `count` round levels with about as many grid points between each two.

    For a quadratic bowl that reaches over the whole grid these are evenly spaced in the loss, since
    the area inside a level grows with its value; with steep walls they stay where the area is.

    Args:
        values: (n,) float64, finite; positive where `kind` is "log".
        count: How many are wanted; plateaus give fewer.
        kind: The scale on which two levels must keep apart.

    Returns:
        Ascending levels strictly between the smallest and the largest value; empty for a constant.

    Example:
        Four shares of the squares of evenly spaced numbers have their middles at (1/8)², (3/8)², (5/8)² and (7/8)².

        >>> quantile_levels(np.linspace(0.0, 1.0, 1001) ** 2, 4, "linear")
        (0.015, 0.15, 0.4, 0.8)
    """
    low, high = float(values.min()), float(values.max())
    if is_constant(low, high):
        return ()
    chosen = np.quantile(values, (np.arange(count) + 0.5) / count)
    apart = _keep_apart(chosen.tolist(), low, high, kind)
    return _round_apart(_fill_gaps(apart, low, high, count, kind), low, high)


def even_levels(low: float, high: float, count: int, kind: Kind) -> tuple[float, ...]:
    """About `count` round numbers strictly between `low` and `high`, evenly spaced on the scale.

    Args:
        low: Lower end; positive where `kind` is "log".
        high: Upper end.
        count: How many are wanted.
        kind: "linear": multiples of 1, 2, 2.5 or 5 times a power of ten; "log": 1, 3 or 1, 2, 5 or ... in
            every decade, or every second, third, ... decade.

    Returns:
        Ascending levels; empty for a constant.

    Example:
        >>> even_levels(0.0, 1.0, 4, "linear")
        (0.2, 0.4, 0.6, 0.8)
        >>> even_levels(0.5, 2e6, 7, "log")
        (1.0, 10.0, 100.0, 1000.0, 10000.0, 100000.0, 1000000.0)
    """
    if is_constant(low, high):
        return ()
    if kind == "log":
        levels = _log_levels(low, high, count)
        if len(levels) >= min(count, 2):
            return levels
    return _linear_levels(low, high, count)


def _linear_levels(low: float, high: float, count: int) -> tuple[float, ...]:
    # Near one no difference underflows, and fourteen digits hide the last bits of a multiple.
    unit = 10.0 ** math.floor(math.log10(high - low))

    def between(intervals: int) -> tuple[float, ...]:
        ticks = MaxNLocator(intervals, steps=_STEPS, min_n_ticks=1).tick_values(low / unit, high / unit)
        levels = [float(f"{tick * unit:.14g}") for tick in ticks]
        return tuple(level for level in levels if low < level < high)

    # A locator keeps below a number of intervals; wanted is what comes nearest to a number of levels.
    return min(map(between, range(2 * count + 1, 0, -1)), key=lambda levels: abs(len(levels) - count))


def _log_levels(low: float, high: float, count: int) -> tuple[float, ...]:
    # matplotlib's LogLocator knows one or all nine numbers of a decade, and not 1, 3 or 1, 2, 5.
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    stride = max(1, round((last - first) / (count + 1)))
    decades = [k for k in range(first, last + 1) if k % stride == 0]
    best: tuple[float, ...] = ()
    for mantissas in _MANTISSAS if stride == 1 else _MANTISSAS[:1]:
        levels = tuple(float(f"{m}e{k}") for k in decades for m in mantissas)
        levels = tuple(level for level in levels if low < level < high)
        if not best or abs(len(levels) - count) < abs(len(best) - count):
            best = levels
    return best


def is_constant(low: float, high: float) -> bool:
    """Whether two values differ by rounding only, so that no level fits between them."""
    return high - low <= 1e-12 * max(abs(low), abs(high))


def _keep_apart(levels: Sequence[float], low: float, high: float, kind: Kind) -> list[float]:
    """The levels but those that lie too close to the one before or to the ends."""
    bottom, top = float(height(low, kind)), float(height(high, kind))
    gap = _MIN_GAP * (top - bottom)
    kept: list[float] = []
    previous = bottom
    for level in sorted(levels):
        here = float(height(level, kind))
        if here - previous >= gap and top - here >= 0.25 * gap:
            kept.append(level)
            previous = here
    return kept


def _fill_gaps(levels: Sequence[float], low: float, high: float, count: int, kind: Kind) -> list[float]:
    """The levels and even ones where a few points hold much of the range: a basin, a rim, all but a plateau."""
    fence = [low, *levels, high]
    heights = height(fence, kind)
    filled = list(levels)
    for k, share in enumerate(np.diff(heights) / (heights[-1] - heights[0])):
        if share > 2.5 / count:
            filled += even_levels(fence[k], fence[k + 1], max(1, round(share * count) - 1), kind)
    return _keep_apart(filled, low, high, kind)


def _round_apart(levels: Sequence[float], low: float, high: float) -> tuple[float, ...]:
    """The levels, each rounded as coarsely as its neighbors allow, so that the order cannot change.

    The step is at most half the gap to the nearer neighbor, so a level moves by a quarter of it at most.
    """
    fence = [low, *levels, high]
    rounded = []
    for below, level, above in zip(fence, fence[1:], fence[2:], strict=False):
        gap = min(level - below, above - level)
        if gap <= 0:
            continue
        exponent = math.floor(math.log10(gap / 2))
        mantissa = max(m for m in (1, 2, 5) if m * 10.0**exponent <= gap / 2 * (1 + 1e-12) or m == 1)
        rounded.append(float(f"{round(level / (mantissa * 10.0**exponent)) * mantissa}e{exponent}"))
    return tuple(rounded)


def format_value(value: float, digits: int = 3, *, percent: bool = False) -> str:
    """A number as a picture writes it, rounded to significant digits: `0.02`, `1500`, `NaN`, `−∞`.

    Example:
        >>> format_value(-2.5), format_value(2e-5), format_value(0.931, percent=True)
        ('−2.5', '2×10⁻⁵', '93.1 %')
    """
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if percent:
        return f"{format_value(float(f'{100 * value:.12g}'), digits)} %"
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    power = int(exponent)
    if value == 0 or -4 < power < max(4, digits):
        return f"{float(f'{value:.{digits - 1}e}'):.15g}".replace("-", "−")
    if "." in mantissa:
        mantissa = mantissa.rstrip("0").rstrip(".")
    factor = "" if mantissa == "1" else "−" if mantissa == "-1" else mantissa.replace("-", "−") + "×"
    return f"{factor}10{str(power).translate(_SUPERSCRIPTS)}"


def format_levels(levels: Sequence[float], *, percent: bool = False) -> list[str]:
    """Levels as texts, with as few digits as tell each from the others and from its own value.

    Example:
        >>> format_levels([2.3025, 2.4, 20.0])
        ['2.3025', '2.4', '20']
    """
    for digits in range(1, 16):
        texts = [format_value(level, digits, percent=percent) for level in levels]
        exact = all(math.isclose(float(f"{level:.{digits - 1}e}"), level, rel_tol=1e-9) for level in levels)
        if exact and len(set(texts)) == len(set(levels)):
            return texts
    return [f"{level:.15g}" for level in levels]
