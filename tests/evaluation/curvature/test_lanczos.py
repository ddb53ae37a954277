"""Both ends of spectra against numpy's dense eigenvalues and closed forms; when a run stops, and with what words."""

from __future__ import annotations

import gc
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse.linalg import LinearOperator, eigsh

from mpi_landscape.errors import LandscapeError
from mpi_landscape.evaluation.curvature.lanczos import extremes
from mpi_landscape.evaluation.curvature.starts import gaussian, rademacher
from tests.evaluation.curvature.operators import Counted, bytes_alive, dense, diagonal, network_like, rotated

F64, F32 = torch.float64, torch.float32


def start(size, seed=1, dtype=F64):
    return gaussian(size, seed, dtype=dtype)


SPECTRA = {
    "outliers above a bulk": np.concatenate([np.linspace(5, 30, 8), np.linspace(-1.5, 1, 300)]),
    "negative end alone resolved": np.concatenate([[40.0], np.linspace(-2, -1, 200)]),
    "greater below than above": np.concatenate([[3.0], np.linspace(-0.5, 0.5, 200), [-50.0, -20.0]]),
    "positive": np.linspace(0.5, 20, 250),
    "negative": -np.linspace(0.5, 20, 250),
    "two-valued": np.repeat([4.0, -1.0], [7, 90]),
    "all equal": np.full(60, -3.0),
    "tiny": 1e-20 * np.linspace(-1, 6, 100),
    "huge": 1e20 * np.linspace(-1, 6, 100),
    "one of each sign": np.array([2.0, -1.0]),
    "a single number": np.array([-7.0]),
}


@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
@pytest.mark.parametrize("name", SPECTRA)
def test_both_ends_are_those_of_the_matrix_within_the_residuals(name, dtype):
    values = SPECTRA[name]
    operator = dense(rotated(values))
    found = extremes(operator, start(len(values), dtype=dtype), tolerance=1e-3)
    scale = np.abs(values).max()
    # The error is the residual's square over the gap; the tables' gaps are 1e-2 of the scale.
    assert found.lambda_max == pytest.approx(values.max(), abs=2e-5 * scale)
    assert found.lambda_min == pytest.approx(values.min(), abs=2e-5 * scale)
    assert found.resolved
    assert found.num_products == operator.count


@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
def test_residuals_are_those_of_the_vectors(dtype):
    matrix = rotated(SPECTRA["outliers above a bulk"])
    found = extremes(dense(matrix), start(len(matrix), dtype=dtype))
    vectors = found.ritz.double().numpy()
    assert vectors.shape == (9, len(matrix))
    # Of vectors that are rounded to float32 once more.
    assert vectors @ vectors.T == pytest.approx(np.eye(9), abs=1e-6)
    quotients = np.einsum("ij,jk,ik->i", vectors, matrix, vectors)
    assert quotients[:2] == pytest.approx([found.lambda_max, found.lambda_min], rel=1e-6)
    assert (np.diff(quotients[1:]) > 0).all()
    for vector, value, residual in [
        (vectors[0], found.lambda_max, found.residual_max),
        (vectors[1], found.lambda_min, found.residual_min),
    ]:
        assert np.linalg.norm(matrix @ vector - value * vector) == pytest.approx(residual, rel=1e-2, abs=1e-5)


def test_agrees_with_arpack_on_a_laplacian_whose_eigenvalues_are_known():
    size = 200
    matrix = 2 * np.eye(size) - np.eye(size, k=1) - np.eye(size, k=-1)
    known = 2 - 2 * np.cos(np.pi * np.arange(1, size + 1) / (size + 1))
    found = extremes(dense(matrix), start(size), tolerance=1e-4, most_products=2000)
    theirs = eigsh(LinearOperator(matrix.shape, lambda x: matrix @ x, dtype=float), k=1, which="LA")[0][0]
    assert found.lambda_max == pytest.approx(known[-1], rel=1e-6)
    assert found.lambda_max == pytest.approx(theirs, rel=1e-6)
    # 6e-5 of the other end, and not at all separated: known to its residual.
    assert found.lambda_min == pytest.approx(known[0], abs=1e-3)


def test_zero_is_zero_in_any_type():
    for dtype in (F32, F64):
        found = extremes(Counted(torch.zeros_like), start(50, dtype=dtype))
        assert (found.lambda_max, found.lambda_min, found.residual_max, found.resolved) == (0, 0, 0, False)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_product_that_is_not_finite_ends_the_run_at_once(bad):
    operator = Counted(lambda vector: vector * bad if operator.count == 4 else torch.arange(60.0) * vector)
    found = extremes(operator, start(60, dtype=F32))
    assert math.isnan(found.lambda_max)
    assert math.isnan(found.lambda_min)
    assert (found.num_products, operator.count, found.resolved, len(found.ritz)) == (4, 4, False, 0)


@pytest.mark.parametrize("vector", [torch.zeros(5), torch.full((5,), math.nan)], ids=["zero", "NaN"])
def test_a_start_without_direction_is_refused(vector):
    with pytest.raises(LandscapeError, match="zero or not finite"):
        extremes(diagonal(np.arange(5.0)), vector)


def test_a_basis_too_small_to_begin_anew_is_refused():
    with pytest.raises(
        LandscapeError, match="basis of 7 vectors is too small to begin anew; valid is 8 or more"
    ):
        extremes(diagonal(np.arange(50.0)), start(50), most_steps=7)


@pytest.mark.parametrize("index", [0, 3, 49])
def test_a_start_at_an_eigenvector_does_not_hide_the_others(index):
    values = np.linspace(-1, 9, 50)
    found = extremes(diagonal(values), torch.eye(50, dtype=F64)[index], tolerance=1e-3)
    assert (found.lambda_max, found.lambda_min) == pytest.approx((9.0, -1.0), abs=1e-4)


def test_a_convex_operator_has_a_lower_end_of_zero_within_something():
    generator = np.random.default_rng(3)
    # As of a logistic regression: eigenvalues that fall off by powers, and a null space.
    values = np.concatenate(
        [10 * np.exp(-np.linspace(0, 12, 150)) * generator.uniform(0.5, 1, 150), np.zeros(50)]
    )
    operator = diagonal(values)
    found = extremes(operator, start(200, dtype=F32))
    assert not found.resolved
    assert abs(found.lambda_min) + found.residual_min + 10 * found.floor <= 2e-3
    assert found.lambda_max == pytest.approx(values.max(), rel=1e-5)
    assert operator.count < 80


def test_a_concave_operator_is_the_mirror_of_a_convex_one():
    values = np.concatenate([10 * np.exp(-np.linspace(0, 12, 150)), np.zeros(50)])
    convex = extremes(diagonal(values), start(200))
    concave = extremes(diagonal(-values), start(200))
    assert concave.lambda_min == pytest.approx(-convex.lambda_max, rel=1e-4)
    assert concave.lambda_max == pytest.approx(0, abs=1e-3)
    assert concave.resolved


def test_a_small_negative_end_is_not_taken_for_zero():
    """A network fitted to a loss near zero: λmin is 3e-4 of λmax, and wanted to a hundredth of itself."""
    for seed in range(5):
        values = network_like(900, top=100, ratio=3e-4, seed=seed)
        found = extremes(diagonal(values), start(900, seed), most_products=400)
        assert found.lambda_min == pytest.approx(values[0], rel=1e-2)
        assert found.resolved


def test_an_end_below_the_noise_is_not_resolved():
    values = np.concatenate([[100.0, 50.0], np.linspace(-1e-4, 1, 300)])
    noise = 1e-5

    def product(vector):
        exact = torch.from_numpy(values) * vector
        rounding = gaussian(len(values), int(1e9 * float(vector[0].abs())), dtype=F64)
        return exact + noise * exact.norm() * rounding / rounding.norm()

    found = extremes(product, start(len(values)), noise=noise, most_products=200)
    assert not found.resolved
    assert 1e-4 <= abs(found.lambda_min) + found.residual_min + 10 * found.floor <= 3e-2
    assert found.floor == pytest.approx(1e-3)


COLD = {
    # name: (λmin / λmax, most products in the mean; networks of that ratio needed 49-71, 25-30, 12-16 and 10-12)
    "MLP at its minimum": (0.0053, 55),
    "MLP away": (0.047, 25),
    "network without shortcuts, far out": (0.21, 16),
    "network with shortcuts, far out": (0.5, 12),
}


@pytest.mark.parametrize("name", COLD)
def test_products_of_a_cold_run(name):
    """Counted, not timed: what a stop that is too strict or a restart that forgets would show."""
    ratio, most = COLD[name]
    counts, errors = [], []
    for seed in range(8):
        values = network_like(2000, ratio=ratio, seed=seed)
        operator = diagonal(values)
        found = extremes(operator, start(2000, seed, F32))
        counts.append(operator.count)
        errors.append(abs(found.lambda_min / values[0] - 1))
        assert found.lambda_max == pytest.approx(values[-1], rel=1e-4)
    assert np.mean(counts) <= most
    assert max(errors) <= 1e-2


def test_one_end_alone_costs_less():
    values = network_like(2000, ratio=0.02)
    both, top = diagonal(values), diagonal(values)
    extremes(both, start(2000))
    found = extremes(top, start(2000), only="max")
    assert found.lambda_max == pytest.approx(1.0, rel=1e-4)
    assert top.count < both.count / 2
    low = extremes(diagonal(values), start(2000), only="min")
    assert low.lambda_min == pytest.approx(values[0], rel=1e-2)


@pytest.mark.parametrize("most_steps", [8, 12, 20, 60])
def test_a_basis_that_begins_anew_finds_the_same(most_steps):
    values = network_like(700, ratio=0.02)
    found = extremes(diagonal(values), start(700), most_steps=most_steps, tolerance=1e-3, most_products=3000)
    assert found.lambda_max == pytest.approx(1.0, rel=1e-6)
    assert found.lambda_min == pytest.approx(values[0], rel=1e-4)


def test_memory_is_the_basis_and_nine_vectors():
    """What is alive when a product is asked for, in vectors of float32."""
    size, most_steps, alive, asked = 400_000, 12, [], []
    values = torch.linspace(-1, 50, size) ** 3

    def product(vector):
        asked.append(len(asked))
        # Before, at and after the first time that the basis begins anew.
        if asked[-1] in (11, 12, 13, 39):
            alive.append((bytes_alive(size) - known) / (4 * size))
        return values * vector

    first = start(size, dtype=F32)
    gc.collect()
    known = bytes_alive(size)
    extremes(product, first, most_steps=most_steps, most_products=40)
    assert len(alive) == 4
    assert max(alive) <= most_steps + 9
    # The basis itself is seen: a count that misses it would pass whatever was kept.
    assert max(alive) >= most_steps - 1


def test_every_decision_is_rank_zeros():
    """Two hosts whose arithmetic differs: all that decides goes through `agree`, so both do the same number of products."""
    values = network_like(600, ratio=0.02)
    said = []

    def speak(value):
        said.append(value)
        return value

    first = extremes(diagonal(values), start(600, dtype=F32), agree=speak)
    answers = iter(said)
    wrong = values * (1 + 1e-3 * np.sin(np.arange(600)))
    second = extremes(diagonal(wrong), start(600, dtype=F32), agree=lambda value: next(answers))
    assert next(answers, None) is None
    assert (first.lambda_max, first.lambda_min, first.num_products, first.residual_min) == (
        second.lambda_max,
        second.lambda_min,
        second.num_products,
        second.residual_min,
    )


@given(
    st.integers(1, 40),
    st.integers(0, 2**31),
    st.sampled_from(["normal", "integers", "low rank", "positive", "heavy", "clustered"]),
    st.sampled_from([F32, F64]),
)
def test_random_matrices(size, seed, kind, dtype):
    """No eigenvalue is beyond what was found, but for the residual's own size."""
    generator = np.random.default_rng(seed)
    draw = {
        "normal": lambda: generator.standard_normal(size),
        "integers": lambda: generator.integers(-2, 3, size).astype(float),
        "low rank": lambda: generator.standard_normal(size) * (np.arange(size) < 3),
        "positive": lambda: generator.exponential(size=size),
        "heavy": lambda: generator.standard_cauchy(size),
        "clustered": lambda: generator.choice([1.0, 1.0001, -2.0], size),
    }
    values = draw[kind]()
    found = extremes(dense(rotated(values, seed)), start(size, seed, dtype), tolerance=1e-2)
    scale = np.abs(values).max()
    slack = 1e-5 if dtype is F32 else 1e-12
    # A Ritz value lies within the spectrum, and an eigenvalue within the residual of it.
    assert (
        values.min() - slack * scale <= found.lambda_min <= found.lambda_max <= values.max() + slack * scale
    )
    for value, residual in [
        (found.lambda_max, found.residual_max),
        (found.lambda_min, found.residual_min),
    ]:
        assert np.abs(values - value).min() <= residual + slack * scale
    assert found.lambda_max == pytest.approx(values.max(), abs=2e-2 * scale)
    assert found.lambda_min == pytest.approx(values.min(), abs=2e-2 * scale)


def test_starts_are_what_their_words_say():
    drawn = gaussian(100_000, 5, "here")
    assert torch.equal(drawn, gaussian(100_000, 5, "here"))
    assert not torch.equal(drawn, gaussian(100_000, 5, "there"))
    assert float(drawn.mean()) == pytest.approx(0, abs=0.02)
    assert float(drawn.std()) == pytest.approx(1, abs=0.01)
    signs = rademacher(100_000, 5, dtype=F64)
    assert signs.abs().eq(1).all()
    assert float(signs.mean()) == pytest.approx(0, abs=0.02)
    # Drawn in pieces, and the same for any length.
    assert torch.equal(gaussian(2**20 + 7, 3)[:9], gaussian(9, 3))
