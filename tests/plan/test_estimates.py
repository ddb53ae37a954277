"""Estimates against plain sums over the examples, all samples of a small population, and repeated draws of larger ones."""

import itertools
from dataclasses import replace
from math import comb

import numpy as np
import pytest

from mpi_landscape.plan import estimates
from mpi_landscape.plan.drawing import draw
from mpi_landscape.plan.estimates import estimate, step
from mpi_landscape.plan.samples import Sample, cut, shards_between


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
    sample = cut([600, 300], 50, [5.0, 40.0])
    losses = np.concatenate([rng.lognormal(-2, 1, (3, 600)), rng.lognormal(1, 1, (3, 300))], axis=1)
    correct = rng.random((3, 900)) < 0.5
    return sample, losses, correct, shard_sums(sample, losses, correct)


@pytest.fixture
def plain(monkeypatch):
    """Cochran's formula and nothing else."""
    monkeypatch.setattr(estimates, "PSEUDO", 0.0)
    monkeypatch.setattr(estimates, "MARGIN", 1.0)
    monkeypatch.setattr(estimates, "_TINY", 0.0)


@pytest.mark.usefixtures("plain")
def test_an_estimate_is_the_stratified_mean_with_its_standard_error(known):
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


def test_a_standard_error_counts_two_unseen_examples_as_far_off_as_is_plausible(known):
    sample, losses, _, sums = known
    found = estimate(sample, np.array([2, 1]), sums)
    parts, sizes = (losses[:, :100], losses[:, 600:650]), (600, 300)
    for point in range(3):
        seen = [part[point] for part in parts]
        loss = sum(n / 900 * values.mean() for n, values in zip(sizes, seen, strict=True))
        squares = sum(n * np.mean(values**2) for n, values in zip(sizes, seen, strict=True))
        around = squares / sum(n * values.mean() for n, values in zip(sizes, seen, strict=True))
        variance = 0.0
        for n, values in zip(sizes, seen, strict=True):
            usual = np.sqrt(
                3 * np.mean(seen[1] ** 2)
            )  # of the second stratum, the first has the outstanding ones
            plausible = max(np.sum(values**2) / np.sum(values), around, usual, loss)
            spread = np.sum((values - values.mean()) ** 2) + 2 * plausible**2
            variance += (n / 900) ** 2 * 1.3 * spread / (len(values) + 1) * (1 / len(values) - 1 / n)
        assert found.stderr[point] == pytest.approx(np.sqrt(variance), rel=1e-10)


def test_the_margin_stays_and_what_is_plausible_vanishes_with_more_examples(known, monkeypatch):
    sample, _, _, sums = known
    ratios = []
    for levels in ([1, 1], [2, 2], [3, 3]):
        cautious = estimate(sample, np.array(levels), sums).stderr
        with monkeypatch.context() as patch:
            patch.setattr(estimates, "PSEUDO", 0.0)
            patch.setattr(estimates, "MARGIN", 1.0)
            ratios.append(float((cautious / estimate(sample, np.array(levels), sums).stderr).max()))
    assert np.sqrt(1.3) < ratios[2] < ratios[0] < 2


SMALL = [
    ([1.0, 2, 4, 7], [3.0, 3, 5, 11], "moderate"),
    ([0.0, 0, 0, 1], [0.0, 0, 0, 0], "one in eight"),
    ([0.1, 0.1, 0.1, 0.1], [0.1, 0.2, 0.1, 100], "one carries all"),
    ([-3.0, 2, 1, -1], [4.0, -4, 2, 1], "both signs"),
]


def of_all_samples(first, second):
    """Estimate and standard error of every sample of two of four and two of four: 36 of each."""
    sample = Sample(strata=(0, 0, 1, 1), examples=(2, 2, 2, 2), largest=(1.0,) * 4)
    found = []
    for left, right in itertools.product(itertools.combinations(range(4), 2), repeat=2):
        orders = [[*chosen, *(each for each in range(4) if each not in chosen)] for chosen in (left, right)]
        losses = np.concatenate([np.array(first)[orders[0]], np.array(second)[orders[1]]])[None]
        known = estimate(sample, np.array([1, 1]), shard_sums(sample, losses, losses > 1))
        found.append((known.loss[0], known.stderr[0]))
    return np.array(found).T


@pytest.mark.parametrize(("first", "second", "reason"), SMALL)
def test_over_all_samples_an_estimate_is_unbiased_and_its_error_bar_no_smaller_than_it_errs(
    first, second, reason
):
    loss, stderr = of_all_samples(first, second)
    truth = np.mean([*first, *second])
    assert loss.mean() == pytest.approx(truth, rel=1e-12), reason
    assert np.mean(stderr**2) >= np.mean((loss - truth) ** 2), reason
    assert (stderr > 0).all(), reason


@pytest.mark.usefixtures("plain")
@pytest.mark.parametrize(("first", "second", "reason"), SMALL)
def test_over_all_samples_plain_variances_are_exact(first, second, reason):
    loss, stderr = of_all_samples(first, second)
    assert np.mean(stderr**2) == pytest.approx(loss.var(), rel=1e-12), reason


@pytest.mark.parametrize("size", [64, 128, 512])
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_of_examples_that_are_all_alike_the_error_bar_is_the_rule_of_three(size, value):
    num = 5000
    sample = cut([num], size, [1.0])
    losses = np.full((1, num), value)
    found = estimate(sample, np.array([1]), shard_sums(sample, losses, losses > 0))
    # The smallest number of others that is beyond two standard errors: how likely is a sample without any of them?
    others = int(2 * found.stderr[0] * num) + 1
    assert comb(num - others, size) / comb(num, size) < 0.05


@pytest.mark.parametrize("trials", [0.0, 1.0])
@pytest.mark.parametrize(
    ("losses", "reason"),
    [
        (np.zeros(960), "none has a loss"),
        (np.ones(960), "all alike"),
        (np.arange(960) == 959, "one has, and it comes last"),
        (np.where(np.arange(960) < 640, 0.0, 2.0), "alike in each stratum"),
        (np.full(960, 1e-200), "whose square is zero in float64"),
        (np.where(np.arange(960) % 2, 1.0, -1.0), "of both signs, that cancel"),
    ],
)
def test_a_standard_error_is_zero_only_where_all_examples_are_in(losses, trials, reason):
    sample = cut([640, 320], 64, [trials, trials])
    losses = losses[None].astype(np.float64)
    sums = shard_sums(sample, losses, losses > 0)
    *states, last = walk(sample, sums)
    assert states
    for levels in states:
        found = estimate(sample, levels, sums)
        assert found.stderr[0] > 0, reason
        assert found.loss[0] != 0 or found.relative_error == np.inf, reason
    found = estimate(sample, last, sums)
    assert found.stderr[0] == found.relative_error == 0
    assert found.loss[0] == pytest.approx(losses.mean(), rel=1e-13)


def test_files_of_the_first_version_keep_their_standard_errors(known):
    sample, losses, _, sums = known
    old = replace(sample, largest=())
    found = estimate(old, np.array([2, 1]), sums)
    parts, sizes = (losses[:, :100], losses[:, 600:650]), (600, 300)
    means = [part.mean(1) for part in parts]
    loss = sum(n / 900 * mean for n, mean in zip(sizes, means, strict=True))
    whole = sum(n / 900 * np.mean(part**2, axis=1) for n, part in zip(sizes, parts, strict=True)) - loss**2
    variance = 0.0
    for n, part, mean in zip(sizes, parts, means, strict=True):
        spread = np.sum((part - mean[:, None]) ** 2, axis=1) + 2 * whole
        variance = variance + (n / 900) ** 2 * spread / (part.shape[1] + 1) * (1 / part.shape[1] - 1 / n)
    assert found.stderr == pytest.approx(np.sqrt(variance), rel=1e-10)
    same = np.ones((1, 900))
    assert estimate(old, np.array([2, 1]), shard_sums(old, same, same > 0)).stderr[0] == np.inf


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
    sample = cut([640, 640], 64, [1.0, 30.0])
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
    sample = cut([640, 320], 64, [1.0, 1.0])
    losses = np.full((1, 960), value)
    sums = shard_sums(sample, losses, losses > 1)
    recwarn.clear()
    assert len(walk(sample, sums)) < 10, reason
    found = estimate(sample, np.array([1, 1]), sums)
    if not np.isfinite(value):
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
    ("rare", lambda rng: (rng.random(6000) < 0.003).astype(float), "nearly all are zero"),
    ("heavy", lambda rng: rng.pareto(1.5, 6000) + 1, "no variance"),
]


@pytest.mark.slow
@pytest.mark.exhaustive
@pytest.mark.parametrize(("name", "make", "reason"), POPULATIONS)
def test_the_truth_lies_within_two_standard_errors(name, make, reason):
    inside, errors = [], []
    for seed in range(300):
        rng = np.random.default_rng(seed)
        losses = make(rng)[None]
        # A trial point with much noise.
        trial = np.exp(np.log(losses + 1e-3) + rng.standard_normal(6000))
        order, sample = draw(trial, num=4, first=256, step=128, generator=rng)
        sums = shard_sums(sample, losses[:, order], losses > 0)
        for levels in walk(sample, sums):
            found = estimate(sample, levels, sums)
            # Where the path stops is part of what must be covered.
            if found.relative_error <= 0.02:
                break
        error = abs(found.loss[0] - losses.mean())
        inside.append(error <= 2 * found.stderr[0] + 1e-12)
        errors.append(error / losses.mean())
    # Of 300 draws with a probability of 0.95 less than 0.92 are in once in 100 times.
    assert np.mean(inside) >= 0.92, reason
    assert max(errors) < 0.1, reason
