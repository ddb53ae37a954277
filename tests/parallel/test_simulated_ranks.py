"""The real coordinator against thousands of simulated workers: properties that must hold for any speeds and any stop."""

import importlib.util
import sys
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

pytest.importorskip("mpi4py.MPI", reason="pip install mpi4py mpich, or mpi4py and an MPI library")


@pytest.fixture(scope="module")
def simulated():
    path = Path(__file__).parents[2] / "benchmarks" / "simulated_ranks.py"
    spec = importlib.util.spec_from_file_location("simulated_ranks", path)
    module = sys.modules["simulated_ranks"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@st.composite
def cases(draw):
    """Numbers of ranks and tiles, speeds and costs."""
    slow = draw(st.sampled_from([1.0, 0.5, 0.1, 0.01]))
    count = draw(st.integers(0, 60))
    batches = st.just(3) if draw(st.booleans()) else st.integers(0, 6)
    tiles = draw(st.permutations(range(count)))
    return {
        "tiles": [10 * tile for tile in tiles],
        "speeds": draw(st.lists(st.sampled_from([1.0, 1.0, 1.0, slow]), min_size=1, max_size=40)),
        "batches": dict(zip((10 * tile for tile in tiles), draw(_many(batches, count)), strict=True)),
        "batch_seconds": draw(st.sampled_from([1e-4, 1e-2, 1.0])),
        "jitter": draw(st.sampled_from([0.0, 0.05, 0.5])),
        "seed": draw(st.integers(0, 100)),
        "ahead": draw(st.booleans()),
    }


def _many(each, count):
    return st.lists(each, min_size=count, max_size=count)


# More than is drawn: every rank has a message or two under way.
LARGE = {
    "tiles": list(range(400, 0, -1)),
    "speeds": [0.1 if rank % 7 == 3 else 1.0 for rank in range(200)],
    "batches": {tile: tile % 7 for tile in range(401)},
    "batch_seconds": 1e-2,
    "jitter": 0.5,
    "seed": 1,
    "ahead": True,
}


def run(simulated, case, **more):
    return simulated.simulate(**{**case, "batches": case["batches"].__getitem__}, **more)


@given(case=cases())
@example(case=LARGE)
@example(case={**LARGE, "ahead": False, "jitter": 0.0})
def test_every_tile_is_evaluated_exactly_once_at_any_speeds(simulated, case):
    done = run(simulated, case)
    assert sorted(tile for _, tile in done.evaluated) == sorted(case["tiles"])
    assert sorted(done.recorded) == sorted(case["tiles"])
    assert done.complete
    assert done.reasons == {}
    assert done.stray == 0


# When which rank is told to stop, as shares of all ranks and of the time that the whole takes.
TOLD = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1.1)), min_size=1, max_size=3)


@given(case=cases(), told=TOLD)
@example(case=LARGE, told=[(0.5, 0.3), (0.0, 0.31)])
def test_a_stop_at_any_time_loses_nothing_that_was_evaluated_and_ends_every_rank(simulated, case, told):
    whole = run(simulated, case)
    last = len(case["speeds"]) - 1
    done = run(simulated, case, stops={round(who * last): when * whole.seconds for who, when in told})
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
