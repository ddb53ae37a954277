"""The plan: a surface cut into tiles, the unit of scheduling, of storage and of resume.

A tile is one data shard of one split at a chunk of consecutive grid positions. Everything here
follows from the size of the problem alone, never from the number of ranks: the sums of a tile,
and the order in which they are combined, are then the same on a laptop and on a cluster.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

from mpi_landscape.errors import LandscapeError
from mpi_landscape.plan.samples import Sample


@dataclass(frozen=True, kw_only=True)
class Tile:
    """One unit of work.

    Args:
        index: number of the tile in its plan.
        split: name of the split, such as `train`.
        shard: number of the data shard within the split.
        start: first position in the grid's coarse-to-fine order.
        stop: one past the last position.
    """

    index: int
    split: str
    shard: int
    start: int
    stop: int

    @property
    def num_points(self) -> int:
        """Number of grid points."""
        return self.stop - self.start


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All tiles of a surface, by arithmetic.

    Tile `chunk · num_units + unit` holds the chunk's positions for that unit; units run over
    (split, shard) with the shards of the first split first. So all of a chunk's tiles are
    neighbours and its points are finished together.

    Args:
        num_points: number of grid points, at least 1.
        points_per_tile: positions in each chunk but the last, at least 1.
        shards: (name of the split, number of its data shards), in the order of the splits.
        samples: How the shards of each split are nested samples of it; empty when they are equal parts.

    Raises:
        LandscapeError: one of these is not positive, or a split is named twice or not at all.
    """

    num_points: int
    points_per_tile: int
    shards: tuple[tuple[str, int], ...]
    samples: tuple[Sample, ...] = ()

    def __post_init__(self) -> None:
        for name, value in (("num_points", self.num_points), ("points_per_tile", self.points_per_tile)):
            if value < 1:
                raise LandscapeError(f"plan: {name} is {value}; it must be at least 1")
        if not self.shards:
            raise LandscapeError("plan: no split to evaluate; name at least one, such as train")
        for split, count in self.shards:
            if count < 1:
                raise LandscapeError(f"plan: split {split!r} has {count} data shards; it needs at least 1")
        if self.samples and [sample.num_shards for sample in self.samples] != [n for _, n in self.shards]:
            raise LandscapeError("plan: the shards are not those of the samples; one sample per split")
        names = [split for split, _ in self.shards]
        if len(set(names)) < len(names):
            raise LandscapeError(f"plan: a split is listed twice in {', '.join(names)}")

    @property
    def num_chunks(self) -> int:
        """Number of chunks of grid positions."""
        return -(-self.num_points // self.points_per_tile)

    @cached_property
    def _unit_stops(self) -> tuple[int, ...]:
        return tuple(accumulate(count for _, count in self.shards))

    @property
    def num_units(self) -> int:
        """Number of (split, shard) pairs: tiles per chunk."""
        return self._unit_stops[-1]

    @property
    def num_tiles(self) -> int:
        """Number of tiles."""
        return self.num_chunks * self.num_units

    def tile(self, index: int) -> Tile:
        """The tile of this number; an IndexError where there is none."""
        if not 0 <= index < self.num_tiles:
            raise IndexError(f"tiles of this plan run from 0 to {self.num_tiles - 1}, got {index}")
        chunk, unit = divmod(index, self.num_units)
        place = bisect_right(self._unit_stops, unit)
        split, count = self.shards[place]
        shard = unit - (self._unit_stops[place] - count)
        start = chunk * self.points_per_tile
        stop = min(start + self.points_per_tile, self.num_points)
        return Tile(index=index, split=split, shard=shard, start=start, stop=stop)

    def sample(self, split: str) -> Sample:
        """How the shards of a split are nested samples of it."""
        return self.samples[[name for name, _ in self.shards].index(split)]

    def batches(self, tile: Tile, num_batches: int, batch_size: int) -> tuple[int, int]:
        """The first batch of a tile's shard and one past the last, of the batches of its split."""
        if self.samples:
            return self.sample(tile.split).batches(tile.shard, batch_size)
        return shard_bounds(num_batches, dict(self.shards)[tile.split], tile.shard)


def shard_bounds(num_batches: int, num_shards: int, shard: int) -> tuple[int, int]:
    """First batch and one past the last of one of `num_shards` shards: contiguous, and sizes differ by one at most.

    Some are empty where there are more shards than batches.

    Raises:
        IndexError: no such shard.
    """
    if not 0 <= shard < num_shards:
        raise IndexError(f"shards run from 0 to {num_shards - 1}, got {shard}")
    return shard * num_batches // num_shards, (shard + 1) * num_batches // num_shards
