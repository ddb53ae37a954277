"""The mean rise of a loss along random directions, with its standard error."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class MeanRise:
    """f(αd) − f(0) over random directions d, at every α.

    Attributes:
        alpha: (n,).
        mean: (n,) over the lines that are known there; NaN where none is.
        stderr: (n,) its standard error: the deviation between lines (n − 1 of them free) over the root of their number; NaN for
            fewer than two.
        lines: (n,) how many are known and finite there.
    """

    alpha: NDArray[np.float64]
    mean: NDArray[np.float64]
    stderr: NDArray[np.float64]
    lines: NDArray[np.int64]


def mean_rise(
    alpha: NDArray[np.float64], values: NDArray[np.float64], done: NDArray[np.bool_]
) -> MeanRise | None:
    """The rise above the center, as a mean over lines; None where the center is no point of the grid, or not known.

    Args:
        alpha: (n,).
        values: (n, num_lines).
        done: The same shape: where there is a result.

    Example:
        >>> lines = np.array([[3.0, 5.0], [1.0, 1.0], [2.0, 2.0]])
        >>> rise = mean_rise(np.array([-1.0, 0.0, 1.0]), lines, np.ones((3, 2), dtype=bool))
        >>> rise.mean.tolist(), rise.stderr.tolist()
        ([3.0, 0.0, 1.0], [1.0, 0.0, 0.0])
    """
    center = np.flatnonzero(alpha == 0)
    known = done & np.isfinite(values)
    if not center.size or not known[center[0]].any():
        return None
    lowest = values[center[0], int(np.flatnonzero(known[center[0]])[0])]
    lines = known.sum(axis=1)
    rises = np.where(known, values - lowest, 0.0)
    mean, stderr = np.full(len(alpha), np.nan), np.full(len(alpha), np.nan)
    some, several = lines > 0, lines > 1
    mean[some] = rises.sum(axis=1)[some] / lines[some]
    squares = np.where(known, (rises - mean[:, None]) ** 2, 0.0).sum(axis=1)
    stderr[several] = np.sqrt(squares[several] / (lines[several] - 1) / lines[several])
    return MeanRise(alpha=alpha, mean=mean, stderr=stderr, lines=lines.astype(np.int64))
