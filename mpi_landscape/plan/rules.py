"""Rules of thumb: how many shards, points in a tile and examples in a batch, from the size of a problem alone."""

from __future__ import annotations

import math
from collections.abc import Mapping

# Shards are cut until there are so many (shard, point) pairs: 64 for each of 4,096 ranks, so that the last round is short.
# Their sums take 8 MB in the file.
ENOUGH_PAIRS = 2**18
# A shard of fewer batches is not cut further for the sake of many ranks: every tile first moves the network to its points.
LEAST_BATCHES = 8
# But this many pairs are cut in any case: a line or a single point can be shared out too.
LEAST_PAIRS = 256
# A tile takes the square root of the job's rank-seconds over this, in seconds: a job four times as long has twice as many
# tiles, each twice as long. A job of 2^18 s has tiles of 1 s: rank 0 hears twice from each rank in that time.
TILES_PER_SECOND_SQUARED = 2**18
# Shorter tiles would show their requests and writes (0.3 ms or so).
SHORTEST_TILE = 0.05
# A tile of streamed data with more example evaluations than this may take hours, and what is done of it is lost when the
# job is stopped; so many points of a shard also make the time in which it is read a small part.
MOST_EXAMPLES = 2**20
# With at least this many shards, 100 ranks have ten tiles each even if a tile has all points.
ENOUGH_SHARDS = 1024
# And with this many tiles of streamed data.
ENOUGH_CHUNKS = 512
# A tile's sums are 32 bytes for each of its points: 64 MB for all points and shards.
MAX_SUMS = 2**21
# Points of a tile that share what is done once for all of them (a first layer's products), which then counts little.
SHARING = 64
# The per-tile table in the file stays small even for 10⁸ points.
MAX_TILES = 2**21


def choose_shards(num_points: int, num_batches: Mapping[str, int]) -> dict[str, int]:
    """Number of data shards of every split, all shards of about the same number of batches.

    Follows from the size of the problem alone: the order of the sums, and so their bits, depend on it.

    Returns:
        One shard each where points alone make `ENOUGH_PAIRS` tiles, or where a split has no more than `LEAST_BATCHES`
        batches and there are `LEAST_PAIRS` points; otherwise as many as make so many pairs of a shard and a point. None
        is left empty.
    """
    total = sum(num_batches.values())
    enough = max(LEAST_BATCHES, -(-total * num_points // ENOUGH_PAIRS))
    least = max(1, total * num_points // LEAST_PAIRS)
    size = min(enough, least)
    return {split: max(1, round(count / size)) for split, count in num_batches.items()}


def seconds_per_tile(seconds: float) -> float:
    """How long a tile of a job of so many rank-seconds should take, so that messages are rare and the end is short.

    With tiles of t seconds a job of w rank-seconds on r ranks spends up to t of its w / r seconds in an incomplete last
    round, and rank 0 receives 2 r / t messages per second. The number of ranks is not known, since the plan may not
    depend on it; but a longer job is given more of them. So t = √(w / 2¹⁸): on 10 √w ranks (4,400 for a job of 54 hours
    of one rank, then 44 s long) the last round is 2 % of the time. At least `SHORTEST_TILE`.
    """
    return max(SHORTEST_TILE, math.sqrt(max(seconds, 0.0) / TILES_PER_SECOND_SQUARED))


def choose_points_per_tile(num_points: int, num_units: int, seconds_per_point: float, share: float) -> int:
    """Grid points per tile, from the measured cost of a point: from 1 to all.

    Bits do not depend on it. A power of two, so that measuring again mostly gives the same.

    Args:
        num_points: Number of grid points, at least 1.
        num_units: Shards of all splits together.
        seconds_per_point: What one rank needs for a point, over all splits.
        share: How much of that the longest shard takes, in (0, 1].
    """
    wanted = seconds_per_tile(seconds_per_point * num_points) / max(seconds_per_point * share, 1e-9)
    fewest = -(-num_points * num_units // MAX_TILES)
    points = max(1, int(min(wanted, num_points)), fewest)
    lower = 1 << (points.bit_length() - 1)
    return min(num_points, lower if lower >= fewest else 2 * lower)


def choose_streamed_shards(num_points: int, num_batches: int) -> int:
    """Number of data shards of a split that is read again for every tile: as many as there is use for, none empty.

    Shards keep ranks busy without reading anything twice; a second chunk of points reads everything again.
    """
    return max(1, min(num_batches, ENOUGH_SHARDS, MAX_SUMS // num_points))


def choose_streamed_points(num_points: int, num_shards: int, examples_per_shard: int) -> int:
    """Grid points per tile where a tile reads its shard from files: as many as leave enough tiles.

    Args:
        num_points: number of grid points, at least 1.
        num_shards: data shards of all splits together.
        examples_per_shard: examples in a data shard, of the largest split.

    Returns:
        At least 1; never so many that fewer than `ENOUGH_CHUNKS` tiles are left (or than there are points), or that a
        tile has more than `MOST_EXAMPLES` evaluations, unless the plan had more than `MAX_TILES` chunks.
    """
    chunks = max(
        -(-ENOUGH_CHUNKS // num_shards), -(-num_points * max(1, examples_per_shard) // MOST_EXAMPLES)
    )
    return max(1, num_points // chunks, -(-num_points // MAX_TILES))


def choose_batch_size(bytes_per_example: int, num_examples: int, *, on_gpu: bool) -> int:
    """Examples per batch: few where activations are large, more where launching an operation is what takes time.

    On a CPU the activations of a small batch stay in the cache. Of images of 32 x 32, on an AMD core with 1 MB of its
    own, both cores busy: ResNet-20 and ResNet-56 were fastest with 64 in float32 and 128 in bfloat16, Wide ResNet-56
    (k = 2) with 32 and 64, VGG-9 with 32 to 64; of digits of 8 x 8, 512 took half the time of 64. A GPU needs more to
    be busy: on an H100, microseconds an image for batches of 256, 512, 1024 and 2048 were 12.5, 6.3, 6.0, 5.8 for ResNet-20
    in float32, 11.7, 6.0, 3.0, 2.6 in bfloat16; 14.7, 13.6, 13.0, 12.7 for VGG-9 in float32.

    Args:
        bytes_per_example: of the largest tensor that a layer gives for an example, at least 1.
        num_examples: in the largest split; small ones keep enough batches for threads and shards.
        on_gpu: whether a GPU evaluates.

    Returns:
        A power of two, from 32 to 4096 on a CPU, from 64 to 4096 on a GPU; above 512 no more than a sixteenth of the
        examples, on a GPU above 2048 no more than a sixteenth and below it a quarter.
    """
    least, budget = (64, 2**28) if on_gpu else (32, 2**22)
    few = max(512, min(2048, _power_of_two(num_examples // 4))) if on_gpu else 512
    most = min(4096, max(few, _power_of_two(num_examples // 16)))
    return max(least, min(most, _power_of_two(budget // max(1, bytes_per_example))))


def _power_of_two(most: int) -> int:
    """The largest one that is not above `most`; 1 at least."""
    return 1 << (max(1, most).bit_length() - 1)
