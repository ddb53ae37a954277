"""The plane against closed forms, numpy's least squares and the vectors that it was made of."""

import numpy as np
import pytest
import torch
from torch import nn

from mpi_landscape import LandscapeError
from mpi_landscape.geometry.layout import layout_of
from mpi_landscape.geometry.plane import Plane

SIZE = 7
LAYOUT = layout_of(nn.Linear(SIZE, 1, bias=False))


def drawn(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def plane_of(*directions, center=None):
    center = drawn(0, SIZE) if center is None else center
    return Plane(layout=LAYOUT, center=center, directions=dict(zip("abc", directions, strict=False)))


# Of lengths that differ by six orders of magnitude, at angles of about 6 and 84 degrees.
FIRST = 1e3 * drawn(1, SIZE)
OBLIQUE = plane_of(FIRST, 1e-3 * (FIRST / 1e3 + 0.1 * drawn(2, SIZE)), drawn(3, SIZE))


def test_the_center_is_at_the_origin_and_is_left_alone():
    center = drawn(0, SIZE)
    plane = plane_of(drawn(1, SIZE), center=center)
    found = plane.at([0])
    assert torch.equal(found, center)
    found += 1
    assert torch.equal(plane.center, drawn(0, SIZE))


def test_a_point_is_the_center_and_so_many_directions():
    found = OBLIQUE.at([0.25, -2, 3])
    expected = sum(
        (c * d.double() for c, d in zip([0.25, -2, 3], OBLIQUE.directions.values(), strict=True)),
        OBLIQUE.center.double(),
    )
    assert found.dtype == torch.float32
    # Three sums in float32 of numbers up to about 500.
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("direction", "vector", "coordinate", "distance", "reason"),
    [
        ([2.0, 0, 0], [6.0, 0, 0], 3.0, 0.0, "in units of the direction, not of length"),
        ([0, 0.5, 0], [0, 1.0, 3.0], 2.0, 3.0, "shorter than 1"),
        ([3.0, 4.0, 0], [3.0, 4.0, 12.0], 1.0, 12.0, "neither along an axis"),
        ([1.0, 1.0, 0], [1.0, -1.0, 0], 0.0, 2**0.5, "nothing of it"),
        ([-1.0, 0, 0], [2.0, 0, 0], -2.0, 0.0, "the other way"),
    ],
)
def test_a_projection_onto_a_line_is_the_quotient_of_two_products(
    direction, vector, coordinate, distance, reason
):
    layout = layout_of(nn.Linear(3, 1, bias=False))
    center = torch.tensor([10.0, 20, 30])
    line = Plane(layout=layout, center=center, directions={"alpha": torch.tensor(direction)})
    found, rest = line.project(center + torch.tensor(vector))
    assert found.shape == (1,)
    assert found.dtype == np.float64
    assert found[0] == pytest.approx(coordinate, abs=1e-12), reason
    assert rest == pytest.approx(distance, abs=1e-12), reason


def test_what_is_on_the_plane_comes_back_as_its_coordinates():
    exact = plane_of(*(each.double() for each in OBLIQUE.directions.values()), center=OBLIQUE.center.double())
    coordinates = [0.25, -2e3, 3]
    found, rest = exact.project(exact.at(coordinates))
    # About 650 of the first direction beside 5 of the second, at 6 degrees: 130 · 200 roundings of 1e-16.
    np.testing.assert_allclose(found, coordinates, rtol=1e-10)
    assert rest < 1e-10


@pytest.mark.parametrize("seed", range(5))
def test_a_projection_is_numpys_least_squares(seed):
    vector = 100 * drawn(10 + seed, SIZE)
    matrix = torch.stack(list(OBLIQUE.directions.values()), 1).double().numpy()
    offset = (vector.double() - OBLIQUE.center.double()).numpy()
    # In units of the lengths, without which numpy takes the short direction for rounding.
    lengths = np.linalg.norm(matrix, axis=0)
    expected, squares, rank, _ = np.linalg.lstsq(matrix / lengths, offset, rcond=None)
    found, rest = OBLIQUE.project(vector)
    assert rank == 3
    np.testing.assert_allclose(found * lengths, expected, rtol=1e-10)
    assert rest == pytest.approx(squares[0] ** 0.5, rel=1e-10)


def test_what_a_projection_leaves_is_orthogonal_to_every_direction():
    vector = drawn(20, SIZE).double()
    coordinates, rest = OBLIQUE.project(vector)
    left = vector - OBLIQUE.center.double()
    for coordinate, direction in zip(coordinates, OBLIQUE.directions.values(), strict=True):
        left = left - coordinate * direction.double()
    for direction in OBLIQUE.directions.values():
        cosine = left @ direction.double() / left.norm() / direction.double().norm()
        assert abs(cosine) < 1e-9
    assert rest == pytest.approx(float(left.norm()), rel=1e-12)


@pytest.mark.parametrize(
    ("directions", "words", "reason"),
    [
        ([], "at least one direction", "a point"),
        ([drawn(1, SIZE), torch.zeros(SIZE)], "direction b is zero", "a line that calls itself a plane"),
        ([drawn(1, SIZE + 1)], "direction a has shape", "of another network"),
    ],
)
def test_what_spans_no_plane_is_refused(directions, words, reason):
    with pytest.raises(LandscapeError, match=words):
        plane_of(*directions)


def test_a_center_of_another_network_is_refused():
    with pytest.raises(LandscapeError, match="center has shape"):
        plane_of(drawn(1, SIZE), center=drawn(0, SIZE - 1))


@pytest.mark.parametrize("factor", [2.0, -1e-5])
def test_coordinates_of_parallel_directions_are_refused(factor):
    with pytest.raises(LandscapeError, match="a, b are linearly dependent"):
        plane_of(drawn(1, SIZE), factor * drawn(1, SIZE)).project(drawn(2, SIZE))


def test_a_direction_that_is_not_finite_has_no_coordinates():
    with pytest.raises(LandscapeError, match="linearly dependent"):
        plane_of(torch.full((SIZE,), torch.inf)).project(drawn(2, SIZE))


@pytest.mark.parametrize("coordinates", [[], [1.0], [1.0, 2, 3, 4]])
def test_more_or_fewer_coordinates_than_directions_are_refused(coordinates):
    with pytest.raises(LandscapeError, match=f"has 3 coordinates, got {len(coordinates)}"):
        OBLIQUE.at(coordinates)


def test_a_vector_of_another_network_is_not_projected():
    with pytest.raises(LandscapeError, match="has shape"):
        OBLIQUE.project(drawn(1, SIZE + 1))


@pytest.mark.parametrize(
    ("axes", "dtype", "words"),
    [
        ([(-1e36, 1e36), (0, 1)], torch.float32, None),
        (
            [(-1e36, 4e36), (0, 1)],
            torch.float32,
            ["at (4e+36, 0)", "of weight", "float32", "100 in direction alpha"],
        ),
        (
            [(0, 3e36), (-1e38, 1e38)],
            torch.float32,
            ["at (3e+36, 1e+38)", "float32", "compute.precision: float64"],
        ),
        ([(0, 3e36), (-1e38, 1e38)], torch.float64, None),
        ([(0, 1e307), (0, 1)], torch.float64, ["float64", "a smaller grid"]),
    ],
)
def test_a_grid_whose_corners_leave_the_type_is_refused_and_one_that_stays_is_not(axes, dtype, words):
    layout = layout_of(nn.Linear(2, 1, bias=False))
    plane = Plane(
        layout=layout,
        center=torch.tensor([1.0, torch.inf]),
        directions={"alpha": torch.tensor([100.0, 1.0]), "beta": torch.tensor([1.0, torch.inf])},
    )
    if words is None:
        plane.check_range(axes, dtype)
        return
    with pytest.raises(LandscapeError) as refused:
        plane.check_range(axes, dtype)
    for word in words:
        assert word in str(refused.value)
