"""Which examples stand for all: strata from a few trial points, a random order within each. Collective.

The order is drawn once, by the run that makes the file, and kept in the file: whoever goes on with it, on whatever
machine, evaluates the same examples.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from mpi_landscape.errors import LandscapeError
from mpi_landscape.evaluation.evaluator import Evaluator
from mpi_landscape.evaluation.precision import precision_of
from mpi_landscape.loading.resident import Examples
from mpi_landscape.parallel.broadcast import broadcast, sum_over_ranks
from mpi_landscape.parallel.ranks import Ranks
from mpi_landscape.plan.grid import Grid
from mpi_landscape.plan.samples import Sample, choose_first, cut
from mpi_landscape.plan.strata import stratify
from mpi_landscape.plan.tiles import Plan, shard_bounds
from mpi_landscape.storage import identity
from mpi_landscape.storage.surface.reader import read_orders

if TYPE_CHECKING:
    from mpi_landscape.surfaces.losses import Job

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

    @property
    def text(self) -> str:
        """What identifies it."""
        cuts = [np.array([sample.strata, sample.examples]) for sample in self.samples]
        return identity.fingerprint(*cuts, *self.orders.values())


def wanted(ranks: Ranks, path: Path | None, relative_error: float | None) -> tuple[bool, Sampling | None]:
    """Whether the plan is one of samples, and the sampling of the file that is to be continued. Collective.

    A plan is made with its file, so a file of exact values is not continued as one of samples, nor the other way round.

    Args:
        ranks: The job's ranks.
        path: The file; None when there is none to continue.
        relative_error: What this run is asked for.
    """
    found = ranks.on_root(lambda: read_orders(path) if path is not None and path.exists() else None)
    exists, samples, splits = ranks.share((True, found[0], list(found[1])) if found else (False, (), []))
    if not samples:
        return not exists and relative_error is not None, None
    orders = {split: _everywhere(ranks, found[1][split] if found else None) for split in splits}
    return True, Sampling(samples=samples, orders=orders)


def fits(sampling: Sampling, residents: Mapping[str, Examples]) -> bool:
    """Whether a file's sampling is one of these splits; where it is not, the file's identity tells what differs."""
    sizes = {split: order.size for split, order in sampling.orders.items()}
    return sizes == {split: resident.num_examples for split, resident in residents.items()}


def draw(job: Job, ranks: Ranks, evaluator: Evaluator, residents: Mapping[str, Examples]) -> Sampling:
    """Choose strata and order: rank 0's choice, from losses that all ranks compute together. Collective."""
    points = trial_points(job.grid)
    samples, orders = [], {}
    for place, (split, resident) in enumerate(residents.items()):
        num, first = choose_first(resident.num_examples, resident.batch_size)
        size = resident.num_examples
        if num > 1:
            losses = _trial_losses(job, ranks, evaluator, resident, points)
            strata = stratify(losses, num=num, step=resident.batch_size, least=first) if ranks.is_root else []
        else:
            strata = [np.arange(size)]
        generator = np.random.default_rng([_SEED, place])
        order = (
            np.concatenate([generator.permutation(members) for members in strata]) if ranks.is_root else None
        )
        sizes = ranks.share([members.size for members in strata])
        orders[split] = _everywhere(ranks, order)
        samples.append(cut(sizes, first))
    evaluator.move()
    return Sampling(samples=tuple(samples), orders=orders)


def trial_points(grid: Grid) -> list[tuple[float, ...]]:
    """The center, and the first points of the coarse-to-fine order: the corners."""
    alpha, beta = grid.coordinates(grid.points(np.arange(min(_MAX_TRIALS, grid.num_points))))
    far: list[tuple[float, ...]] = [
        point for point in zip(alpha.tolist(), beta.tolist(), strict=True) if any(point)
    ]
    wanted = max(1, min(_MAX_TRIALS, grid.num_points // _POINTS_PER_TRIAL))
    return [(0.0, 0.0), *far][:wanted]


def sampled_plan(job: Job, sampling: Sampling, splits: list[str]) -> Plan:
    """The plan of a sampled surface.

    Raises:
        LandscapeError: `compute.data_shards` asks for another cut.
    """
    if job.compute.data_shards != "auto":
        raise LandscapeError(
            f"compute.data_shards is {job.compute.data_shards}, but a surface of samples cuts its data into nested samples; "
            f"leave it auto, or leave out the relative error"
        )
    shards = tuple((split, sample.num_shards) for split, sample in zip(splits, sampling.samples, strict=True))
    num_points, per_point = job.grid.num_points, sum(count for _, count in shards)
    wanted = job.compute.points_per_tile
    automatic = -(-num_points * per_point // _MAX_TILES)
    return Plan(
        num_points=num_points,
        points_per_tile=min(num_points, automatic if isinstance(wanted, str) else wanted),
        shards=shards,
        samples=sampling.samples,
    )


def sampled_batch_size(automatic: int, splits: Mapping[str, Dataset[Any]]) -> int:
    """Examples per batch of a sampled plan: few enough that a first level is a small part of the largest split.

    Args:
        automatic: What the size of an example suggests.
        splits: The data.
    """
    most = max(len(dataset) for dataset in splits.values())  # type: ignore[arg-type]
    return max(16, min(automatic, 1 << max(most // 512, 1).bit_length() - 1))


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
    job: Job, ranks: Ranks, evaluator: Evaluator, resident: Examples, points: list[tuple[float, ...]]
) -> NDArray[np.float64]:
    """(num_trials, N) float64: every example's loss at every trial point, each rank taking its share of the batches."""
    losses = np.zeros((len(points), resident.num_examples))
    first, stop = shard_bounds(resident.num_batches, ranks.size, ranks.rank)
    start = first * resident.batch_size
    precision = precision_of(job.compute.precision)
    with precision.computing(), closing(resident.pieces(first, stop)) as pieces:
        for batch in (batch for piece in pieces for batch in piece):
            for row, point in enumerate(points):
                # The center has as many coordinates as a surface, also on a line.
                values = evaluator.example_losses(batch, point[: len(job.directions)])
                losses[row, start : start + batch.valid] = values
            start += batch.valid
    return sum_over_ranks(ranks, losses)


def _everywhere(ranks: Ranks, order: NDArray[np.int64] | None) -> NDArray[np.int64]:
    return broadcast(ranks, order).astype(np.int64, copy=False)
