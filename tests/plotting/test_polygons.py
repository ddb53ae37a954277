"""The module `plotting.drawn.polygons`."""

from __future__ import annotations

import numpy as np
import pytest

from plotting.drawn.polygons import triangulate
from plotting.picture.field import field_of


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
