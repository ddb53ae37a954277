"""Products of checkpoints with each other and with axes, read in blocks of columns by all ranks. Collective.

A pass reads every number of every file once, over all ranks together: each has columns of its own, and a thread reads the next
block while one is multiplied. Sums run in float64 over blocks that the plan cuts, and blocks are added in a fixed tree, so the
bits do not depend on the number of ranks. What is multiplied are differences from the center, formed before: two large numbers
that are nearly the same lose no digits.

Products of all pairs, nearly all of the work, are made in float32 of a few hundred columns at a time, whose sums are added in
float64: ⟨a, b⟩ is off by some 1e-7 of ‖a‖‖b‖, and twice as fast. They decide which plane it is; where a checkpoint is in that
plane, and how far from it, is made in float64.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mpi_landscape.errors import LandscapeError
from mpi_landscape.geometry.layout import empty_vector
from mpi_landscape.geometry.principal import Principal
from mpi_landscape.loading.sharing import Pause, Workers
from mpi_landscape.parallel.ordered import join, total_over_ranks
from mpi_landscape.parallel.ranks import Ranks
from mpi_landscape.placement.columns import StoredVector
from mpi_landscape.plan.columns import Columns
from mpi_landscape.plan.pairwise import Pairwise

# Rows of a product that are made at a time: it is symmetric, and what lies above its diagonal is left out but for these.
_PANEL = 64

# Blocks that threads hold together, in vectors.
_MOST_VECTORS = 2

# Given the first column of a chunk and its differences, (num_rows, num_columns) float32: adds to a sum.
Adding = Callable[[int, Tensor, Tensor], None]


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Differences of checkpoints from a center.

    Attributes:
        vectors: The checkpoints.
        center: (n,) float32.
        ranks: Who reads.
        threads: Of this rank, each with leaves of its own; the bits do not depend on them.
    """

    vectors: Sequence[StoredVector]
    center: Tensor
    ranks: Ranks
    threads: int = 1

    @property
    def columns(self) -> Columns:
        """How they are cut."""
        return Columns(size=len(self.center), num_rows=len(self.vectors))

    def sum_over(self, shape: tuple[int, int], adding: Adding) -> NDArray[np.float64]:
        """What is added up over all columns: `shape` float64, on every rank. Collective.

        Raises:
            AgreedError: A file cannot be read, or numbers are not finite.
        """
        ranks, columns = self.ranks, self.columns
        sums = Pairwise(columns.num_leaves)
        with ranks.together():
            own = columns.of_rank(ranks.rank, ranks.size)
            with closing(self._leaves(own, shape, adding)) as leaves:
                for leaf, into in zip(own, leaves, strict=True):
                    if not into.isfinite().all():
                        raise self._not_finite(columns.leaf(leaf))
                    sums.add(leaf, into.numpy())
        return total_over_ranks(ranks, sums)

    def _leaves(
        self, own: Sequence[int], shape: tuple[int, int], adding: Adding
    ) -> Generator[Tensor, None, None]:
        """The sum of each of some leaves, in their order."""
        columns = self.columns
        block = 4 * len(self.vectors) * min(columns.block, columns.size)
        at_once = max(1, min(self.threads, _MOST_VECTORS * 4 * columns.size // block))
        if at_once == 1:
            with closing(self._blocks([block for leaf in own for block in columns.leaf(leaf)])) as blocks:
                for leaf in own:
                    into = torch.zeros(shape, dtype=torch.float64)
                    for start, _ in columns.leaf(leaf):
                        self._add(start, next(blocks), adding, into)
                    yield into
            return

        def work(room: Tensor, leaf: int, _pause: Pause) -> Tensor:
            into = torch.zeros(shape, dtype=torch.float64)
            for start, stop in columns.leaf(leaf):
                numbers = room[:, : stop - start]
                self._read(start, numbers)
                self._add(start, numbers, adding, into)
            return into

        rooms = [torch.empty(len(self.vectors), min(columns.block, columns.size)) for _ in range(at_once)]
        with Workers(rooms) as workers:
            # Few at a time: a sum is a matrix.
            for first in range(0, len(own), 4 * at_once):
                yield from workers.share_out(own[first : first + 4 * at_once], work)

    def _read(self, start: int, numbers: Tensor) -> None:
        for vector, row in zip(self.vectors, numbers, strict=True):
            vector.read(start, row)

    def _blocks(self, bounds: Sequence[tuple[int, int]]) -> Generator[Tensor, None, None]:
        """(num_rows, stop - start) float32 of each block, good until the next one is taken; one is read ahead."""
        columns = self.columns
        places = [torch.empty(len(self.vectors), min(columns.block, columns.size)) for _ in range(2)]

        def read(number: int) -> Tensor:
            start, stop = bounds[number]
            numbers = places[number % 2][:, : stop - start]
            self._read(start, numbers)
            return numbers

        with ThreadPoolExecutor(1) as reader:
            ahead = reader.submit(read, 0) if bounds else None
            for number in range(len(bounds)):
                assert ahead is not None
                numbers = ahead.result()
                ahead = reader.submit(read, number + 1) if number + 1 < len(bounds) else None
                yield numbers

    def _add(self, start: int, numbers: Tensor, adding: Adding, into: Tensor) -> None:
        width = self.columns.chunk
        for at in range(0, numbers.shape[1], width):
            first = start + at
            columns = numbers[:, at : at + width]
            adding(first, columns - self.center[first : first + columns.shape[1]], into)

    def _not_finite(self, blocks: Sequence[tuple[int, int]]) -> LandscapeError:
        """Which checkpoint has a number that is none."""
        for start, stop in blocks:
            row = torch.empty(stop - start)
            for vector in self.vectors:
                vector.read(start, row)
                bad = (~row.isfinite()).nonzero()
                if len(bad):
                    place = start + int(bad[0])
                    names = [each for each in vector.layout.entries if each.offset <= place < each.stop]
                    return LandscapeError(
                        f"{vector.path}: {names[0].name} has a number that is not finite ({float(row[int(bad[0])])}), and there "
                        f"is no way from or to it; valid are checkpoints of before the training diverged"
                    )
        return LandscapeError(
            "trajectory: checkpoints are so far from the center that products of their differences are beyond float32"
        )


def products(rows: Rows) -> NDArray[np.float64]:
    """(num_rows, num_rows) float64: ⟨θᵢ − θ, θⱼ − θ⟩ of all checkpoints. Reads each once. Collective."""
    size = len(rows.vectors)

    def add(_first: int, piece: Tensor, into: Tensor) -> None:
        for low in range(0, size, _PANEL):
            high = min(low + _PANEL, size)
            into[low:high, :high] += piece[low:high] @ piece[:high].T

    lower = np.tril(rows.sum_over((size, size), add))
    return lower + lower.T - np.diag(np.diag(lower))


@dataclass(frozen=True, kw_only=True)
class Products:
    """Of checkpoints with two axes.

    Attributes:
        with_axes: (2, num_rows) float64.
        of_axes: (2, 2) float64.
    """

    with_axes: NDArray[np.float64]
    of_axes: NDArray[np.float64]


def products_with(rows: Rows, axes: Sequence[Tensor]) -> tuple[Products, NDArray[np.float64], float]:
    """Of all checkpoints with two axes of shape (n,) float32. Reads each once. Collective.

    Returns:
        They; (num_rows,) float64, ‖θᵢ − θ‖² of each row; and that of the mean of all rows.
    """
    size = len(rows.vectors)

    def add(first: int, piece: Tensor, into: Tensor) -> None:
        wide = piece.double()
        _add_products(torch.stack([each[first : first + piece.shape[1]] for each in axes]), wide, into)
        into[2, :size] += torch.linalg.vecdot(wide, wide)
        mean = wide.mean(dim=0)
        into[2, size] += torch.dot(mean, mean)

    found = rows.sum_over((3, size + 2), add)
    return _products(found), found[2, :size], float(found[2, size])


def components(rows: Rows, found: Principal) -> tuple[list[Tensor], Products, NDArray[np.float64]]:
    """The principal axes, two of shape (n,) float32 and length 1. Reads each checkpoint once. Collective.

    Returns:
        They; products with them; and (num_rows,) float64, ‖θᵢ − θ‖² of each row.
    """
    axes = [empty_vector(len(rows.center)) for _ in range(2)]
    weights = torch.from_numpy(np.ascontiguousarray(found.weights))

    def add(first: int, piece: Tensor, into: Tensor) -> None:
        wide = piece.double()
        made = (weights @ wide).float()
        for axis, part in zip(axes, made, strict=True):
            axis[first : first + piece.shape[1]] = part
        _add_products(made, wide, into)
        into[2, : len(piece)] += torch.linalg.vecdot(wide, wide)

    sums = rows.sum_over((3, len(rows.vectors) + 2), add)
    result, squares = _products(sums), sums[2, :-2]
    columns, size = rows.columns, rows.ranks.size
    extents = [columns.extent(columns.of_rank(rank, size)) for rank in range(size)]
    for axis in axes:
        join(rows.ranks, axis.numpy(), extents)
    return axes, result, squares


def _add_products(axes: Tensor, piece: Tensor, into: Tensor) -> None:
    size, wide = len(piece), axes.double()
    into[:2, :size].addmm_(wide, piece.T)
    into[:2, size : size + 2].addmm_(wide, wide.T)


def _products(found: NDArray[np.float64]) -> Products:
    return Products(with_axes=found[:2, :-2], of_axes=found[:2, -2:])
