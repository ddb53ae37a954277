"""Widths, barriers and rises against closed forms, a plain search and scipy's interpolation."""

import numpy as np
import pytest

from mpi_landscape.measures.rises import mean_rise
from mpi_landscape.measures.sides import barrier_of, ends_on_line, sides_of
from mpi_landscape.measures.summary import measure, measured_lines
from mpi_landscape.storage.surface.points import NamedPoint
from mpi_landscape.storage.surface.value import Surface


def known(values):
    return np.ones(np.shape(values), dtype=bool)


@pytest.mark.parametrize(("left", "right"), [(1.0, 1.0), (0.5, 8.0)])
def test_the_width_of_a_parabola_is_that_of_its_closed_form(left, right):
    axis = np.linspace(-2, 3, 4001)
    values = np.where(axis < 0.25, left, right) * (axis - 0.25) ** 2 + 7
    place = int(np.argmin(values))
    found = sides_of(axis, values, known(values), place, rise=0.3)
    np.testing.assert_allclose([side.width for side in found], np.sqrt([0.3 / left, 0.3 / right]), rtol=1e-3)


def test_a_width_is_interpolated_between_two_points():
    axis, rng = np.sort(np.random.default_rng(1).uniform(-1, 1, 12)), np.random.default_rng(2)
    values = np.concatenate([np.sort(rng.uniform(0.1, 1, 5))[::-1], [0.0], np.sort(rng.uniform(0.1, 1, 6))])
    left, right = sides_of(axis, values, known(values), 5, rise=0.4)
    # On a side the loss is monotonous: the way to a loss is the inverse function.
    assert right.width == pytest.approx(np.interp(0.4, values[5:], axis[5:]) - axis[5], rel=1e-12)
    assert left.width == pytest.approx(axis[5] - np.interp(0.4, values[5::-1], axis[5::-1]), rel=1e-12)


@pytest.mark.parametrize(
    ("values", "done", "why"),
    [
        ([0.0, 0.01, 0.02], [1, 1, 1], "not reached within the grid"),
        ([0.0, np.nan, 5.0], [1, 1, 1], "the loss is not finite at 1"),
        ([0.0, np.inf, 5.0], [1, 1, 1], "the loss is not finite at 1"),
        ([0.0, np.nan, 5.0], [1, 0, 1], "a point is not computed at 1"),
    ],
)
def test_a_rise_that_is_not_known_is_not_guessed(values, done, why):
    axis = np.array([0.0, 1.0, 2.0])
    left, right = sides_of(axis, np.array(values), np.array(done, dtype=bool), 0, rise=0.1)
    assert np.isnan(right.width)
    assert right.why.startswith(why)
    assert left.why == "not reached within the grid"


def test_the_barrier_of_a_double_well_is_the_height_of_its_middle():
    axis = np.linspace(-0.5, 1.5, 401)
    # Wells at 0 and 1, the second one higher by 0.2; the top of x² (1 − x)² is 1/16 at 1/2.
    values = 16 * axis**2 * (1 - axis) ** 2 + 0.2 * axis
    found = barrier_of(axis, values, known(values), (0.0, 1.0))
    inner = np.linspace(0, 1, 100_001)
    wanted = (16 * inner**2 * (1 - inner) ** 2 + 0.2 * inner).max() - 0.2
    assert found.ends == pytest.approx((0, 0.2))
    assert found.height == pytest.approx(wanted, rel=1e-4)
    assert values[0] > found.height + 0.2, "what is beyond the ends is no part of the way"


def test_ends_between_points_of_the_grid_are_interpolated_and_a_slope_has_no_barrier():
    axis = np.array([-0.3, 0.4, 0.9, 1.3])
    found = barrier_of(axis, 2 * axis + 1, known(axis), (0.0, 1.0))
    assert found.ends == pytest.approx((1, 3))
    assert (found.height, found.at) == (pytest.approx(0), 1.0)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"done": 2}, "1 of 5 points between the two are not computed"),
        ({"nan": 2}, "not finite at an end, or NaN on the way"),
        ({"inf": 0}, "not finite at an end"),
        ({"ends": (0.0, 1.5)}, "the grid does not reach from 0 to 1.5"),
    ],
)
def test_a_barrier_that_is_not_known_says_why(change, why):
    axis, values = np.linspace(0, 1, 5), np.array([0.0, 1, 2, 1, 0])
    done = known(values)
    if "done" in change:
        done[change["done"]] = False
    for name in ("nan", "inf"):
        if name in change:
            values[change[name]] = float(name)
    found = barrier_of(axis, values, done, change.get("ends", (0.0, 1.0)))
    assert np.isnan(found.height)
    assert why in found.why


def test_a_loss_that_is_infinite_on_the_way_is_an_infinite_barrier():
    axis = np.linspace(0, 1, 5)
    found = barrier_of(axis, np.array([0.0, 1, np.inf, 1, 0]), known(axis), (0.0, 1.0))
    assert (found.height, found.at) == (np.inf, 0.5)


def test_a_line_has_two_solutions_where_its_points_say_so():
    ends = (NamedPoint(name="a", at=(0.0,)), NamedPoint(name="b", at=(0.7,)))
    assert ends_on_line(ends, leads_to_checkpoint=False) == (0.0, 0.7)
    assert ends_on_line((), leads_to_checkpoint=True) == (0.0, 1.0), "a file of before"
    assert ends_on_line((), leads_to_checkpoint=False) is None
    projected = (ends[0], NamedPoint(name="b", at=(0.7,), outside=0.5))
    assert ends_on_line(projected, leads_to_checkpoint=True) is None


def test_the_mean_rise_has_the_standard_error_of_independent_lines():
    alpha = np.linspace(-1, 1, 5)
    # Along a random direction d of a quadratic the rise is α² dᵀHd / 2.
    steep = np.random.default_rng(0).chisquare(6, size=9)
    values = 3.0 + alpha[:, None] ** 2 * steep[None, :]
    found = mean_rise(alpha, values, known(values))
    np.testing.assert_allclose(found.mean, alpha**2 * steep.mean())
    np.testing.assert_allclose(found.stderr, alpha**2 * steep.std(ddof=1) / 3, atol=1e-15)
    values[0, 3], done = np.nan, known(values)
    done[0, 5] = False
    found = mean_rise(alpha, values, done)
    rest = np.delete(steep, [3, 5])
    assert found.lines.tolist() == [7, 9, 9, 9, 9]
    np.testing.assert_allclose(found.mean[0], rest.mean())
    np.testing.assert_allclose(found.stderr[0], rest.std(ddof=1) / np.sqrt(7))


def test_without_its_center_there_is_no_rise_and_of_one_line_no_error():
    values = np.array([[1.0], [2.0], [3.0]])
    assert mean_rise(np.array([1.0, 2, 3]), values, known(values)) is None
    found = mean_rise(np.array([-1.0, 0, 3]), values, known(values))
    assert found.mean.tolist() == [-1, 0, 1]
    assert np.isnan(found.stderr).all()


def test_what_is_measured_of_a_plane_goes_through_its_minimum():
    alpha, beta = np.linspace(-1, 2, 301), np.linspace(-0.5, 1, 151)
    values = (alpha[:, None] - 0.5) ** 2 + 4 * (beta[None, :] - 0.25) ** 2
    done = known(values)
    done[0, 0] = False
    values[-1, -1] = np.nan
    surface = Surface(
        path="a.h5", alpha=alpha, beta=beta, values={"train_loss": values}, done={"train": done}
    )
    facts = measure(surface, rise=0.16)["losses"]["train_loss"]
    assert facts["minimum"]["at"] == pytest.approx([0.5, 0.25])
    assert facts["left_out"] == {"not_done": 1, "not_finite": 1}
    for axis, width in (("alpha", 0.4), ("beta", 0.2)):
        for side in ("left", "right"):
            assert facts["widths"][axis][side]["width"] == pytest.approx(width, rel=1e-3)
    assert "barrier" not in facts
    text = "\n".join(measured_lines(measure(surface, rise=0.16)))
    assert "1 points that are not done and 1 that are not finite are left out" in text
    assert "width along beta to the left 0.2, to the right 0.2" in text
