from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure

from plotting.drawn.contour import draw_contour, draw_filled, triangulate
from plotting.picture.field import field_of
from plotting.picture.scale import choose_scale

ALPHA = np.linspace(-1.0, 1.5, 101)
BETA = np.linspace(-0.5, 1.2, 75)


def _draw(surface, quantity="train_loss", *, draw=draw_contour, **options):
    ax = Figure().add_subplot()
    field = field_of(surface, quantity)
    scale = choose_scale(field.results, where="x", **options)
    contours, handles = draw(ax, field, scale)
    return ax, contours, [handle.get_label() for handle in handles]


def _points(contours):
    """Return the vertices of each level, as computed: to_polygons would simplify them."""
    return [path.vertices for path in contours.get_paths()]


def test_contours_of_a_bowl_lie_on_their_ellipses(planted):
    _, contours, _ = _draw(planted(alpha=ALPHA, beta=BETA), levels=(0.1, 0.2, 0.3))
    for level, points in zip((0.1, 0.2, 0.3), _points(contours), strict=True):
        assert len(points) > 20
        values = (points[:, 0] - 0.5) ** 2 + 4 * (points[:, 1] - 0.3) ** 2
        # Linear interpolation between grid points is off by at most 1/8 f'' h^2 along an edge.
        assert np.abs(values - level).max() < (2 * 0.025**2 + 8 * 0.023**2) / 8 * 1.05


def test_contours_close_around_the_planted_minimum_and_not_around_its_transpose(planted):
    _, contours, _ = _draw(planted(), levels=(0.1,))
    (points,) = _points(contours)
    center = (points.max(axis=0) + points.min(axis=0)) / 2
    np.testing.assert_allclose(center, [0.5, 0.3], atol=0.01)
    np.testing.assert_allclose(np.ptp(points, axis=0), [2 * np.sqrt(0.1), np.sqrt(0.1)], atol=0.03)


def test_contours_on_a_logarithmic_scale_are_interpolated_in_the_logarithm(planted):
    surface = planted(loss=lambda alpha, beta: 10 ** (4 * alpha + 0 * beta))
    _, contours, _ = _draw(surface, levels=(2.0, 300.0), kind="log")
    for level, points in zip((2.0, 300.0), _points(contours), strict=True):
        # The logarithm of this loss is linear, so the lines are exact.
        np.testing.assert_allclose(points[:, 0], np.log10(level) / 4, atol=1e-12)


def test_a_partial_file_is_drawn_from_its_finished_points_only(planted):
    done = np.zeros((26, 18), dtype=bool)
    done[::5, ::17] = True
    surface = planted(done=done, loss=lambda alpha, beta: 2 * alpha + 3 * beta)
    ax, contours, labels = _draw(surface, levels=(1.0,))
    (points,) = _points(contours)
    # A plane is interpolated exactly from any of its points.
    np.testing.assert_allclose(2 * points[:, 0] + 3 * points[:, 1], 1.0, atol=1e-12)
    assert np.ptp(points[:, 0]) > 2
    assert "computed points" in labels
    (dots,) = [line for line in ax.lines if line.get_gid() == "points"]
    assert len(dots.get_xdata()) == done.sum()


def _hole(loss=np.nan):
    values = np.add.outer(ALPHA, 2 * BETA)
    values[40:44, 30:33] = loss
    return values


@pytest.mark.parametrize("draw", [draw_contour, draw_filled])
@pytest.mark.parametrize(("loss", "name"), [(np.nan, "NaN"), (np.inf, "∞"), (-np.inf, "−∞")])
def test_no_line_and_no_band_crosses_a_result_that_is_not_finite(planted, draw, loss, name):
    ax, contours, labels = _draw(planted(alpha=ALPHA, beta=BETA, loss=_hole(loss)), draw=draw)
    assert labels == [f"result is {name}"]
    inside = (ALPHA[40] + 1e-9, BETA[30] + 1e-9), (ALPHA[43] - 1e-9, BETA[32] - 1e-9)
    for points in _points(contours):
        within = ((points > inside[0]) & (points < inside[1])).all(axis=1)
        assert not within.any()
    hatched = [patch for patch in ax.patches if patch.get_hatch()]
    assert hatched[0].get_path().contains_point((ALPHA[41], BETA[31]))


def test_a_partial_file_does_not_interpolate_across_a_result_that_is_not_finite(planted):
    values = np.add.outer(ALPHA, 2 * BETA)
    values[50, 36] = np.nan
    done = np.zeros(values.shape, dtype=bool)
    done[::10, ::6] = True
    done[-1, -1] = done[0, -1] = done[-1, 0] = True
    ax, contours, labels = _draw(planted(alpha=ALPHA, beta=BETA, loss=values, done=done), draw=draw_filled)
    assert "result is NaN" in labels
    point = (ALPHA[50], BETA[36])
    assert not any(path.contains_point(point) for path in contours.get_paths())
    assert any(patch.get_path().contains_point(point) for patch in ax.patches if patch.get_hatch())


def test_bands_cover_every_finite_point(planted):
    surface = planted()
    _, contours, _ = _draw(surface, draw=draw_filled)
    paths = contours.get_paths()
    for a in surface.alpha[1:-1:5]:
        for b in surface.beta[1:-1:5]:
            assert any(path.contains_point((a, b)) for path in paths)


def test_bands_reach_beyond_the_ends_of_the_scale(planted):
    _, contours, _ = _draw(planted(), draw=draw_filled, vmin=0.5, vmax=1.0)
    assert contours.extend == "both"


EMPTY = [
    (np.full((26, 18), 2.3), None, "constant: 2.3"),
    (np.full((26, 18), np.nan), None, "no finite value: every result is NaN"),
    (np.full((26, 18), np.inf), None, "no finite value: every result is ∞"),
    (None, 0, "no point is computed yet"),
    (None, 2, "only 2 points are computed: too few for contours"),
]


@pytest.mark.parametrize(("values", "count", "text"), EMPTY)
def test_a_picture_without_contours_says_why(planted, values, count, text):
    options = {} if values is None else {"loss": values}
    if count is not None:
        options["done"] = np.zeros((26, 18), dtype=bool)
        options["done"].flat[:count] = True
    ax, contours, _ = _draw(planted(**options))
    assert contours is None
    assert text in [word.get_text().replace("\n", " ") for word in ax.texts]


def test_levels_that_no_value_reaches_are_said_instead_of_warned_about(planted, recwarn):
    ax, contours, _ = _draw(planted(), levels=(500.0,))
    assert contours is None
    assert "no level lies between" in ax.texts[0].get_text()
    assert not recwarn.list


@pytest.mark.parametrize(("shift", "marked"), [(0.0, True), (5.0, False)])
def test_the_center_is_marked_only_where_it_lies_within_the_ranges(planted, shift, marked):
    ax, _, _ = _draw(planted(alpha=ALPHA + shift))
    assert bool([line for line in ax.lines if line.get_gid() == "center"]) == marked


def test_triangles_have_the_finished_points_as_corners_only(planted):
    done = np.zeros((26, 18), dtype=bool)
    done[::5, ::17] = True
    field = field_of(planted(done=done), "train_loss")
    triangles = triangulate(field, field.finite)
    places = {(a, b) for a in field.alpha[::5] for b in field.beta[::17]}
    assert set(zip(triangles.x.tolist(), triangles.y.tolist(), strict=True)) == places


@pytest.mark.parametrize(
    ("points", "reason"),
    [
        ([], "nothing is done"),
        ([(0, 0), (5, 5)], "two points"),
        ([(0, 0), (0, 4), (0, 9)], "one row"),
        ([(1, 1), (2, 2), (7, 7)], "one diagonal"),
    ],
)
def test_points_in_one_row_make_no_triangle(planted, points, reason):
    done = np.zeros((26, 18), dtype=bool)
    for point in points:
        done[point] = True
    field = field_of(planted(done=done), "train_loss")
    assert triangulate(field, field.finite) is None, reason
