import time
import tracemalloc
from fractions import Fraction

import numpy as np
import pytest

from mpi_landscape import LandscapeError
from mpi_landscape.plan.grid import MAX_AXIS_POINTS, Axis, Grid


def grid_of(*shape: int) -> Grid:
    axes = [Axis(-1, -1 if num == 1 else 2, num) for num in shape]
    return Grid(*axes)


@pytest.mark.parametrize(
    ("minimum", "maximum", "num", "reason"),
    [
        (-1, 1, 51, "the default"),
        (-0.1, 0.1, 41, "decimals that float64 cannot hold"),
        (-1, 1, 3, "the shortest with a center"),
        (-0.3, 0.7, 11, "not symmetric: the plain formula gives -4e-17"),
        (-0.7, 2.1, 5, "not symmetric, zero at a quarter"),
        (0, 1, 7, "starts at zero"),
        (-1, 0, 7, "ends at zero"),
        (-1e-300, 1e-300, 9, "tiny"),
        (-1e308, 1e308, 9, "min·(num−1) overflows float64"),
    ],
)
def test_axis_hits_zero_exactly(minimum, maximum, num, reason):
    assert np.count_nonzero(Axis(minimum, maximum, num).values == 0.0) == 1, reason


@pytest.mark.parametrize(
    ("minimum", "maximum", "num"),
    [(-1, 1, 51), (0.07, 0.3, 50), (-1 / 3, 2 / 7, 101), (1e-5, 1e5, 23), (-1e308, 1e308, 4)],
)
def test_axis_ends_exactly_and_ascends(minimum, maximum, num):
    values = Axis(minimum, maximum, num).values
    assert values.dtype == np.float64
    assert values.shape == (num,)
    assert values[0] == minimum
    assert values[-1] == maximum
    assert (np.diff(values) > 0).all()


def test_axis_values_are_the_decimals_that_were_written():
    assert Axis(-0.3, 0.7, 11).values.tolist() == [-0.3, -0.2, -0.1, 0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]


def test_axis_values_are_the_formula_in_exact_arithmetic():
    low, high, num = -0.75, 1.125, 14  # exact in binary, so that decimal and binary agree
    exact = [(Fraction(low) * (num - 1 - k) + Fraction(high) * k) / (num - 1) for k in range(num)]
    assert Axis(low, high, num).values.tolist() == [float(value) for value in exact]


def test_symmetric_axis_is_antisymmetric_to_the_bit():
    values = Axis(-0.7, 0.7, 38).values
    assert (values == -values[::-1]).all()


def test_axis_of_one_point_is_its_minimum():
    assert Axis(0.5, 0.5, 1).values.tolist() == [0.5]
    assert Axis(-1, 1, 1).values.tolist() == [-1.0]


def test_axis_values_cannot_be_changed():
    with pytest.raises(ValueError, match="read-only"):
        Axis(-1, 1, 5).values[0] = 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((1, -1, 5), "min 1.0 is above max -1.0; expected min below max"),
        ((1, 1, 2), "min and max are both 1.0; expected min below max, or num 1"),
        ((-1, 1, 0), f"expected a whole number from 1 to {MAX_AXIS_POINTS}"),
        ((-1, 1, -3), f"expected a whole number from 1 to {MAX_AXIS_POINTS}"),
        ((-1, 1, MAX_AXIS_POINTS + 1), f"expected a whole number from 1 to {MAX_AXIS_POINTS}"),
        ((-1, 1, 2.5), "whole number"),
        ((-1, 1, True), "whole number"),
        ((float("nan"), 1, 5), "finite"),
        ((-1, float("inf"), 5), "finite"),
        ((1e16, 1e16 + 2, 51), "num is 51, but between .* points would coincide; expected at most 2"),
        ((1, 1 + 2**-50, 17), "expected at most 5"),
        ((0, 5e-324, 3), "expected at most 2"),
    ],
)
def test_axis_refuses_what_is_not_an_axis(arguments, message):
    with pytest.raises(LandscapeError, match=message):
        Axis(*arguments)


@pytest.mark.parametrize(
    ("minimum", "maximum", "num"),
    [(1e16, 1e16 + 2, 2), (1, 1 + 2**-50, 5), (-1.7e308, 1.7e308, 3), (0, 5e-324, 2)],
)
def test_points_as_close_as_numbers_can_be_are_an_axis(minimum, maximum, num):
    assert (np.diff(Axis(minimum, maximum, num).values) > 0).all()


@pytest.mark.parametrize(
    ("text", "axis"),
    [("-1:1:51", Axis(-1, 1, 51)), ("0:1e-1:3", Axis(0, 0.1, 3)), (" -.5 : 2 : 7 ", Axis(-0.5, 2, 7))],
)
def test_axis_is_read_from_the_command_line(text, axis):
    assert Axis.parse(text, where="--alpha") == axis


@pytest.mark.parametrize(
    "text", ["", "-1:1", "-1:1:5:6", "a:1:5", "-1:1:5.5", "-1,1,51", "1:-1:5", "nan:1:5"]
)
def test_axis_text_of_another_form_is_refused_where_it_was_given(text):
    with pytest.raises(LandscapeError, match=r"^--beta: .*") as caught:
        Axis.parse(text, where="--beta")
    assert "\n" not in str(caught.value)


SHAPES = [
    (1,),
    (2,),
    (7,),
    (1, 1),
    (1, 9),
    (9, 1),
    (2, 3),
    (5, 8),
    (8, 5),
    (3, 100),
    (51, 41),
    (64, 33),
    (10, 10),
]


@pytest.mark.parametrize("shape", SHAPES)
def test_every_point_has_exactly_one_position(shape):
    grid = grid_of(*shape)
    assert grid.shape == shape
    assert grid.num_points == np.prod(shape)
    points = grid.points(np.arange(grid.num_points))
    assert points.dtype == np.int64
    assert sorted(points.tolist()) == list(range(grid.num_points))


def test_points_do_not_depend_on_how_positions_are_cut():
    grid = grid_of(13, 8)
    whole = grid.points(np.arange(104))
    pieces = [grid.points(np.arange(start, min(start + 5, 104))) for start in range(0, 104, 5)]
    assert np.concatenate(pieces).tolist() == whole.tolist()
    assert grid.points(np.arange(104).reshape(8, 13)).tolist() == whole.reshape(8, 13).tolist()
    assert grid.points(np.array([], dtype=np.int64)).size == 0


@pytest.mark.parametrize("position", [-1, 40, 10**12])
def test_positions_outside_the_grid_are_refused(position):
    with pytest.raises(IndexError, match="from 0 to 39"):
        grid_of(5, 8).points(np.array([3, position]))


def test_coordinates_are_those_of_the_c_order_array():
    grid = Grid(Axis(-1, 2, 3), Axis(10, 13, 4))
    alpha, beta = grid.coordinates(np.arange(12))
    expected = [(a, b) for a in (-1, 0.5, 2) for b in (10, 11, 12, 13)]
    assert list(zip(alpha, beta, strict=True)) == expected


def test_beta_is_zero_on_a_line():
    alpha, beta = Grid(Axis(-1, 2, 4)).coordinates(np.array([3, 0]))
    assert alpha.tolist() == [2, -1]
    assert beta.tolist() == [0, 0]
    assert beta.dtype == np.float64


def test_ten_thousand_squared_grid_costs_only_its_axes():
    tracemalloc.start()
    started = time.process_time()
    grid = Grid(Axis(-1, 1, 10_000), Axis(-1, 1, 10_000))
    points = grid.points(np.array([0, 3, 10**7, 10**8 - 1]))
    grid.coordinates(points)
    seconds = time.process_time() - started
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # Two axes of 10⁴ float64 and int64 are 0.3 MB, temporaries a few times that; a table over the
    # points would be 800 MB.
    assert peak < 4e6
    # About 30 ms of a core under tracemalloc.
    assert seconds < 1
    assert len(set(points.tolist())) == 4


def test_points_of_a_tile_take_microseconds():
    grid = grid_of(10_000, 9_999)
    grid.points(np.arange(4))
    best = float("inf")
    for start in range(0, 400, 4):
        started = time.perf_counter()
        grid.points(np.arange(start, start + 4))
        best = min(best, time.perf_counter() - started)
    assert best < 1e-3  # measured: 1e-5
