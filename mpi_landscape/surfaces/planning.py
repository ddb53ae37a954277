"""The plan of a job: how its data and its points are cut into tiles."""

from __future__ import annotations

from collections.abc import Mapping

from mpi_landscape.configuration.sections.work import ComputeConfiguration
from mpi_landscape.errors import LandscapeError
from mpi_landscape.evaluation.engine.description import Engine
from mpi_landscape.loading.batches import Examples
from mpi_landscape.loading.resident import Resident
from mpi_landscape.plan.grid import Grid
from mpi_landscape.plan.quantities import Quantities
from mpi_landscape.plan.rules import (
    SHARING,
    choose_points_per_tile,
    choose_shards,
    choose_streamed_points,
    choose_streamed_shards,
)
from mpi_landscape.plan.tiles import Plan


def cut_data(
    num_points: int,
    compute: ComputeConfiguration,
    examples: Mapping[str, Examples],
    before: Mapping[str, int],
    quantities: Quantities,
) -> dict[str, int]:
    """The number of shards of every split: by rule, as the order of sums depends on it.

    Args:
        num_points: Of the grid.
        compute: What was asked for.
        examples: The data by split.
        before: Shards of the file that may be continued, empty without one: where memory has become short or plenty since,
            the data may be held otherwise now, and are cut as they were.
        quantities: What is known at a point.

    Raises:
        LandscapeError: Several shards are asked for, and a quantity does not add up over them.
    """
    if not quantities.adds_up:
        if compute.data_shards not in ("auto", 1):
            raise LandscapeError(
                f"compute.data_shards is {compute.data_shards}, but {quantities.computed[0]} is known only from a whole split; "
                f"leave it auto, or leave {quantities.computed[0]} out of compute.quantities"
            )
        return dict.fromkeys(examples, 1)
    batches = {split: each.num_batches for split, each in examples.items()}
    if compute.data_shards == "auto" and before.keys() == batches.keys():
        return {split: min(count, before[split]) for split, count in batches.items()}
    automatic = (
        {split: choose_streamed_shards(num_points, count) for split, count in batches.items()}
        if _is_streamed(examples)
        else choose_shards(num_points, batches)
    )
    return {split: min(count, _or(compute.data_shards, automatic[split])) for split, count in batches.items()}


def points_at_once(
    threads: int, shards: Mapping[str, int], examples: Mapping[str, Examples], spare: int
) -> int:
    """Points that the threads of a rank evaluate at once: more than one where a shard has too few batches for them.

    Args:
        threads: Of the rank.
        shards: As `cut_data` gives them.
        examples: The data by split.
        spare: Points whose vectors memory holds besides the first.
    """
    most = max(-(-examples[split].num_batches // count) for split, count in shards.items())
    return max(1, min(-(-threads // most), 1 + spare))


def make_plan(
    grid: Grid,
    compute: ComputeConfiguration,
    shards: Mapping[str, int],
    examples: Mapping[str, Examples],
    engine: Engine,
    at_once: int,
    seconds_per_point: float,
    before: int | None,
) -> Plan:
    """Cut the points by what one costs.

    Args:
        grid: The points.
        compute: What was asked for.
        shards: As `cut_data` gives them.
        examples: The data by split.
        engine: How points are evaluated.
        at_once: Points that a rank evaluates at once.
        seconds_per_point: What one rank needs for a point.
        before: Points in a tile of the file that may be continued, None without one: measured again, a tile may come out
            otherwise.
    """
    num_points = grid.num_points
    batches = {split: each.num_batches for split, each in examples.items()}
    if _is_streamed(examples):
        most = max(examples[split].num_examples // count for split, count in shards.items())
        points = choose_streamed_points(num_points, sum(shards.values()), most)
    else:
        longest = max(-(-count // shards[split]) for split, count in batches.items())
        share = min(1.0, longest / sum(batches.values()))
        points = choose_points_per_tile(num_points, sum(shards.values()), seconds_per_point, share)
    if engine.shares_points:
        points = max(points, SHARING)
    # Work for every thread.
    points = -(-points // at_once) * at_once
    if before is not None:
        points = before
    return Plan(
        num_points=num_points,
        points_per_tile=min(num_points, _or(compute.points_per_tile, points)),
        shards=tuple(shards.items()),
    )


def _is_streamed(examples: Mapping[str, Examples]) -> bool:
    return any(not isinstance(each, Resident) for each in examples.values())


def _or(request: int | str, automatic: int) -> int:
    return automatic if isinstance(request, str) else request
