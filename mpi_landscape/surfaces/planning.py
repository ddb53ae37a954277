"""The plan of a job: how its data and its points are cut into tiles."""

from __future__ import annotations

from collections.abc import Mapping

from mpi_landscape.errors import LandscapeError
from mpi_landscape.evaluation.engine.description import Engine
from mpi_landscape.loading.resident import Resident
from mpi_landscape.placement.placing import Placed
from mpi_landscape.plan.rules import (
    SHARING,
    choose_points_per_tile,
    choose_shards,
    choose_streamed_points,
    choose_streamed_shards,
)
from mpi_landscape.plan.tiles import Plan
from mpi_landscape.surfaces.evaluating import LARGE
from mpi_landscape.surfaces.recomputing import recomputes
from mpi_landscape.surfaces.request import Request

# The alphas of a strip of points that begin at each other's vectors, and the points of a grid from which on a tile is a
# square of it: half a square leaves enough tiles for 16 ranks on 21 x 21 points.
STRIP, MANY_POINTS = 4, 1600


def cut_data(request: Request, placed: Placed, before: Mapping[str, int]) -> dict[str, int]:
    """The number of shards of every split: by rule, as the order of sums depends on it.

    Args:
        request: What was asked for.
        placed: The data.
        before: Shards of the file that may be continued, empty without one: where memory has become short or plenty since,
            the data may be held otherwise now, and are cut as they were.

    Raises:
        LandscapeError: Several shards are asked for, and a quantity does not add up over them.
    """
    asked, num_points = request.compute.data_shards, request.grid.num_points
    if not placed.quantities.adds_up:
        if asked not in ("auto", 1):
            name = placed.quantities.computed[0]
            instead = "" if request.search else f", or leave {name} out of compute.quantities"
            raise LandscapeError(
                f"compute.data_shards is {asked}, but {name} is known only from a whole split; leave it auto{instead}"
            )
        return dict.fromkeys(placed.splits, 1)
    batches = {split: examples.num_batches for split, examples in placed.splits.items()}
    if asked == "auto" and before.keys() == batches.keys():
        return {split: min(count, before[split]) for split, count in batches.items()}
    if asked == "auto" and (placed.precision.kept or recomputes(request)):
        # A tile of less than a split would pay again for its way to the points, or for their statistics.
        return dict.fromkeys(batches, 1)
    automatic = (
        {split: choose_streamed_shards(num_points, count) for split, count in batches.items()}
        if _is_streamed(placed)
        else choose_shards(num_points, batches)
    )
    return {split: min(count, _or(asked, automatic[split])) for split, count in batches.items()}


def points_at_once(placed: Placed, shards: Mapping[str, int], num_parameters: int) -> int:
    """Points that the threads of a rank evaluate at once: more than one where a shard has too few batches for them.

    Args:
        placed: The data, threads and free memory, an eighth of which may go into further points.
        shards: As `cut_data` gives them.
        num_parameters: Numbers in a flat vector.
    """
    # A large network has no vectors to spare: one more is a share of the memory that nobody expects.
    spare = placed.free_bytes // (32 * num_parameters) if num_parameters < LARGE else 0
    most = max(-(-placed.splits[split].num_batches // count) for split, count in shards.items())
    return max(1, min(-(-placed.threads // most), 1 + spare))


def make_plan(
    request: Request,
    placed: Placed,
    shards: Mapping[str, int],
    engine: Engine,
    at_once: int,
    seconds: float,
    before: int | None,
) -> Plan:
    """Cut the points by what one costs.

    Args:
        request: What was asked for.
        placed: The data.
        shards: As `cut_data` gives them.
        engine: How points are evaluated.
        at_once: Points that a rank evaluates at once.
        seconds: What one rank needs for a point.
        before: Points in a tile of the file that may be continued, None without one: measured again, a tile may come out
            otherwise.
    """
    num_points, num_units = request.grid.num_points, sum(shards.values())
    batches = {split: examples.num_batches for split, examples in placed.splits.items()}
    if _is_streamed(placed):
        most = max(placed.splits[split].num_examples // count for split, count in shards.items())
        points = choose_streamed_points(num_points, num_units, most)
    else:
        longest = max(-(-count // shards[split]) for split, count in batches.items())
        share = min(1.0, longest / sum(batches.values()))
        points = choose_points_per_tile(num_points, num_units, seconds, share)
    if request.grid.strips:
        points = STRIP**2 if num_points >= MANY_POINTS else STRIP**2 // 2
    # What is shared at several points is nothing beside a solver's passes, and short tiles keep all ranks busy.
    if engine.shares_points and request.search is None:
        points = max(points, SHARING)
    # Work for every thread.
    points = before or -(-points // at_once) * at_once
    return Plan(
        num_points=num_points,
        points_per_tile=min(num_points, _or(request.compute.points_per_tile, points)),
        shards=tuple(shards.items()),
    )


def _is_streamed(placed: Placed) -> bool:
    return any(not isinstance(examples, Resident) for examples in placed.splits.values())


def _or(request: int | str, automatic: int) -> int:
    return automatic if isinstance(request, str) else request
