import numpy as np
import pytest

from mpi_landscape.plan.order import axis_levels, coarse_to_fine, in_strips


def done_after(num_alpha: int, num_beta: int, count: int) -> np.ndarray:
    done = np.zeros(num_alpha * num_beta, dtype=bool)
    done[coarse_to_fine(num_alpha, num_beta).points(np.arange(count))] = True
    return done.reshape(num_alpha, num_beta)


def levels_by_recursion(num: int) -> list[int]:
    levels = {0: 0, num - 1: 0}

    def halve(low: int, high: int, level: int) -> None:
        if high - low > 1:
            middle = (low + high) // 2
            levels[middle] = level
            halve(low, middle, level + 1)
            halve(middle, high, level + 1)

    halve(0, num - 1, 1)
    return [levels[index] for index in range(num)]


def distance_to_done(done: np.ndarray) -> int:
    """Largest number of king's moves from a point to the nearest one that is done."""
    for distance in range(max(done.shape) + 1):
        if done.all():
            return distance
        padded = np.pad(done, 1)
        rows, columns = done.shape
        done = np.any([padded[i : i + rows, j : j + columns] for i in range(3) for j in range(3)], axis=0)
    raise AssertionError("nothing is done")


@pytest.mark.parametrize("num", [*range(1, 20), 51, 64, 65, 1000])
def test_levels_are_those_of_recursive_halving(num):
    assert axis_levels(num).tolist() == levels_by_recursion(num)


@pytest.mark.parametrize("num", [2, 5, 17, 51, 100, 1000])
def test_gaps_below_a_level_are_as_narrow_as_promised(num):
    levels = axis_levels(num)
    for level in range(int(levels.max()) + 1):
        gaps = np.diff(np.flatnonzero(levels <= level))
        assert gaps.max() <= -(-(num - 1) // 2**level)


@pytest.mark.parametrize(("num_alpha", "num_beta"), [(5, 8), (51, 41), (3, 100), (1, 9), (9, 1), (10, 7)])
def test_levels_come_in_order(num_alpha, num_beta):
    alphas, betas = levels_by_recursion(num_alpha), levels_by_recursion(num_beta)
    points = coarse_to_fine(num_alpha, num_beta).points(np.arange(num_alpha * num_beta))
    levels = [max(alphas[point // num_beta], betas[point % num_beta]) for point in points]
    assert levels == sorted(levels)


def test_corners_come_first_and_the_center_next():
    points = coarse_to_fine(5, 9).points(np.arange(5))
    assert set(points[:4].tolist()) == {0, 8, 36, 44}
    assert points[4] == 2 * 9 + 4


SHAPES = [(51, 41), (41, 51), (100, 33), (13, 200), (64, 65), (130, 18), (7, 5)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("parts", [1.1, 2, 5, 8, 32])
def test_unfinished_grid_has_no_large_hole(shape, parts):
    count = max(4, int(shape[0] * shape[1] / parts))
    # (2^level + 1) values of each axis fit into this count, so gaps are a 2^level-th of the range.
    level = max(level for level in range(12) if np.prod([min(num, 2**level + 1) for num in shape]) <= count)
    gaps = [-(-(num - 1) // 2**level) for num in shape]
    assert distance_to_done(done_after(*shape, count)) <= max(gap // 2 for gap in gaps)


@pytest.mark.parametrize("shape", SHAPES[:-1])
@pytest.mark.parametrize("share", [0.25, 0.5, 0.75])
def test_unfinished_grid_is_covered_evenly(shape, share):
    done = done_after(*shape, int(share * shape[0] * shape[1]))
    rows, columns = shape[0] // 2, shape[1] // 2
    quadrants = [done[:rows, :columns], done[:rows, columns:], done[rows:, :columns], done[rows:, columns:]]
    for quadrant in quadrants:
        # In plain C order the quadrants of a half-done grid would hold 1 and 0.
        assert abs(quadrant.mean() - share) < 0.12


def test_unfinished_line_is_covered_evenly():
    done = done_after(1000, 1, 500)[:, 0]
    # 257 points of level 8 leave gaps of 4 at most; the next level halves them, some sooner than others.
    assert np.diff(np.flatnonzero(done)).max() <= 4
    assert abs(done[:500].mean() - 0.5) < 0.03


@pytest.mark.parametrize(
    ("num_alpha", "num_beta", "height"), [(1, 1, 4), (7, 5, 4), (8, 3, 2), (5, 9, 100), (13, 1, 4)]
)
def test_strips_visit_every_point_once_and_neighbors_together(num_alpha, num_beta, height):
    found = in_strips(num_alpha, num_beta, height).points(np.arange(num_alpha * num_beta))
    assert sorted(found.tolist()) == list(range(num_alpha * num_beta))
    row, column = np.divmod(found, num_beta)
    # From a point to the next one it is a step down its column, or to the top of the next column or strip.
    assert (np.abs(np.diff(column)) <= 1).all()
    assert (np.abs(np.diff(row)) <= height).all()
    # A square of points comes together.
    square = height * min(height, num_beta)
    if num_alpha >= height:
        assert row[:square].max() == height - 1
        assert column[:square].max() == min(height, num_beta) - 1
