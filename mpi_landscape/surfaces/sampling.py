"""Which examples stand for all: strata from a few trial points, a random order within each. Collective.

The order is drawn once, by the run that makes the file, and kept in the file: whoever goes on with it, on whatever
machine, evaluates the same examples.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from mpi_landscape.configuration.sections.work import ComputeConfiguration
from mpi_landscape.errors import LandscapeError
from mpi_landscape.evaluation.evaluator import Evaluator
from mpi_landscape.evaluation.precision import Precision
from mpi_landscape.evaluation.reference import Reference
from mpi_landscape.loading.batches import Examples
from mpi_landscape.parallel.broadcast import broadcast, sum_over_ranks
from mpi_landscape.parallel.ranks import Ranks
from mpi_landscape.plan.decisions import Decisions
from mpi_landscape.plan.drawing import draw as draw_order
from mpi_landscape.plan.grid import Grid
from mpi_landscape.plan.samples import Sample, choose_first
from mpi_landscape.plan.tiles import Plan, shard_bounds
from mpi_landscape.storage import identity
from mpi_landscape.storage.surface.reader import read_beginning

# The center and the grid's corners; fewer on a small grid, where each is a large part of all the work.
_MAX_TRIALS, _POINTS_PER_TRIAL = 5, 40
# A tile of one point is refined for that point alone; the table of tiles stays small all the same.
_MAX_TILES = 2**22
_SEED = 0


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How the splits are held and cut.

    Attributes:
        samples: One per split, in the order of the splits.
        orders: (N,) int64 by split: which example comes first, second, ...
    """

    samples: tuple[Sample, ...]
    orders: Mapping[str, NDArray[np.int64]]

    def fits(self, splits: Mapping[str, Examples]) -> bool:
        """Whether it is of these splits; where it is not, the file's identity tells what differs."""
        sizes = {split: order.size for split, order in self.orders.items()}
        return sizes == {split: examples.num_examples for split, examples in splits.items()}

    @property
    def text(self) -> str:
        """What identifies it."""
        cuts = [np.array([sample.strata, sample.examples]) for sample in self.samples]
        largest = [np.array(sample.largest) for sample in self.samples if sample.largest]
        return identity.fingerprint(*cuts, *largest, *self.orders.values())


@dataclass(frozen=True, kw_only=True)
class Before:
    """What the file that may be continued says of itself; whether it is of this run shows later.

    Attributes:
        attributes: All of them, the same on every rank.
        returned: Further numbers of the loss that it keeps.
        samples: How its splits are cut, of a plan of samples.
        orders: The order of their examples; on rank 0 alone.
    """

    attributes: Mapping[str, Any]
    returned: tuple[str, ...] = ()
    samples: tuple[Sample, ...] = ()
    orders: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)


def read_before(ranks: Ranks, path: Path | None) -> Before | None:
    """What a file says, read once by rank 0; None where there is none. Collective."""
    found = ranks.on_root(lambda: read_beginning(path) if path is not None and path.exists() else None)
    told = ranks.share((*found[:3], list(found[3])) if found else None)
    if told is None:
        return None
    attributes, quantities, samples, splits = told
    # The names alone where the orders are not: they are large, and travel when they are wanted.
    orders = found[3] if found else {split: np.empty(0, dtype=np.int64) for split in splits}
    return Before(attributes=attributes, returned=quantities.returned, samples=samples, orders=orders)


def decisions(before: Before | None) -> Decisions:
    """What was decided for the file that may be continued; nothing without one."""
    return Decisions() if before is None else Decisions.of(before.attributes, before.returned)


def wanted(ranks: Ranks, before: Before | None, relative_error: float | None) -> tuple[bool, Sampling | None]:
    """Whether the plan is one of samples, and the sampling of the file that is to be continued. Collective.

    A plan is made with its file, so a file of exact values is not continued as one of samples, nor the other way round.

    Args:
        ranks: The job's ranks.
        before: That file; None when there is none to continue.
        relative_error: What this run is asked for.
    """
    if before is None or not before.samples:
        return _is_sampled(before, relative_error), None
    orders = {split: _everywhere(ranks, order) for split, order in before.orders.items()}
    return True, Sampling(samples=before.samples, orders=orders)


def _is_sampled(before: Before | None, relative_error: float | None) -> bool:
    return relative_error is not None if before is None else bool(before.samples)


def most_per_batch(
    splits: Mapping[str, Dataset[Any]], before: Before | None, relative_error: float | None
) -> int | None:
    """Examples per batch at most, so that a first level of samples is a small part of the largest split; None if exact."""
    if not _is_sampled(before, relative_error):
        return None
    most = max(len(dataset) for dataset in splits.values())  # type: ignore[arg-type]
    return max(16, 1 << max(most // 512, 1).bit_length() - 1)


def draw(
    ranks: Ranks,
    evaluator: Evaluator | Reference,
    splits: Mapping[str, Examples],
    grid: Grid,
    precision: Precision,
) -> Sampling:
    """Choose strata and order: rank 0's choice, from losses that all ranks compute together. Collective."""
    # The center has as many coordinates as a surface, also on a line.
    points = [point[: grid.num_directions] for point in trial_points(grid)]
    samples, orders = [], {}
    for place, (split, examples) in enumerate(splits.items()):
        size, step = examples.num_examples, examples.batch_size
        num, first = choose_first(size, step)
        losses = (
            _trial_losses(ranks, evaluator, examples, points, precision) if num > 1 else np.zeros((1, size))
        )
        generator = np.random.default_rng([_SEED, place])
        drawn = (
            draw_order(losses, num=num, first=first, step=step, generator=generator)
            if ranks.is_root
            else None
        )
        orders[split] = _everywhere(ranks, drawn[0] if drawn else None)
        sample = ranks.share(drawn[1] if drawn else None)
        assert sample is not None, "rank 0 has drawn it"
        samples.append(sample)
    evaluator.move()
    return Sampling(samples=tuple(samples), orders=orders)


def trial_points(grid: Grid) -> list[tuple[float, ...]]:
    """The center, and the first points of the coarse-to-fine order: the corners."""
    coordinates = grid.coordinates(grid.points(np.arange(min(_MAX_TRIALS, grid.num_points))))
    far: list[tuple[float, ...]] = [
        point for point in zip(*(each.tolist() for each in coordinates), strict=True) if any(point)
    ]
    wanted = max(1, min(_MAX_TRIALS, grid.num_points // _POINTS_PER_TRIAL))
    return [(0.0,) * len(coordinates), *far][:wanted]


def sampled_plan(grid: Grid, compute: ComputeConfiguration, sampling: Sampling, splits: list[str]) -> Plan:
    """The plan of a sampled surface.

    Raises:
        LandscapeError: `compute.data_shards` asks for another cut.
    """
    if compute.data_shards != "auto":
        raise LandscapeError(
            f"compute.data_shards is {compute.data_shards}, but a surface of samples cuts its data into nested samples; "
            f"leave it auto, or leave out the relative error"
        )
    shards = tuple((split, sample.num_shards) for split, sample in zip(splits, sampling.samples, strict=True))
    num_points, per_point = grid.num_points, sum(count for _, count in shards)
    wanted = compute.points_per_tile
    automatic = -(-num_points * per_point // _MAX_TILES)
    return Plan(
        num_points=num_points,
        points_per_tile=min(num_points, automatic if isinstance(wanted, str) else wanted),
        shards=shards,
        samples=sampling.samples,
    )


def describe(plan: Plan, target: float | None) -> str:
    """What the shards are, for people; nothing for a plan without samples."""
    if not plan.samples:
        return ""
    strata = ", ".join(
        f"{len(sample.sizes)} strata of {split}"
        for (split, _), sample in zip(plan.shards, plan.samples, strict=True)
    )
    aim = (
        "all are in, for exact values"
        if target is None
        else f"standard errors are at most {100 * target:g} %"
    )
    return f", nested samples of {strata}, until {aim}"


def _trial_losses(
    ranks: Ranks,
    evaluator: Evaluator | Reference,
    examples: Examples,
    points: list[tuple[float, ...]],
    precision: Precision,
) -> NDArray[np.float64]:
    """(num_trials, N) float64: every example's loss at every trial point, each rank taking its share of the batches."""
    losses = np.zeros((len(points), examples.num_examples))
    first, stop = shard_bounds(examples.num_batches, ranks.size, ranks.rank)
    start = first * examples.batch_size
    with precision.computing(), closing(examples.pieces(first, stop)) as pieces:
        for batch in (batch for piece in pieces for batch in piece):
            for row, point in enumerate(points):
                values = evaluator.example_losses(batch, point)
                losses[row, start : start + batch.valid] = values
            start += batch.valid
    return sum_over_ranks(ranks, losses)


def _everywhere(ranks: Ranks, order: NDArray[np.int64] | None) -> NDArray[np.int64]:
    return broadcast(ranks, order).astype(np.int64, copy=False)


def check_whole_rows(splits: Mapping[str, Examples]) -> None:
    """Refuse to sample padded batches: they are made of neighbors by length, and samples of examples drawn at random."""
    padded = [split for split, examples in splits.items() if not examples.whole_rows()]
    if padded:
        raise LandscapeError(
            f"compute.relative_error: split {padded[0]} is in batches that a collate_fn pads, which cannot be sampled; valid "
            f"is the exact surface (without it), or items of one size"
        )


def check_uncounted(row: NDArray[np.float64], num_examples: int) -> None:
    """Refuse to sample examples that do not count the same: the standard error of such a mean is another one."""
    if (row[:, 2] != num_examples).any():
        raise LandscapeError(
            "compute.relative_error: the loss says by how much each example counts (tokens, weights of classes), and an "
            "error bar of such a mean is not known here; valid is the exact surface (without it), or a loss whose examples "
            "count the same"
        )
