"""Several eigenpairs against numpy's dense ones: multiple ones, clustered ones, whole spectra, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mpi_landscape.errors import LandscapeError
from mpi_landscape.evaluation.curvature.pairs import most_vectors, pairs
from mpi_landscape.evaluation.curvature.starts import gaussian
from tests.evaluation.curvature.operators import Counted, dense, diagonal, network_like, rotated

F64, F32 = torch.float64, torch.float32


def start(size, seed=1, dtype=F64):
    return gaussian(size, seed, dtype=dtype)


def wanted(values, largest, smallest):
    falling = np.sort(values)[::-1]
    return np.concatenate([falling[:largest], falling[len(falling) - smallest :]])


SPECTRA = {
    # reason: (values, largest, smallest)
    "outliers and a tail": (network_like(500, ratio=0.1), 9, 2),
    "three copies of the largest": (np.concatenate([[5.0] * 3, np.linspace(-1, 1, 80)]), 4, 1),
    "a copy of one in the middle": (np.concatenate([[9.0, 5, 5, 4], np.linspace(-1, 1, 80)]), 4, 2),
    "copies of the smallest": (np.concatenate([[5.0], np.linspace(-1, 1, 80), [-4.0] * 3]), 2, 4),
    "a projection": (np.repeat([1.0, 0.0], [5, 60]), 6, 3),
    "all equal": (np.full(40, 2.5), 3, 3),
    "fewer than are asked for are not zero": (np.concatenate([[3.0, 2.0], np.zeros(70)]), 5, 2),
    "all there are": (np.array([3.0, 1.0, 1.0, -2.0, 0.0]), 3, 2),
    "one end alone": (np.linspace(-3, 3, 50) ** 3, 4, 0),
    "the other alone": (np.linspace(-3, 3, 50) ** 3, 0, 4),
    "more than a basis of sixty keeps": (
        np.concatenate([np.geomspace(1, 100, 50), np.linspace(-0.5, 0.5, 400)]),
        50,
        0,
    ),
    "zero": (np.zeros(30), 2, 2),
}


@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
@pytest.mark.parametrize("name", SPECTRA)
def test_pairs_are_those_of_the_matrix(name, dtype):
    values, largest, smallest = SPECTRA[name]
    matrix = rotated(values)
    operator = dense(matrix)
    found = pairs(
        operator, start(len(values), dtype=dtype), largest=largest, smallest=smallest, tolerance=1e-3
    )
    scale = np.abs(values).max()
    assert found.settled
    assert found.num_products == operator.count
    assert found.values == pytest.approx(wanted(values, largest, smallest), abs=1e-4 * scale)
    vectors = found.vectors.double().numpy()
    assert vectors @ vectors.T == pytest.approx(np.eye(largest + smallest), abs=1e-5)
    # Residuals as they are, and no smaller ones than are said.
    residuals = np.linalg.norm(vectors @ matrix - found.values[:, None] * vectors, axis=1)
    assert (residuals <= 1.1 * found.residuals + 1e-14 * scale + (1e-6 * scale if dtype is F32 else 0)).all()
    assert (found.residuals <= 2e-3 * scale).all()


def test_more_than_there_are_is_refused():
    with pytest.raises(
        LandscapeError, match="3 largest and 3 smallest eigenvalues are asked for of 5; valid are 5"
    ):
        pairs(diagonal(np.arange(5.0)), start(5), largest=3, smallest=3)


def test_none_need_no_product():
    operator = diagonal(np.arange(5.0))
    found = pairs(operator, start(5), largest=0, smallest=0)
    assert (operator.count, found.values.shape, found.vectors.shape) == (0, (0,), (0, 5))


def test_a_product_that_is_not_finite_leaves_nan():
    operator = Counted(
        lambda vector: vector * math.nan if operator.count == 9 else torch.arange(60.0) * vector
    )
    found = pairs(operator, start(60, dtype=F32), largest=4, smallest=2)
    assert np.isnan(found.values).all()
    assert np.isnan(found.residuals).all()
    assert (found.vectors.shape, operator.count, found.settled) == ((6, 60), 9, False)


def test_a_run_that_is_cut_short_says_so_with_its_residuals():
    values = np.linspace(-1, 1, 400)
    matrix = rotated(values)
    found = pairs(dense(matrix), start(400), largest=5, smallest=5, most_products=25, tolerance=1e-6)
    assert not found.settled
    assert found.num_products == 25
    vectors = found.vectors.numpy()
    residuals = np.linalg.norm(vectors @ matrix - found.values[:, None] * vectors, axis=1)
    assert residuals == pytest.approx(found.residuals, rel=1e-6)


def test_products_for_the_ten_largest_of_a_network():
    counts, errors = [], []
    for seed in range(6):
        values = network_like(2000, ratio=0.03, seed=seed)
        operator = diagonal(values)
        found = pairs(operator, start(2000, seed, F32), largest=10, smallest=0)
        errors.append(np.abs(found.values / np.sort(values)[::-1][:10] - 1).max())
        counts.append(operator.count)
    # Eight of them look for what is missing.
    assert np.mean(counts) <= 42
    assert max(errors) <= 1e-3


def test_a_basis_of_many_wanted_ones_is_large_enough_and_no_larger():
    """What is alive beside what is given back."""
    assert most_vectors(0, 1, 60) == 64
    assert most_vectors(30, 5, 60) == 94
    values = network_like(3000, ratio=0.05)
    assert pairs(diagonal(values), start(3000, dtype=F32), largest=30, smallest=5, most_steps=8).settled


def test_every_decision_is_rank_zeros():
    """All that decides goes through `agree`, so that another host, whose arithmetic differs, makes as many products."""
    values = np.concatenate([[5.0, 5.0], network_like(200, ratio=0.05)])
    said = []

    def speak(value):
        said.append(value)
        return value

    first = pairs(diagonal(values), start(202, dtype=F32), largest=3, smallest=2, agree=speak)
    answers = iter(said)
    wrong = values * (1 + 1e-3 * np.sin(np.arange(202)))
    second = pairs(
        diagonal(wrong), start(202, dtype=F32), largest=3, smallest=2, agree=lambda value: next(answers)
    )
    assert next(answers, None) is None
    assert first.num_products == second.num_products
    assert (first.values == second.values).all()
    assert (first.residuals == second.residuals).all()


@given(st.integers(2, 30), st.data())
def test_random_multiplicities(size, data):
    values = np.array(data.draw(st.lists(st.integers(-3, 3), min_size=size, max_size=size)), dtype=float)
    largest = data.draw(st.integers(0, size))
    smallest = data.draw(st.integers(0, size - largest))
    seed = data.draw(st.integers(0, 1000))
    found = pairs(
        dense(rotated(values, seed)), start(size, seed), largest=largest, smallest=smallest, tolerance=1e-6
    )
    assert found.values == pytest.approx(wanted(values, largest, smallest), abs=1e-9)
