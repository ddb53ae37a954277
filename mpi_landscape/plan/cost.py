"""What a surface will cost before it is computed: time, core-hours and memory, on any number of ranks. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence

from mpi_landscape.errors import LandscapeError
from mpi_landscape.plan.tiles import Plan
from mpi_landscape.wording import amount, duration, either

# The numbers of ranks that a dry run shows, besides its own.
RANKS = (1, 4, 16, 64, 256, 1024, 4096)
_FLOAT = 4


def efficiency(plan: Plan, ranks: int) -> float:
    """The share of the ranks' time, in (0, 1], that is spent on tiles, when tiles and ranks are alike.

    Tiles go in rounds, one for each rank, and in the last round some ranks have none.
    """
    rounds = -(-plan.num_tiles // ranks)
    return plan.num_tiles / (rounds * ranks)


def expected_seconds(plan: Plan, seconds_per_point: float, ranks: int) -> float:
    """How long all tiles take, where one rank needs `seconds_per_point` for a point over all splits."""
    return plan.num_points * seconds_per_point / (ranks * efficiency(plan, ranks))


def longest_tile(plan: Plan, seconds_per_point: float, shares: Sequence[float]) -> float:
    """Seconds of the longest tile; `shares` says how much of a point's time each split takes, in the plan's order."""
    units = [share / count for share, (_, count) in zip(shares, plan.shards, strict=True)]
    return min(plan.points_per_tile, plan.num_points) * seconds_per_point * max(units)


def check_time_limit(limit: float | None, tile: float, points_per_tile: int, *, whole: bool = False) -> None:
    """Refuse a job that would stop before its first tile, which takes so long, is done, every time that it is run.

    `whole` says that something is known only from a whole split, which is not cut into shards.

    Raises:
        LandscapeError: The limit in seconds, if there is one, is shorter than the tile.
    """
    if limit is not None and limit < tile:
        ways = [
            "a longer limit",
            *[f"a compute.points_per_tile below {points_per_tile}"] * (points_per_tile > 1),
            *["more compute.data_shards"] * (not whole),
        ]
        raise LandscapeError(
            f"--time-limit: {limit:g} s is shorter than a tile, which is expected to take {duration(tile)}, so that nothing "
            f"would ever be done; valid is {either(ways)}"
        )


def memory_per_rank(
    num_parameters: int,
    num_directions: int,
    *,
    data: int,
    activations: int,
    folded: bool,
    kept: int | None = None,
) -> int:
    """Bytes that a rank holds while it evaluates: its vectors, the data, and a batch's activations.

    Center, current point and the directions are of one size each; a folded network has a center of its own.

    Args:
        num_parameters: Numbers in a flat vector.
        num_directions: 1 for a line, 2 for a surface.
        data: This rank's share of all splits, as they are held.
        activations: Of the batches that it evaluates at once.
        folded: Whether the vectors that are evaluated are not those of the plain network.
        kept: Bytes of the network, its center and the ends of directions, where all of these keep their types: there are no
            vectors then.
    """
    if kept is not None:
        return kept + data + activations
    return (2 + num_directions + folded) * _FLOAT * num_parameters + data + activations


def table(
    plan: Plan, seconds_per_point: float, *, ranks: int, threads: int, on_gpu: bool, memory: int
) -> list[str]:
    """Time and hours on this number of ranks and on others, in lines for people.

    A rank has `threads` cores, or is a GPU, and needs so many seconds for a point and the bytes of `memory_per_rank`.
    """
    counts = sorted({ranks, *(count for count in RANKS if count <= plan.num_tiles)})
    unit = "GPU-hours" if on_gpu else "core-hours"
    lines = [f"cost        {'ranks':>7}  {'time':>14}  {unit:>12}  {'efficiency':>10}"]
    for count in counts:
        seconds = expected_seconds(plan, seconds_per_point, count)
        hours = seconds * count * (1 if on_gpu else threads) / 3600
        mark = "  (this run)" if count == ranks else ""
        lines.append(
            f"            {count:>7,}  {duration(seconds).removeprefix('about '):>14}  {hours:>12.3g}  "
            f"{100 * efficiency(plan, count):>8.1f} %{mark}"
        )
    lines.append(f"memory      {amount(memory)} per rank: parameter vectors, data, and a batch's activations")
    return lines
