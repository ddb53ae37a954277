"""The real coordinator against thousands of simulated workers: properties that must hold for any speeds and any stop."""

import importlib.util
import random
import sys
from pathlib import Path

import pytest

pytest.importorskip("mpi4py.MPI", reason="pip install mpi4py mpich, or mpi4py and an MPI library")


@pytest.fixture(scope="module")
def simulated():
    path = Path(__file__).parents[2] / "benchmarks" / "simulated_ranks.py"
    spec = importlib.util.spec_from_file_location("simulated_ranks", path)
    module = sys.modules["simulated_ranks"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def job(seed):
    """Numbers of ranks and tiles, speeds and costs, as varied as a seed makes them."""
    chance = random.Random(seed)
    size, count = chance.choice([1, 2, 3, 7, 40, 200]), chance.choice([0, 1, 2, 5, 60, 400])
    slow = chance.choice([1.0, 0.5, 0.1, 0.01])
    tiles = chance.sample(range(10 * count), count)
    batches = {tile: chance.randint(0, 6) if seed % 3 else 3 for tile in tiles}
    return {
        "tiles": tiles,
        "speeds": [slow if chance.random() < 0.2 else 1.0 for _ in range(size)],
        "batches": batches.__getitem__,
        "batch_seconds": chance.choice([1e-4, 1e-2, 1.0]),
        "jitter": chance.choice([0.0, 0.05, 0.5]),
        "seed": seed,
        "ahead": chance.random() < 0.8,
    }


@pytest.mark.parametrize("seed", range(60))
def test_every_tile_is_evaluated_exactly_once_at_any_speeds(simulated, seed):
    case = job(seed)
    done = simulated.simulate(**case)
    assert sorted(tile for _, tile in done.evaluated) == sorted(case["tiles"])
    assert sorted(done.recorded) == sorted(case["tiles"])
    assert done.complete
    assert done.reasons == {}
    assert done.stray == 0


@pytest.mark.parametrize("seed", range(60))
def test_a_stop_at_any_time_loses_nothing_that_was_evaluated_and_ends_every_rank(simulated, seed):
    case = job(1000 + seed)
    chance = random.Random(-seed)
    whole = simulated.simulate(**case)
    size = len(case["speeds"])
    stops = {
        chance.randrange(size): chance.uniform(0, 1.1) * whole.seconds
        for _ in range(chance.choice([1, 1, 3]))
    }
    done = simulated.simulate(**case, stops=stops)
    evaluated = [tile for _, tile in done.evaluated]
    assert len(set(evaluated)) == len(evaluated)
    assert sorted(done.recorded) == sorted(evaluated)
    assert done.complete == (len(evaluated) == len(case["tiles"]))
    assert done.stray == 0


def test_a_stop_in_the_middle_leaves_work_undone(simulated):
    done = simulated.simulate(
        range(1000), [1.0] * 50, batches=lambda _: 4, batch_seconds=0.01, stops={17: 0.4}
    )
    # 10 of 20 rounds were done when one rank was told to stop.
    assert 400 < len(done.recorded) < 600
    assert not done.complete


def test_tiles_are_begun_in_the_order_of_the_plan(simulated):
    done = simulated.simulate(range(300), [1.0] * 20, batches=lambda _: 3, batch_seconds=0.01)
    for rank in range(20):
        own = [tile for who, tile in done.evaluated if who == rank]
        assert own == sorted(own)


@pytest.mark.parametrize(
    ("speeds", "count", "least", "reason"),
    [
        ([1.0] * 64, 6400, 0.985, "equal ranks, 100 tiles each"),
        ([0.5 if rank % 10 == 5 else 1.0 for rank in range(64)], 6400, 0.98, "every tenth at half speed"),
        ([0.1 if rank % 16 == 5 else 1.0 for rank in range(64)], 6400, 0.98, "some ten times slower"),
        ([0.1] + [1.0] * 63, 6400, 0.98, "rank 0 ten times slower"),
        ([0.1 if rank == 9 else 1.0 for rank in range(64)], 640, 0.89, "ten rounds, one would take them all"),
    ],
)
def test_the_end_waits_for_no_slow_rank(simulated, speeds, count, least, reason):
    done = simulated.simulate(
        range(count), speeds, batches=lambda _: 10, batch_seconds=0.1, costs=simulated.Costs(write=1e-4)
    )
    assert count / sum(speeds) / done.seconds >= least, reason


def test_a_slow_rank_is_given_no_tile_for_which_the_others_would_wait(simulated):
    speeds = [1.0] * 31 + [0.1]
    done = simulated.simulate(range(320), speeds, batches=lambda _: 10, batch_seconds=0.1)
    # About 10 s of work for all: as long as the slow rank needs for a single tile.
    assert sum(rank == 31 for rank, _ in done.evaluated) == 1
    assert done.seconds < 12
