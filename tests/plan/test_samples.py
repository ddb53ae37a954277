"""Nested samples against plain sums over the examples themselves."""

import itertools

import numpy as np
import pytest

from mpi_landscape.plan import samples
from mpi_landscape.plan.samples import Sample, choose_first, cut, estimate, shards_between, step

CUTS = [
    ([1000], 64, [64, 64, 128, 256, 488], "the rest is less than one and a half levels"),
    ([640, 300], 64, [64, 64, 128, 256, 128, 64, 64, 172], "two strata"),
    ([50], 50, [50], "all in one level"),
    ([90], 64, [90], "a rest of half a level is taken along"),
]


@pytest.mark.parametrize(("sizes", "first", "expected", "reason"), CUTS)
def test_levels_double_until_the_stratum_ends(sizes, first, expected, reason):
    sample = cut(sizes, first)
    assert list(sample.examples) == expected, reason
    assert sample.sizes.tolist() == sizes, reason
    assert sample.num_levels.sum() == sample.num_shards


@pytest.mark.parametrize("batch_size", [1, 16, 64, 512])
@pytest.mark.parametrize("num_examples", [1, 100, 4095, 4096, 20_480, 50_000, 1_281_167])
def test_the_first_levels_are_at_least_1024_examples_and_at_most_a_quarter(num_examples, batch_size):
    strata, first = choose_first(num_examples, batch_size)
    assert strata >= 1
    assert strata * first == num_examples or 1024 <= strata * first <= num_examples / 4
    assert strata * first == num_examples or first % batch_size == 0


def test_the_shards_cover_all_batches_in_order():
    sample = cut([640, 320, 299], 64)
    bounds = [sample.batches(shard, 32) for shard in range(sample.num_shards)]
    assert bounds[0][0] == 0
    assert [stop for _, stop in bounds[:-1]] == [start for start, _ in bounds[1:]]
    assert bounds[-1][1] == -(-1259 // 32)


def shard_sums(sample: Sample, losses, correct):
    """(num_shards, num_points, 4) by a plain loop."""
    result, start = np.zeros((sample.num_shards, len(losses), 4)), 0
    for shard, size in enumerate(sample.examples):
        part = losses[:, start : start + size]
        result[shard] = np.stack(
            [
                part.sum(1),
                correct[:, start : start + size].sum(1),
                np.full(len(losses), size),
                (part**2).sum(1),
            ],
            1,
        )
        start += size
    return result


@pytest.fixture
def known():
    """Three points, 900 examples in strata of 600 and 300."""
    rng = np.random.default_rng(0)
    sample = cut([600, 300], 50)
    losses = np.concatenate([rng.lognormal(-2, 1, (3, 600)), rng.lognormal(1, 1, (3, 300))], axis=1)
    correct = rng.random((3, 900)) < 0.5
    return sample, losses, correct, shard_sums(sample, losses, correct)


def test_an_estimate_is_the_stratified_mean_with_its_standard_error(known, monkeypatch):
    monkeypatch.setattr(samples, "CAUTION", 0.0)
    sample, losses, correct, sums = known
    # Two levels of the first stratum, one of the second: 100 and 50 examples. What is not in must not matter.
    second = int(sample.first_shards[1])
    sums = sums.copy()
    sums[2:second] = sums[second + 1 :] = np.nan
    found = estimate(sample, np.array([2, 1]), sums)
    parts, sizes = [slice(0, 100), slice(600, 650)], [600, 300]
    mean = sum(n / 900 * losses[:, part].mean(1) for part, n in zip(parts, sizes, strict=True))
    right = sum(n / 900 * correct[:, part].mean(1) for part, n in zip(parts, sizes, strict=True))
    variance = sum(
        (n / 900) ** 2 * losses[:, part].var(1, ddof=1) * (1 / (part.stop - part.start) - 1 / n)
        for part, n in zip(parts, sizes, strict=True)
    )
    assert found.loss == pytest.approx(mean, rel=1e-12)
    assert found.means[:, 1] == pytest.approx(right, rel=1e-12)
    assert found.stderr == pytest.approx(np.sqrt(variance), rel=1e-10)
    assert found.relative_error == pytest.approx(max(np.sqrt(variance) / mean), rel=1e-10)


def test_caution_makes_a_standard_error_larger_and_vanishes_with_more_examples(known, monkeypatch):
    sample, _, _, sums = known
    ratios = []
    for levels in ([1, 1], [2, 2], [3, 3]):
        with_caution = estimate(sample, np.array(levels), sums).stderr
        with monkeypatch.context() as patch:
            patch.setattr(samples, "CAUTION", 0.0)
            ratios.append(float((with_caution / estimate(sample, np.array(levels), sums).stderr).max()))
    assert 1 < ratios[2] < ratios[0] < 1.5


def test_all_levels_give_the_mean_of_all_without_an_error(known):
    sample, losses, correct, sums = known
    found = estimate(sample, sample.num_levels, sums)
    # A sum of 900 numbers in another order: 900 roundings of 1.1e-16 at most.
    assert found.loss == pytest.approx(losses.mean(1), rel=1e-13)
    assert found.means[:, 1].tolist() == correct.mean(1).tolist()
    assert found.stderr.tolist() == [0, 0, 0]
    assert found.relative_error == 0


def walk(sample, sums):
    """All states of a path."""
    levels = np.ones_like(sample.num_levels)
    states = [levels]
    while not np.array_equal(levels, sample.num_levels):
        levels = step(sample, levels, sums)
        states.append(levels)
    return states


def test_a_path_only_grows_and_ends_with_all_examples(known):
    sample, _, _, sums = known
    states = walk(sample, sums)
    for before, after in itertools.pairwise(states):
        assert (after >= before).all()
        assert (after > before).any()
    added = [
        shards_between(sample, before, after) for before, after in zip([None, *states], states, strict=False)
    ]
    assert sorted(np.concatenate(added).tolist()) == list(range(sample.num_shards))


def test_a_step_goes_where_the_error_is():
    sample = cut([640, 640], 64)
    rng = np.random.default_rng(1)
    losses = np.concatenate([np.ones((1, 640)), rng.lognormal(0, 1, (1, 640))], axis=1)
    sums = shard_sums(sample, losses, losses > 0)
    assert step(sample, np.array([1, 1]), sums).tolist() == [1, 2]


STRANGE = [
    (np.nan, "NaN"),
    (np.inf, "infinite"),
    (1e200, "its square is too large for float64"),
    (0.0, "zero everywhere"),
]


@pytest.mark.parametrize(("value", "reason"), STRANGE)
def test_strange_losses_come_to_an_end_without_a_warning(value, reason, recwarn):
    sample = cut([640, 320], 64)
    losses = np.full((1, 960), value)
    sums = shard_sums(sample, losses, losses > 1)
    recwarn.clear()
    assert len(walk(sample, sums)) < 10, reason
    found = estimate(sample, np.array([1, 1]), sums)
    if not np.isfinite(value) or value == 0:
        # Whatever comes, it stays what it is.
        assert found.relative_error == 0, reason
    assert not np.isnan(found.stderr).any(), reason
    assert not recwarn.list, reason


POPULATIONS = [
    ("lognormal", lambda rng: rng.lognormal(0, 0.7, 6000), "moderate tails"),
    ("classes", lambda rng: 5.0 * (rng.random(6000) < 0.9) + rng.random(6000), "two kinds of examples"),
    (
        "minimum",
        lambda rng: np.where(rng.random(6000) < 0.02, rng.exponential(1, 6000), 1e-3),
        "few carry the loss",
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "draw", "reason"), POPULATIONS)
def test_the_truth_lies_within_two_standard_errors_nine_times_in_ten(name, draw, reason):
    inside = []
    for seed in range(300):
        rng = np.random.default_rng(seed)
        losses = np.sort(draw(rng))[None]
        # Strata as a trial point with much noise would make them.
        noisy = np.argsort(np.log(losses[0] + 1e-3) + rng.standard_normal(6000))
        strata = np.split(noisy, [1984, 3968])
        order = np.concatenate([rng.permutation(members) for members in strata])
        sample = cut([1984, 1984, 2032], 128)
        sums = shard_sums(sample, losses[:, order], losses > 0)
        for levels in walk(sample, sums):
            found = estimate(sample, levels, sums)
            # Where the path stops is part of what must be covered.
            if found.relative_error <= 0.02:
                break
        inside.append(abs(found.loss[0] - losses.mean()) <= 2 * found.stderr[0] + 1e-12)
    assert np.mean(inside) >= 0.9, reason
