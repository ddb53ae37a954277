"""Tiles of points: what a start nearby saves, what it misses where eigenvalues cross, and how that is found and repaired."""

from __future__ import annotations

import gc
import itertools
import math

import numpy as np
import pytest
import torch
from scipy.linalg import expm

from mpi_landscape.evaluation.curvature.lanczos import extremes
from mpi_landscape.evaluation.curvature.warm import Place, cold_start, solve_tile, warm_start
from tests.evaluation.curvature.operators import bytes_alive, dense, network_like

SIZE, F64 = 300, torch.float64


def plane(rows, columns, at=0):
    return [
        Place(number=at + row * columns + column, indices=(row, column))
        for row in range(rows)
        for column in range(columns)
    ]


class Family:
    """Symmetric matrices over a plane, whose eigenvectors turn slowly and whose eigenvalues move."""

    def __init__(self, places, values, turn=0.02):
        generator = np.random.default_rng(5)
        basis, _ = np.linalg.qr(generator.standard_normal((SIZE, SIZE)))
        skew = generator.standard_normal((2, SIZE, SIZE)) / math.sqrt(SIZE)
        skew = skew - skew.transpose(0, 2, 1)
        self.places, self.matrices, self.exact = places, [], []
        for place in places:
            row, column = place.indices
            turned = expm(turn * (row * skew[0] + column * skew[1])) @ basis
            found = values(row, column)
            self.matrices.append((turned * found) @ turned.T)
            self.exact.append((found.max(), found.min()))
        self.starts = []

    def solve(self, index, start, **options):
        self.starts.append((index, start))
        return extremes(dense(self.matrices[index]), start, **options)


def calm(row, column):
    values = network_like(SIZE, ratio=0.03)
    return values * (1 + 0.02 * row + 0.01 * column)


@pytest.fixture(scope="module")
def calm_family():
    return Family(plane(3, 4, at=1), calm)


def test_starts_nearby_save_products_and_find_the_same(calm_family):
    cold = solve_tile(calm_family.solve, calm_family.places, size=SIZE, seed=1, warm=False, dtype=F64)
    warm = solve_tile(calm_family.solve, calm_family.places, size=SIZE, seed=1, dtype=F64)
    assert sum(warm.num_products) < 0.8 * sum(cold.num_products)
    assert cold.checked == (True,) * 12
    assert math.isnan(cold.difference)
    for tile in (cold, warm):
        for found, (top, low) in zip(tile.extremes, calm_family.exact, strict=True):
            assert found.lambda_max == pytest.approx(top, rel=1e-4)
            assert found.lambda_min == pytest.approx(low, rel=1e-2)


def test_the_first_point_and_every_sixteenth_are_computed_cold(calm_family):
    places = plane(3, 4, at=10)
    tile = solve_tile(calm_family.solve, places, size=SIZE, seed=1, dtype=F64)
    assert tile.checked[0]
    assert tile.checked[6]  # the point 16
    assert tile.difference < 0.02
    assert not tile.repaired
    assert tile.num_products[6] > tile.num_products[5]


def test_bits_depend_on_seed_and_places_alone(calm_family):
    def numbers(seed, places):
        tile = solve_tile(calm_family.solve, places, size=SIZE, seed=seed, dtype=F64)
        return [(each.lambda_max, each.lambda_min, each.residual_min) for each in tile.extremes]

    one = numbers(1, plane(3, 4, at=1))
    assert one == numbers(1, plane(3, 4, at=1))
    assert one != numbers(2, plane(3, 4, at=1))
    assert one != numbers(1, plane(3, 4, at=2))


def test_a_point_starts_from_the_one_before_it_on_a_way_from_neighbor_to_neighbor(calm_family):
    found = {}

    def solve(index, start):
        found[index] = calm_family.solve(index, start)
        return found[index]

    calm_family.starts.clear()
    tile = solve_tile(solve, calm_family.places, size=SIZE, seed=1, dtype=F64)
    # Along the first row, back along the second, and forth along the third.
    way = [0, 1, 2, 3, 7, 6, 5, 4, 8, 9, 10, 11]
    assert [index for index, _ in calm_family.starts] == way
    starts = dict(calm_family.starts)
    assert torch.equal(starts[0], cold_start(SIZE, 1, 1, dtype=F64))
    for before, index in itertools.pairwise(way):
        expected = warm_start(found[before], 1, calm_family.places[index].number)
        assert torch.equal(starts[index], expected)
    # Of no point are vectors kept.
    assert all(len(each.ritz) == 0 for each in tile.extremes)
    assert [each.lambda_min for each in tile.extremes] == [found[index].lambda_min for index in range(12)]


def test_a_point_whose_lowest_is_higher_than_all_around_it_is_computed_again():
    """Inside a tile, on its edge and at a corner, where there are no two neighbors on a line."""
    for odd, is_checked in [((1, 1), True), ((0, 2), True), ((0, 0), False)]:

        def values(row, column, odd=odd):
            found = calm(row, column)
            return np.where(found < 0, 0.7 * found, found) if (row, column) == odd else found

        family = Family(plane(3, 4, at=1), values)
        tile = solve_tile(family.solve, family.places, size=SIZE, seed=1, dtype=F64)
        chosen = [
            place.indices for place, checked in zip(family.places, tile.checked, strict=True) if checked
        ]
        assert chosen == [(0, 0), *[odd] * is_checked]
        assert math.isnan(tile.difference) or tile.difference < 0.02


def test_a_tile_takes_no_more_memory_than_a_point():
    size, most_steps, alive = 200_000, 12, []
    values = torch.linspace(-1, 50, size) ** 3

    def product(vector):
        alive.append((bytes_alive(size) - known) / (4 * size))
        return values * vector

    def solve(index, start):
        return extremes(product, start, most_steps=most_steps, most_products=15)

    gc.collect()
    known = bytes_alive(size)
    solve_tile(solve, plane(1, 4, at=1), size=size, seed=1)
    assert len(alive) == 4 * 15
    assert most_steps - 1 <= max(alive) <= most_steps + 9


def crossing(row, column):
    """From the third column on a direction that was in the bulk is the lowest."""
    values = np.concatenate([network_like(SIZE - 1, ratio=0.1), [0.0]])
    if column >= 2:
        values[-1] = 1.06 * values.min()
    return values


def test_a_crossing_is_found_by_a_check_and_the_tile_is_repaired():
    """A start nearby has next to no part along what has become the lowest, and runs stop on what was, until one sees it."""
    family = Family(plane(2, 6, at=14), crossing, turn=0.0)
    unchecked = solve_tile(family.solve, plane(2, 6, at=1), size=SIZE, seed=1, dtype=F64)
    missed = [
        place.indices
        for place, found, (_, low) in zip(family.places, unchecked.extremes, family.exact, strict=True)
        if found.lambda_min > 0.95 * low
    ]
    assert missed == [(0, 2), (0, 3), (0, 4)]
    assert not any(unchecked.checked[1:])
    # With that point the sixteenth of the plan.
    tile = solve_tile(family.solve, family.places, size=SIZE, seed=1, dtype=F64)
    assert tile.repaired
    assert all(tile.checked)
    assert tile.difference == pytest.approx(1 - 1 / 1.06, abs=0.01)
    for found, (_, low) in zip(tile.extremes, family.exact, strict=True):
        assert found.lambda_min == pytest.approx(low, rel=1e-2)


def test_a_point_that_is_not_finite_does_not_stop_the_rest(calm_family):
    def broken(index, start):
        if index in (0, 5):
            return extremes(lambda vector: vector * math.nan, start)
        return calm_family.solve(index, start)

    tile = solve_tile(broken, calm_family.places, size=SIZE, seed=1, dtype=F64)
    for index, (found, (top, _)) in enumerate(zip(tile.extremes, calm_family.exact, strict=True)):
        assert math.isnan(found.lambda_max) == (index in (0, 5))
        assert math.isnan(found.lambda_max) or found.lambda_max == pytest.approx(top, rel=1e-4)
    assert tile.checked[1]
