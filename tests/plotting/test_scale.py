from __future__ import annotations

import numpy as np
import pytest

from mpi_landscape.errors import LandscapeError
from plotting.picture.scale import choose_scale

BOWL = np.add.outer(np.linspace(-1, 1, 21) ** 2, np.linspace(-1, 1, 31) ** 2) + 0.01


@pytest.mark.parametrize(
    ("values", "kind", "reason"),
    [
        (BOWL, "linear", "a bowl"),
        (10 ** (10 * BOWL / BOWL.max()), "log", "ten orders of magnitude"),
        (
            np.append(np.linspace(1, 5, 99), 1e-9),
            "linear",
            "a deep narrow funnel keeps its form on a linear scale",
        ),
        (np.append(np.linspace(1, 2, 99), 1e6), "log", "an exploding corner would flatten all else"),
        (np.append(np.linspace(1, 2, 99), [1e6, 0.0]), "linear", "zero has no logarithm"),
        (np.append(np.linspace(1, 2, 99), [1e6, -1.0]), "linear", "nor has a negative eigenvalue"),
        (np.full((2, 3), 2.3), "linear", "a constant"),
        (np.full((2, 3), np.nan), "linear", "nothing finite"),
        (np.array([1.0, np.inf, np.nan]), "linear", "infinity has no say"),
    ],
)
def test_auto_takes_the_logarithm_only_where_a_linear_scale_hides_most_points(values, kind, reason):
    scale = choose_scale(values, where="x")
    assert scale.kind == kind, reason
    assert scale.vmin < scale.vmax, reason
    assert np.isfinite([scale.vmin, scale.vmax]).all(), reason


def test_the_ends_are_the_smallest_and_the_largest_finite_value():
    scale = choose_scale(np.array([[np.nan, 3.0, 1.0], [7.0, np.inf, 2.0]]), where="x")
    assert (scale.vmin, scale.vmax) == (1.0, 7.0)


def test_levels_given_by_the_user_are_kept_inside_the_ends():
    assert choose_scale(BOWL, where="x", levels=(-1.0, 0.5, 1.0, 9.0)).levels == (0.5, 1.0)


def test_levels_respect_ends_given_by_the_user():
    scale = choose_scale(BOWL, where="x", vmin=0.4, vmax=0.9)
    assert (scale.vmin, scale.vmax) == (0.4, 0.9)
    assert len(scale.levels) > 3
    assert all(0.4 < level < 0.9 for level in scale.levels)


def test_a_linear_scale_has_evenly_spaced_levels():
    steps = np.diff(choose_scale(BOWL, where="x", kind="linear").levels)
    np.testing.assert_allclose(steps, steps[0], rtol=1e-12)


def test_values_without_a_logarithm_are_not_shown_on_a_logarithmic_scale():
    values = np.array([0.0, -1.0, 1.0, 10.0, np.nan, np.inf])
    scale = choose_scale(values, where="x", kind="log")
    assert scale.shows(values).tolist() == [False, False, True, True, False, False]
    assert (scale.vmin, scale.vmax) == (1.0, 10.0)


@pytest.mark.parametrize(
    ("vmin", "vmax", "extend"),
    [(None, None, "neither"), (0.5, None, "min"), (None, 1.0, "max"), (0.5, 1.0, "both")],
)
def test_a_color_bar_points_to_where_values_lie_beyond_its_ends(vmin, vmax, extend):
    assert choose_scale(BOWL, where="x", vmin=vmin, vmax=vmax).extend(BOWL) == extend


@pytest.mark.parametrize(
    ("options", "words", "reason"),
    [
        ({"vmin": 2.0, "vmax": 1.0}, "--vmin 2 is not below --vmax 1", "swapped"),
        ({"vmin": 1.0, "vmax": 1.0}, "not below", "equal"),
        ({"vmin": 99.0}, "values lie between 0.01 and 2.01", "above all values"),
        ({"vmax": -5.0}, "values lie between 0.01 and 2.01", "below all values"),
        ({"vmin": float("nan")}, "not finite", "NaN"),
        ({"vmin": -1.0, "kind": "log"}, "no place on --scale log", "no logarithm"),
    ],
)
def test_ends_that_make_no_sense_are_refused(options, words, reason):
    with pytest.raises(LandscapeError) as caught:
        choose_scale(BOWL, where="x", **options)
    assert words in str(caught.value), reason


def test_a_logarithm_of_nothing_positive_is_refused():
    with pytest.raises(LandscapeError, match=r"lambda_min.*positive"):
        choose_scale(-BOWL, where="lambda_min", kind="log")
