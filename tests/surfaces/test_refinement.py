"""The account of a sampled surface: what is evaluated depends on the sums alone, never on who was quick."""

import numpy as np
import pytest

from mpi_landscape.parallel.root import WAIT
from mpi_landscape.plan.grid import Axis, Grid
from mpi_landscape.plan.quantities import Quantities
from mpi_landscape.plan.samples import cut
from mpi_landscape.plan.tiles import Plan
from mpi_landscape.surfaces.refinement import Refinement

SAMPLES = (cut([640, 640], 64), cut([320], 64))
GRID = Grid(Axis(0, 1, 7))
PLAN = Plan(
    num_points=7,
    points_per_tile=2,
    shards=(("train", SAMPLES[0].num_shards), ("test", SAMPLES[1].num_shards)),
    samples=SAMPLES,
)


def sums_of(index):
    """Losses of a lognormal distribution, planted by tile: more spread at later points."""
    tile = PLAN.tile(index)
    rng = np.random.default_rng(index)
    size = PLAN.sample(tile.split).examples[tile.shard]
    spread = 0.1 + 0.1 * np.arange(tile.start, tile.stop)[:, None]
    losses = np.exp(spread * rng.standard_normal((tile.num_points, size)))
    return np.stack([losses.sum(1), losses.sum(1) * 0, np.full(tile.num_points, size), (losses**2).sum(1)], 1)


def place_of(known):
    """Split and first point of what has become known."""
    first = int(np.flatnonzero(GRID.points(np.arange(GRID.num_points)) == known.places[0][0])[0])
    return next(iter(known.values)).split("_")[0], first


def play(target, *, hands=1, chance=None, before=(), stop_after=None):
    """Hand out tiles to so many hands that return them in a random order; returns the tiles done and the values."""
    account = Refinement(GRID, PLAN, Quantities(), target)
    for index in before:
        account.take_over(index, sums_of(index))
    values = {place_of(known): known.values for known in account.begin()}
    queue, held, done, ended = iter(account), [], list(before), False
    while not ended or held:
        while len(held) < hands and not ended:
            tile = next(queue, None)
            if tile == WAIT:
                assert held, "nothing is under way that could bring more"
                break
            if tile is None:
                assert not held, "it ended while a result was still to come"
                ended = True
                break
            held.append(tile)
        if held:
            index = held.pop(0 if chance is None else int(chance.integers(len(held))))
            done.append(index)
            known = account.add(index, sums_of(index))
            if known is not None:
                values[place_of(known)] = known.values
            if stop_after is not None and len(done) - len(before) >= stop_after:
                return done, values, account
    return done, values, account


def same(first, second):
    return first.keys() == second.keys() and all(
        first[key][kind].tobytes() == second[key][kind].tobytes() for key in first for kind in first[key]
    )


@pytest.mark.parametrize("target", [0.2, 0.05, 0.01, None])
def test_the_tiles_and_the_values_are_the_same_in_any_order_of_arrival(target):
    done, values, account = play(target)
    assert len(set(done)) == len(done)
    assert account.error <= (target or 0)
    for seed in range(5):
        others, found, _ = play(target, hands=1 + 3 * seed, chance=np.random.default_rng(seed))
        assert sorted(others) == sorted(done)
        assert same(found, values)


@pytest.mark.parametrize("target", [0.05, None])
def test_stopped_anywhere_and_resumed_equals_undisturbed(target):
    done, values, _ = play(target)
    for stop_after in range(1, len(done), 5):
        first, _, _ = play(target, hands=4, chance=np.random.default_rng(stop_after), stop_after=stop_after)
        again, found, _ = play(target, before=first)
        assert sorted(again) == sorted(done)
        assert same(found, values)


def test_a_smaller_target_only_adds_to_a_larger_one():
    sizes = []
    before = ()
    for target in (0.2, 0.05, 0.01, None):
        direct, _, _ = play(target)
        continued, values, account = play(target, before=before)
        assert set(before) < set(continued)
        assert len(set(continued)) == len(continued), "a tile was evaluated twice"
        assert sorted(continued) == sorted(direct)
        assert account.error <= (target or 0)
        before = tuple(continued)
        sizes.append(len(continued))
    assert sizes[-1] == PLAN.num_tiles
    assert all((known[f"{split}_loss_stderr"] == 0).all() for (split, _), known in values.items())


def test_a_larger_target_afterwards_forgets_nothing():
    done, values, _ = play(0.01)
    again, found, account = play(0.2, before=done)
    assert sorted(again) == sorted(done)
    assert same(found, values)
    assert account.num_left == 0


def test_all_points_get_their_first_state_before_any_gets_a_second():
    account = Refinement(GRID, PLAN, Quantities(), 0.01)
    list(account.begin())
    first = [tile for tile in (next(iter(account)) for _ in range(PLAN.num_chunks * 3)) if tile != WAIT]
    levels = {PLAN.tile(tile).shard for tile in first if PLAN.tile(tile).split == "train"}
    assert levels == set(SAMPLES[0].first_shards.tolist())
    assert {PLAN.tile(tile).start for tile in first} == {0, 2, 4, 6}


def test_the_largest_error_goes_on_first():
    account = Refinement(GRID, PLAN, Quantities(), 0.001)
    list(account.begin())
    queue = iter(account)
    for _ in range(PLAN.num_chunks * 3):
        index = next(queue)
        account.add(index, sums_of(index))
    # The spread grows with the position, so the last chunk is the least known.
    assert PLAN.tile(next(queue)).start == 6
