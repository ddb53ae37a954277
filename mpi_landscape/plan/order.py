"""The order in which a grid is visited: coarse to fine, or in strips, by arithmetic on one small table per axis.

A job that is half done shows the whole range at half the resolution instead of half the range. No
table over the points exists: a grid of 10⁸ points costs no more memory than its two axes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


def axis_levels(num: int) -> NDArray[np.int64]:
    """(num,) int64, the level of every index of an axis: the ends are level 0, then midpoints, breadth first.

    The gaps that remain below a level are at most ⌈(num−1)/2^level⌉ wide.

    Example:
        >>> axis_levels(7).tolist()
        [0, 2, 3, 1, 2, 3, 0]
    """
    levels = np.zeros(num, dtype=np.int64)
    edges = np.array([0, num - 1], dtype=np.int64)
    level = 0
    while True:
        middles = (edges[:-1] + edges[1:]) // 2
        middles = middles[middles > edges[:-1]]
        if middles.size == 0:
            return levels
        level += 1
        levels[middles] = level
        edges = np.sort(np.concatenate([edges, middles]))


def _scattered(count: int) -> NDArray[np.int64]:
    """0 … count−1 by reversed bits (van der Corput): any first part of it is spread evenly."""
    rank = np.arange(count, dtype=np.int64)
    reversed_bits = np.zeros_like(rank)
    for bit in range(max(count - 1, 0).bit_length()):
        reversed_bits = (reversed_bits << 1) | ((rank >> bit) & 1)
    return np.argsort(reversed_bits)


def _axis_order(levels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Indices of an axis by level, scattered within a level: (num,) int64."""
    members = [np.flatnonzero(levels == level) for level in range(int(levels.max()) + 1)]
    return np.concatenate([indices[_scattered(indices.size)] for indices in members])


@dataclass(frozen=True)
class Order:
    """A grid's order as rectangles of (alpha place, beta place), one after the other.

    Args:
        alpha: (num_alpha,) int64, the alpha indices by level, scattered within a level.
        beta: (num_beta,) int64, the same for beta.
        start: (num_blocks,) int64, first position of each rectangle, ascending from 0.
        alpha_first: (num_blocks,) int64, first alpha place of each rectangle.
        beta_first: (num_blocks,) int64, first beta place.
        beta_count: (num_blocks,) int64, width along beta.
    """

    alpha: NDArray[np.int64]
    beta: NDArray[np.int64]
    start: NDArray[np.int64]
    alpha_first: NDArray[np.int64]
    beta_first: NDArray[np.int64]
    beta_count: NDArray[np.int64]

    def points(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Flat C-order indices (beta fastest) of the points at these positions, int64 of any shape; not checked."""
        block = np.searchsorted(self.start, positions, side="right") - 1
        row, column = np.divmod(positions - self.start[block], self.beta_count[block])
        alpha = self.alpha[self.alpha_first[block] + row]
        beta = self.beta[self.beta_first[block] + column]
        flat: NDArray[np.int64] = alpha * self.beta.size + beta
        return flat


def coarse_to_fine(num_alpha: int, num_beta: int) -> Order:
    """The order of a grid, or of a line of 1 beta, by the level of a point: the larger level of its two indices.

    Within a level come the points that are new on both axes (the middles of the cells), then new alphas at old betas,
    then the reverse.
    """
    levels = axis_levels(num_alpha), axis_levels(num_beta)
    depth = max(int(axis.max()) for axis in levels) + 1
    known = [np.cumsum(np.bincount(axis, minlength=depth)).tolist() for axis in levels]
    blocks = []
    old_alpha = old_beta = 0
    for all_alpha, all_beta in zip(*known, strict=True):
        new_alpha, new_beta = all_alpha - old_alpha, all_beta - old_beta
        blocks += [
            (old_alpha, new_alpha, old_beta, new_beta),
            (old_alpha, new_alpha, 0, old_beta),
            (0, old_alpha, old_beta, new_beta),
        ]
        old_alpha, old_beta = all_alpha, all_beta
    table = np.array([block for block in blocks if block[1] * block[3] > 0], dtype=np.int64)
    sizes = table[:, 1] * table[:, 3]
    return Order(
        alpha=_axis_order(levels[0]),
        beta=_axis_order(levels[1]),
        start=np.cumsum(sizes) - sizes,
        alpha_first=table[:, 0],
        beta_first=table[:, 2],
        beta_count=table[:, 3],
    )


def in_strips(num_alpha: int, num_beta: int, height: int) -> Order:
    """The order of a grid in strips of so many alphas, each column by column and there and back, so that neighbors come together.

    Consecutive height² positions are a block of height x height points, but for the last strip and where one ends.

    Example:
        >>> in_strips(4, 3, 2).points(np.arange(12)).tolist()  # rows 0 and 1 from the left, then 2 and 3 from the right
        [0, 3, 1, 4, 2, 5, 8, 11, 7, 10, 6, 9]
    """
    firsts = np.arange(0, num_alpha, height)
    heights = np.minimum(height, num_alpha - firsts)
    columns = [np.arange(num_beta)[:: 1 if strip % 2 == 0 else -1] for strip in range(len(firsts))]
    sizes = np.repeat(heights, num_beta)
    return Order(
        alpha=np.arange(num_alpha, dtype=np.int64),
        beta=np.arange(num_beta, dtype=np.int64),
        start=np.cumsum(sizes) - sizes,
        alpha_first=np.repeat(firsts, num_beta),
        beta_first=np.concatenate(columns),
        beta_count=np.ones(sizes.size, dtype=np.int64),
    )
