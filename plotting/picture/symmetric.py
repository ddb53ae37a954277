"""A scale for numbers of both signs and many sizes: logarithmic away from zero, linear around it."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

# Decades that are shown on each side of zero.
_DECADES = 4
_MOST_TICKS = 4


@dataclass(frozen=True, kw_only=True)
class SignedScale:
    """What height or color means, symmetric around zero.

    Attributes:
        linear_below: Below this size the scale is linear; None where all of it is.
        low: The least value that is to be seen, not above zero unless the scale is logarithmic without a zero.
        high: The greatest, above `low`.
    """

    linear_below: float | None
    low: float
    high: float

    @property
    def size(self) -> float:
        """The greatest size on it."""
        return max(abs(self.low), abs(self.high))


def signed_scale(
    values: NDArray[np.float64], *, kind: Literal["auto", "linear", "log"] = "auto"
) -> SignedScale:
    """The scale that shows finite values, and zero.

    Args:
        values: Any shape, float64; those that are not finite have no say.
        kind: "auto" is logarithmic where the sizes differ by more than a factor of ten.

    Example:
        >>> signed_scale(np.array([-0.02, 0.0, 30.0]))
        SignedScale(linear_below=0.01, low=-0.02, high=30.0)
    """
    finite = values[np.isfinite(values)]
    low, high = float(finite.min(initial=0.0)), float(finite.max(initial=0.0))
    if low == high:
        return SignedScale(linear_below=None, low=-1.0, high=1.0)
    sizes = np.abs(finite[finite != 0])
    largest, middle = float(sizes.max()), float(np.quantile(sizes, 0.05, method="lower"))
    if kind == "linear" or (kind == "auto" and largest <= 10 * middle):
        return SignedScale(linear_below=None, low=low, high=high)
    exponent = math.floor(math.log10(max(middle, largest * 10.0**-_DECADES)))
    return SignedScale(linear_below=10.0**exponent, low=low, high=high)


def decade_ticks(scale: SignedScale) -> list[float]:
    """Ticks of a scale that is logarithmic away from zero: zero and powers of ten on both sides, few enough to read.

    Example:
        >>> decade_ticks(signed_scale(np.array([-0.02, 0.0, 30.0])))
        [-0.01, 0.0, 0.01, 0.1, 1.0, 10.0]
    """
    if scale.linear_below is None:
        return []
    ticks = [0.0]
    for sign, end in ((-1, -scale.low), (1, scale.high)):
        if end < scale.linear_below:
            continue
        first, last = round(math.log10(scale.linear_below)), math.floor(math.log10(end) + 1e-9)
        stride = -(-(last - first + 1) // _MOST_TICKS)
        ticks += [sign * float(f"1e{k}") for k in range(last, first - 1, -stride)]
    return sorted(ticks)
