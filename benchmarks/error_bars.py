"""Whether the error bars of the any-time mode hold, and what they cost: losses in closed form, the program's own path.

python benchmarks/error_bars.py                                 # half an hour on one core
python benchmarks/error_bars.py --seeds 5 --only "Pareto 1.5" --only hinge

For every population and every seed new examples are drawn, the losses of all of them are known at every point, and
`Refinement` goes along its path until every standard error is at most the target. The table says how often the exact loss
lies within two standard errors, over all points and at the worst point, the largest error, and the evaluations, beside
those of the method without knowledge from the trial points (as in files of version 0.1.0). Numpy only, no network.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from populations import POPULATIONS

from mpi_landscape.plan.drawing import draw
from mpi_landscape.plan.grid import Axis, Grid
from mpi_landscape.plan.quantities import Quantities
from mpi_landscape.plan.samples import Sample, choose_first, cut
from mpi_landscape.plan.strata import stratify
from mpi_landscape.plan.tiles import Plan
from mpi_landscape.surfaces.refinement import Refinement

Floats = NDArray[np.float64]

# Without the center, with the corners; four trial points and the center, as on any grid of 200 points or more.
GRID = Grid(Axis(-1, 1, 8), Axis(-1, 1, 5))
TRIALS = ((0.0, 0.0), (-1.0, -1.0), (-1.0, 1.0), (1.0, -1.0), (1.0, 1.0))


@dataclass(frozen=True, kw_only=True)
class Found:
    """What one surface came to.

    Attributes:
        error: (num_points,) estimate less exact loss, over the exact loss.
        inside: (num_points,) whether the exact loss lies within two standard errors.
        share: Of all evaluations, those that were made.
    """

    error: Floats
    inside: NDArray[np.bool_]
    share: float


def main() -> None:
    """Simulate and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--examples", type=int, default=20_480)
    parser.add_argument("--target", type=float, default=0.01, help="the relative error")
    parser.add_argument("--seeds", type=int, default=40)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--only", action="append", help="a population; again for another")
    options = parser.parse_args()
    names = options.only or list(POPULATIONS)
    print(HEAD)
    everything = []
    with ProcessPoolExecutor(options.processes) as processes:
        for name in names:
            work = [
                (name, seed, options.examples, options.target, informed)
                for informed in (True, False)
                for seed in range(options.seeds)
            ]
            found = list(processes.map(surface, *zip(*work, strict=True), chunksize=4))
            now, before = found[: options.seeds], found[options.seeds :]
            print(line(name, now, before), flush=True)
            everything.append([each.inside for each in now])
    print(
        f"\nOf all points of all surfaces {100 * np.mean(everything):.1f} % lie within two standard errors."
    )


COLUMNS = ("losses", "within 2 standard errors", "at the worst point", "largest error", "evaluations")
BEFORE = ("before: within 2", "worst point", "largest error", "evaluations", "cost over before")
HEAD = f"| {' | '.join((*COLUMNS, *BEFORE))} |\n| --- |{' ---: |' * 9}"


def line(name: str, now: Sequence[Found], before: Sequence[Found]) -> str:
    """A row of the table."""
    ratio = np.mean([found.share for found in now]) / np.mean([found.share for found in before])
    return f"| {name} | {' | '.join(columns(now))} | {' | '.join(columns(before))} | {ratio:.2f} |"


def columns(found: Sequence[Found]) -> list[str]:
    """Coverage, coverage at the worst point, largest error, evaluations."""
    inside = np.array([each.inside for each in found])
    error = max(float(np.max(np.abs(each.error))) for each in found)
    return [
        f"{100 * inside.mean():.1f} %",
        f"{100 * inside.mean(axis=0).min():.0f} %",
        f"{100 * error:.1f} %",
        f"{100 * np.mean([each.share for each in found]):.1f} %",
    ]


def surface(name: str, seed: int, num_examples: int, target: float, informed: bool) -> Found:
    """Go along the path of every point until the target is met."""
    # Another seed for every population; of a text a hash would be another one in every process.
    losses = POPULATIONS[name](np.random.default_rng([list(POPULATIONS).index(name), seed]), num_examples)
    points = GRID.points(np.arange(GRID.num_points))
    known = np.stack([losses(alpha, beta) for alpha, beta in zip(*GRID.coordinates(points), strict=True)])
    trials = np.stack([losses(*point) for point in TRIALS])
    # As the program chooses it.
    batch = max(16, 1 << max(num_examples // 512, 1).bit_length() - 1)
    num, first = choose_first(num_examples, batch)
    order, sample = (draw if informed else draw_as_before)(
        trials, num=num, first=first, step=batch, generator=np.random.default_rng([0, seed])
    )
    sums = sums_of(sample, known[:, order])
    plan = Plan(
        num_points=GRID.num_points,
        points_per_tile=1,
        shards=(("train", sample.num_shards),),
        samples=(sample,),
    )
    loss, stderr, done = follow(plan, sums, target)
    exact = known.mean(axis=1)[np.argsort(points)].reshape(GRID.shape)
    error = loss - exact
    # The trifle is of sums in another order.
    inside = np.abs(error) <= 2 * stderr + 1e-12 * np.abs(exact)
    examples = np.array(sample.examples)[done % plan.num_units].sum()
    share = float(examples) / (plan.num_points * num_examples)
    with np.errstate(invalid="ignore", divide="ignore"):
        relative = np.where(error == 0, 0.0, error / exact)
    return Found(error=relative.ravel(), inside=inside.ravel(), share=share)


def draw_as_before(
    losses: Floats, *, num: int, first: int, step: int, generator: np.random.Generator
) -> tuple[NDArray[np.int64], Sample]:
    """As version 0.1.0 drew: no stratum of what is outstanding, and none of the knowledge from the trial points."""
    strata = stratify(losses, num=num, step=step, least=first)
    order = np.concatenate([generator.permutation(members) for members in strata])
    return order, cut([members.size for members in strata], first)


def sums_of(sample: Sample, losses: Floats) -> Floats:
    """(num_shards, num_points, 4) float64: loss sum, correct, examples, sum of squares; losses in the order of the sample."""
    starts = np.array([0, *sample.stops[:-1]])
    total, squares = (np.add.reduceat(values, starts, axis=1).T for values in (losses, losses**2))
    examples = np.broadcast_to(np.array(sample.examples, dtype=np.float64)[:, None], total.shape)
    return np.stack([total, 0 * total, examples, squares], axis=2)


def follow(plan: Plan, sums: Floats, target: float) -> tuple[Floats, Floats, NDArray[np.int64]]:
    """Loss and standard error, (num_alpha, num_beta) each, and the tiles that were evaluated."""
    loss, stderr = np.full(GRID.shape, np.nan), np.full(GRID.shape, np.nan)
    account = Refinement(GRID, plan, Quantities(), target)
    list(account.begin())
    done = []
    for index in account:
        tile = plan.tile(index)
        done.append(index)
        published = account.add(index, sums[tile.shard, tile.start : tile.stop])
        if published is not None:
            loss[published.places] = published.values["train_loss"]
            stderr[published.places] = published.values["train_loss_stderr"]
    return loss, stderr, np.array(done)


if __name__ == "__main__":
    main()
