"""Drawing: every example once, in whole batches, and the outstanding ones always."""

import doctest

import numpy as np
import pytest

from mpi_landscape.plan import drawing
from mpi_landscape.plan.drawing import draw

RNG = np.random.default_rng(3)
HEAVY = RNG.lognormal(0, 1.5, (3, 5000))
STRANGE = HEAVY.copy()
STRANGE[1, [17, 4000]] = np.nan, np.inf


def test_examples_in_docstrings_are_true():
    assert doctest.testmod(drawing).failed == 0


@pytest.mark.parametrize(
    ("losses", "reason"),
    [
        (HEAVY, "heavy tails"),
        (HEAVY[:1], "one trial point"),
        (STRANGE, "not all finite"),
        (HEAVY - 5, "of both signs"),
        (np.ones((2, 5000)), "all alike: two strata, and more examples in each"),
        (np.zeros((2, 5000)), "no loss at all"),
    ],
)
def test_every_example_is_in_it_once_in_whole_batches(losses, reason):
    order, sample = draw(losses, num=8, first=128, step=32, generator=np.random.default_rng(0))
    assert sorted(order.tolist()) == list(range(5000)), reason
    assert sum(sample.examples) == 5000
    assert all(size % 32 == 0 for size in sample.examples[:-1]), reason
    first = np.array(sample.examples)[sample.first_shards]
    assert first.sum() >= min(1024, 5000), reason
    assert sample.num_levels[0] == 1, "the outstanding ones are always in"
    known = np.where(np.isfinite(losses), np.abs(losses), 0).max(axis=0)
    for shard, (stop, size) in enumerate(zip(sample.stops, sample.examples, strict=True)):
        assert sample.largest[shard] >= known[order[stop - size : stop]].max(), reason
    assert max(sample.largest) == known.max(), reason


def test_what_is_outstanding_at_any_trial_point_is_in_the_first_stratum():
    losses = np.stack([RNG.uniform(1, 2, 5000), RNG.uniform(100, 200, 5000)])
    losses[0, 3000], losses[1, 44] = 50.0, 4000.0
    losses[1, 999] = np.nan
    order, sample = draw(losses, num=8, first=128, step=32, generator=np.random.default_rng(0))
    assert {3000, 44, 999} <= set(order[: sample.examples[0]].tolist())


def test_within_strata_the_order_is_random_and_between_them_it_is_not():
    drawn = [
        draw(HEAVY, num=4, first=256, step=32, generator=np.random.default_rng(seed)) for seed in range(2)
    ]
    (first, sample), (second, again) = drawn
    assert sample == again
    assert first.tolist() != second.tolist()
    stops = np.cumsum(sample.sizes).astype(int)[:-1]
    for one, other in zip(np.split(first, stops), np.split(second, stops), strict=True):
        assert sorted(one.tolist()) == sorted(other.tolist())


def test_with_one_stratum_all_are_evaluated():
    order, sample = draw(np.zeros((1, 700)), num=1, first=700, step=32, generator=np.random.default_rng(0))
    assert sample.examples == (700,)
    assert sorted(order.tolist()) == list(range(700))
