"""Basins against a plain union-find, and against surfaces whose minima and passes are known."""

import builtins

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies
from hypothesis.extra.numpy import array_shapes, arrays

from mpi_landscape.errors import LandscapeError
from mpi_landscape.measures.persistence import basins_of
from mpi_landscape.measures.summary import measure, measured_lines
from mpi_landscape.storage.surface.value import Surface

pytest.importorskip("gudhi", reason="pip install gudhi: the extra persistence")


def by_hand(values, done):
    """Points by height, each joined to its neighbors: the younger of two basins that meet dies there."""
    parent, pairs = {}, []

    def root(place):
        while parent[place] != place:
            place = parent[place]
        return place

    known = [tuple(place) for place in np.argwhere(done & np.isfinite(values))]
    for place in sorted(known, key=lambda each: values[each]):
        parent[place] = place
        for axis in range(values.ndim):
            for step in (-1, 1):
                other = tuple(index + step * (each == axis) for each, index in enumerate(place))
                if other not in parent:
                    continue
                one, two = sorted((root(place), root(other)), key=lambda each: values[each])
                if one != two:
                    parent[two] = one
                    if values[place] > values[two]:
                        pairs.append((values[two], values[place]))
    alive = [(values[place], np.inf) for place in parent if parent[place] == place]
    return sorted(pairs + alive)


@hypothesis.given(
    arrays(
        np.float64,
        array_shapes(min_dims=1, max_dims=2, min_side=1, max_side=7),
        # Few heights, so that there are plateaus, and holes.
        elements=strategies.sampled_from([0.0, 1.0, 2.0, 3.0, 5.0, 8.0, np.nan, np.inf, -np.inf]),
    ),
    strategies.integers(0, 2**32),
)
def test_basins_are_those_of_a_plain_union_find(values, seed):
    done = np.random.default_rng(seed).uniform(size=values.shape) > 0.1
    known = done & np.isfinite(values)
    hypothesis.assume(known.any())
    found = basins_of(values, done)
    assert sorted((each.birth, each.death) for each in found) == by_hand(values, done)
    for each in found:
        assert known[each.place]
        assert values[each.place] == each.birth
        if each.saddle is not None:
            assert values[each.saddle] == each.death


def test_a_bowl_has_one_basin():
    x, y = np.meshgrid(np.linspace(-1, 2, 31), np.linspace(-1, 1, 17), indexing="ij")
    (only,) = basins_of((x - 0.5) ** 2 + 3 * y**2, np.ones(x.shape, dtype=bool))
    assert only.place == (15, 8)
    assert only.depth == np.inf


def test_two_wells_meet_at_their_saddle():
    x, y = np.meshgrid(np.linspace(-1.5, 1.5, 301), np.linspace(-1, 1, 201), indexing="ij")
    # Minima near ∓1, the right one higher; the saddle lies on y = 0.
    height = (x**2 - 1) ** 2 + 0.1 * x + y**2
    low, high = basins_of(height, np.ones(x.shape, dtype=bool))
    left, middle, right = np.sort(np.roots([4, 0, -4, 0.1]).real)
    assert x[low.place] == pytest.approx(left, abs=0.01)
    assert x[high.place] == pytest.approx(right, abs=0.01)
    assert x[high.saddle] == pytest.approx(middle, abs=0.01)
    assert y[high.saddle] == 0
    assert high.death == pytest.approx((middle**2 - 1) ** 2 + 0.1 * middle, abs=1e-3)


def test_a_grid_of_cosines_has_a_basin_for_every_period():
    x, y = np.meshgrid(np.linspace(0, 3, 121), np.linspace(0, 4, 161), indexing="ij")
    # −1 at the middle of each of 3 · 4 cells, passes at height 0 between neighbors.
    found = basins_of((np.cos(2 * np.pi * x) + np.cos(2 * np.pi * y)) / 2, np.ones(x.shape, dtype=bool))
    assert len(found) == 12
    np.testing.assert_allclose([each.birth for each in found], -1)
    np.testing.assert_allclose([each.death for each in found[1:]], 0, atol=1e-12)


def test_how_many_basins_goes_by_the_depth_asked_for():
    axis = np.linspace(0, 1, 5)
    values = np.array([0.0, 2.0, 1.0, 1.3, 1.2])
    line = Surface(
        path="a.h5", alpha=axis, beta=None, values={"train_loss": values}, done={"train": np.ones(5, bool)}
    )
    for rise, count in ((0.05, 3), (0.5, 2), (1.5, 1)):
        facts = measure(line, rise, persistence=True)
        (text,) = (each for each in measured_lines(facts) if "minima" in each)
        assert f"{count} basin{'s' * (count > 1)} of depth {rise:g} or more, of 3 minima" in text
    assert facts["losses"]["train_loss"]["basins"][1] == {
        "birth": 1.0, "death": 2.0, "at": [0.5], "pass": [0.25],
    }  # fmt: skip


def test_several_lines_have_no_basins_and_without_gudhi_the_extra_is_named(monkeypatch):
    lines = Surface(
        path="a.h5",
        alpha=np.array([0.0, 1]),
        beta=None,
        seeds=np.array([1, 2]),
        values={"train_loss": np.ones((2, 2))},
        done={"train": np.ones((2, 2), bool)},
    )
    with pytest.raises(LandscapeError, match="several lines"):
        measure(lines, 0.1, persistence=True)
    with pytest.raises(LandscapeError, match="no finite value"):
        basins_of(np.array([np.nan]), np.array([True]))
    imported = builtins.__import__

    def without(name, *rest, **named):
        if name == "gudhi":
            raise ImportError(name)
        return imported(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(LandscapeError, match=r"mpi_landscape\[persistence\]"):
        basins_of(np.ones(3), np.ones(3, dtype=bool))
