"""The benchmark of error bars: its populations are what they say, and it knows the truth."""

import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def error_bars(monkeypatch):
    """The program, as a module."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    for name in ("error_bars", "populations"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    import error_bars

    assert Path(error_bars.__file__).parent == BENCHMARKS
    yield error_bars
    for name in ("error_bars", "populations"):
        sys.modules.pop(name, None)


# At the solution, from the definitions.
MEANS = [
    ("exponential", 1.0, 0.05, "the mean of -log u"),
    ("normal, 5 + g", 5.0, 0.05, "its own"),
    ("0-1, 1 %", 0.01, 0.2, "the share of wrong ones, of 200"),
    ("0-1, 50 %", 0.5, 0.05, "half"),
    ("Pareto 2.5", 2.5 / 1.5, 0.05, "shape / (shape - 1)"),
    ("lognormal", np.exp(2.0), 0.3, "exp(spread² / 2), of a tail that is heavy"),
    ("three outliers", 0.5 + 3e4 / 20_000, 0.01, "0.5 and three of 10,000"),
    ("all equal", 1.0, 1e-12, "all the same"),
]


@pytest.mark.parametrize(("name", "mean", "tolerance", "reason"), MEANS)
def test_a_population_has_the_mean_of_its_definition(error_bars, name, mean, tolerance, reason):
    losses = error_bars.POPULATIONS[name](np.random.default_rng(0), 20_000)(0.0, 0.0)
    assert losses.shape == (20_000,)
    assert losses.mean() == pytest.approx(mean, rel=tolerance), reason


def test_every_population_is_finite_on_the_whole_grid_and_has_losses(error_bars):
    for name, population in error_bars.POPULATIONS.items():
        losses = population(np.random.default_rng(0), 3000)
        for alpha, beta in ((0, 0), (-1, 1), (0.3, -0.7)):
            assert np.isfinite(losses(alpha, beta)).all(), name


@pytest.mark.parametrize("name", ["hinge", "three outliers", "all equal"])
def test_error_bars_hold(error_bars, name):
    found = error_bars.surface(name, 0, 8192, 0.02, True)
    assert found.inside.shape == (40,)
    # All points share their examples and err together: three in four is what a single surface can be held to.
    assert found.inside.mean() >= 0.75
    assert np.abs(found.error).max() < 0.06
    assert 0 < found.share <= 1


def test_what_no_trial_point_and_no_sample_shows_is_not_known(error_bars):
    found = error_bars.surface("three outliers, hidden", 0, 8192, 0.02, True)
    assert np.abs(found.error).max() > 0.5, "the limit that docs/anytime.md states"


def test_the_sums_are_those_of_a_loop(error_bars):
    sample = error_bars.cut([100, 60], 40)
    losses = np.random.default_rng(0).normal(size=(2, 160))
    sums, start = error_bars.sums_of(sample, losses), 0
    for shard, size in enumerate(sample.examples):
        for point in range(2):
            part = losses[point, start : start + size].tolist()
            assert sums[shard, point].tolist() == pytest.approx(
                [sum(part), 0, size, sum(value * value for value in part)]
            )
        start += size
