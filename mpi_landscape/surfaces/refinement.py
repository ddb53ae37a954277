"""What rank 0 knows of a surface of samples: estimates, and which samples to add next."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mpi_landscape.parallel.root import WAIT
from mpi_landscape.plan.estimates import Estimate, estimate, step
from mpi_landscape.plan.grid import Grid
from mpi_landscape.plan.quantities import Quantities
from mpi_landscape.plan.samples import shards_between
from mpi_landscape.plan.tiles import Plan
from mpi_landscape.storage.cells import Published, Row
from mpi_landscape.storage.surface.tiles import published


@dataclass
class _Place:
    """One chunk of points on one split, on its path.

    Attributes:
        first: The number of its first tile.
        levels: The last state that is in; None before the first.
        following: The state that is being worked for; None when nothing more is wanted.
        missing: How many tiles are still to come for it.
        error: The largest relative error of the state that is in.
    """

    first: int
    levels: NDArray[np.int64] | None = None
    following: NDArray[np.int64] | None = None
    missing: int = 0
    error: float = np.inf


class Refinement:
    """Takes every chunk of points along its path until its standard errors are small enough.

    What is published of a point is always a state of its path, never something in between. The path depends on the
    sums alone: which tiles are evaluated, and every value, are the same on any number of ranks and after any kill. All
    points get their first state first, coarse to fine; then whoever has the largest relative error goes on.

    Args:
        grid: The points.
        plan: Of samples.
        quantities: What is known at a point.
        target: The relative standard error to reach; None for the exact values.
    """

    def __init__(self, grid: Grid, plan: Plan, quantities: Quantities, target: float | None) -> None:
        self._grid, self._plan, self._quantities, self._target = grid, plan, quantities, target
        self._sums = {
            split: np.full((count, plan.num_points, len(quantities.columns)), np.nan)
            for split, count in plan.shards
        }
        self._seen = np.zeros(plan.num_tiles, dtype=bool)
        self._places: dict[tuple[str, int], _Place] = {}
        for chunk in range(plan.num_chunks):
            tile = chunk * plan.num_units
            for split, count in plan.shards:
                self._places[split, chunk] = _Place(first=tile)
                tile += count
        self._ready: deque[int] = deque()
        # (-relative error, first tile): the largest error first, then the order of the plan.
        self._worst: list[tuple[float, int]] = []
        self._wanting = 0

    def take_over(self, item: int, row: Row) -> None:
        """Note a tile that was done before; all of them before `begin`."""
        tile = self._plan.tile(item)
        self._seen[item] = True
        self._sums[tile.split][tile.shard, tile.start : tile.stop] = row.reshape(tile.num_points, -1)

    def begin(self) -> Iterator[Published]:
        """Go along all paths as far as the tiles that were done before lead.

        Yields:
            What is known of each chunk and split that has a state.
        """
        for (split, _), place in self._places.items():
            known = self._advance(split, place)
            if known is not None:
                yield self._published(place, known)

    def add(self, item: int, row: Row) -> Published | None:
        """Take note of a result; the values of the tile's points when they have reached another state."""
        self.take_over(item, row)
        tile = self._plan.tile(item)
        place = self._places[tile.split, tile.start // self._plan.points_per_tile]
        place.missing -= 1
        if place.missing > 0:
            return None
        self._wanting -= 1
        known = self._advance(tile.split, place)
        return None if known is None else self._published(place, known)

    def __iter__(self) -> Iterator[int]:
        """The tiles to do, WAIT where only the results to come can tell."""
        while True:
            if self._ready:
                yield self._ready.popleft()
            elif self._worst:
                tile = self._plan.tile(heapq.heappop(self._worst)[1])
                self._ready.extend(
                    self._missing(
                        tile.split, self._places[tile.split, tile.start // self._plan.points_per_tile]
                    )
                )
            elif self._wanting:
                yield WAIT
            else:
                return

    @property
    def num_left(self) -> int:
        """How many tiles are left, at most; 0 when nothing more is wanted."""
        return int(self._seen.size - self._seen.sum()) if self._wanting else 0

    @property
    def num_done(self) -> int:
        """How many tiles are done."""
        return int(self._seen.sum())

    @property
    def error(self) -> float:
        """The largest relative standard error, infinite while a point has no value."""
        return max(place.error for place in self._places.values())

    @property
    def summary(self) -> str:
        """What is known, in words."""
        if self._seen.all():
            return "complete, with exact values"
        examples = np.concatenate([sample.examples for sample in self._plan.samples]).astype(float)
        done = sum(
            self._plan.tile(int(index)).num_points * examples[index % self._plan.num_units]
            for index in np.flatnonzero(self._seen)
        )
        share = 100 * done / (self._plan.num_points * examples.sum())
        return (
            f"every standard error is at most {100 * self.error:.3g} % of its loss, after {share:.3g} % of the evaluations "
            f"of an exact surface; run again with a smaller --relative-error, or without one, to go on"
        )

    def _advance(self, split: str, place: _Place) -> Estimate | None:
        """Go along the path while its tiles are in; then ask for what is missing, if the target is missed."""
        sample = self._plan.sample(split)
        tile = self._plan.tile(place.first)
        sums = self._sums[split][:, tile.start : tile.stop]
        known = None
        while True:
            if place.levels is None:
                following = np.ones_like(sample.num_levels)
            elif np.array_equal(place.levels, sample.num_levels):
                break
            else:
                following = step(sample, place.levels, sums)
            new = place.first + shards_between(sample, place.levels, following)
            if not self._seen[new].all():
                break
            place.levels = following
            known = estimate(sample, place.levels, sums)
            place.error = known.relative_error
        self._want(split, place, sample.num_levels, following)
        return known

    def _want(
        self, split: str, place: _Place, all_levels: NDArray[np.int64], following: NDArray[np.int64]
    ) -> None:
        """Queue the tiles that a place needs next."""
        place.following = None
        if place.levels is not None:
            if np.array_equal(place.levels, all_levels):
                return
            if self._target is not None and place.error <= self._target:
                return
        # Towards the exact values there is nothing to weigh: all at once.
        place.following = all_levels if self._target is None and place.levels is not None else following
        place.missing = len(list(self._missing(split, place)))
        self._wanting += 1
        if place.levels is None:
            self._ready.extend(self._missing(split, place))
        else:
            heapq.heappush(self._worst, (-place.error, place.first))

    def _missing(self, split: str, place: _Place) -> list[int]:
        """The tiles between a place's state and the one that follows which are not done."""
        assert place.following is not None
        tiles = place.first + shards_between(self._plan.sample(split), place.levels, place.following)
        return [int(tile) for tile in tiles if not self._seen[tile]]

    def _published(self, place: _Place, known: Estimate) -> Published:
        values = {**self._quantities.values(known.means), "loss_stderr": known.stderr}
        return published(self._grid, self._plan.tile(place.first), values)
