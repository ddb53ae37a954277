"""The module `plotting.picture.cells`."""

from __future__ import annotations

import numpy as np
import pytest

from plotting.picture.cells import edges, gaps, rectangles, runs, thin
from plotting.picture.field import field_of


@pytest.mark.parametrize(
    ("axis", "expected", "reason"),
    [
        ([0.0, 1.0, 2.0], [-0.5, 0.5, 1.5, 2.5], "half-way between points, and as far beyond the ends"),
        ([0.0, 1.0, 3.0], [-0.5, 0.5, 2.0, 4.0], "an uneven axis"),
        ([2.0], [1.5, 2.5], "one point"),
    ],
)
def test_cells_end_half_way_between_points(axis, expected, reason):
    np.testing.assert_allclose(edges(np.array(axis)), expected, err_msg=reason)


def test_runs_cover_exactly_the_mask():
    mask = np.random.default_rng(0).random((13, 7)) < 0.4
    again = np.zeros_like(mask)
    for row, start, stop in runs(mask):
        assert not again[row, start:stop].any()
        again[row, start:stop] = True
    np.testing.assert_array_equal(again, mask)


def test_rectangles_have_alpha_across_and_beta_along():
    mask = np.zeros((3, 4), dtype=bool)
    mask[2, 1:3] = True
    (box,) = rectangles(mask, np.array([0.0, 1, 2, 3]), np.array([0.0, 10, 20, 30, 40]))
    assert box.min(axis=0).tolist() == [2.0, 10.0]
    assert box.max(axis=0).tolist() == [3.0, 30.0]


def _area(polygons):
    x, y = polygons[..., 0], polygons[..., 1]
    return float(np.abs((x * np.roll(y, -1, axis=1) - y * np.roll(x, -1, axis=1)).sum(axis=1)).sum() / 2)


@pytest.mark.parametrize(
    ("bad", "area", "reason"),
    [
        ([(3, 3)], 2.0, "four triangles of half a mesh around a lone point"),
        ([(0, 0)], 0.5, "one triangle at a corner of the grid"),
        ([(3, 3), (3, 4)], 4.0, "two whole meshes between neighbors, and four triangles"),
        ([(3, 3), (4, 4)], 4.0, "one whole mesh on the diagonal, and six triangles"),
    ],
)
def test_gaps_are_what_contours_leave_empty(planted, bad, area, reason):
    values = np.ones((6, 7))
    for point in bad:
        values[point] = np.nan
    field = field_of(planted(alpha=np.arange(6.0), beta=np.arange(7.0), loss=values), "train_loss")
    polygons = gaps(field, field.finite, field.undefined)
    assert _area(polygons) == pytest.approx(area), reason


def test_thinning_keeps_the_ends_and_says_so(planted):
    field = field_of(planted(), "train_loss")
    thinned, note = thin(field, 9)
    assert thinned.values.shape == (9, 9)
    assert (thinned.alpha[[0, -1]] == field.alpha[[0, -1]]).all()
    assert (thinned.beta[[0, -1]] == field.beta[[0, -1]]).all()
    expected = (thinned.alpha[:, None] - 0.5) ** 2 + 4 * (thinned.beta - 0.3) ** 2
    np.testing.assert_allclose(thinned.values, expected)
    assert note == "drawn with 9 × 9 of 26 × 18 points"


@pytest.mark.parametrize("point", [(0, 0), (25, 17), (7, 4), (12, 11), (13, 16)])
def test_thinning_never_loses_a_result_that_is_not_finite(planted, point):
    values = np.ones((26, 18))
    values[point] = np.inf
    thinned, _ = thin(field_of(planted(loss=values), "train_loss"), 5)
    assert thinned.undefined.sum() == 1


def test_thinning_a_partial_field_keeps_its_finished_rows(planted):
    done = np.zeros((26, 18), dtype=bool)
    done[1::8, 3::7] = True
    thinned, _ = thin(field_of(planted(done=done), "train_loss"), 9)
    assert thinned.done.all()
    assert thinned.done.size == done.sum()


def test_a_small_field_is_left_as_it_is(planted):
    field = field_of(planted(), "train_loss")
    assert thin(field, 26) == (field, None)
