"""Spectral densities against whole spectra: known ones, exact moments, and a trained network's dense Hessian."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import wasserstein_distance
from sklearn.datasets import load_digits

from mpi_landscape.errors import LandscapeError
from mpi_landscape.evaluation.curvature.density import probe
from mpi_landscape.evaluation.curvature.pairs import pairs
from mpi_landscape.evaluation.curvature.starts import gaussian, rademacher
from mpi_landscape.storage.spectrum.value import Spectrum, moments_of
from tests.evaluation.curvature.operators import Counted, dense, diagonal, network_like, rotated

F64, F32 = torch.float64, torch.float32


def whole(probes, known, *, size):
    """A spectrum as a file has it."""
    moments = moments_of(
        known.values,
        known.residuals,
        np.array([each.trace for each in probes]),
        np.array([each.square for each in probes]),
        is_exact=all(each.is_exact for each in probes),
    )
    return Spectrum(
        path="",
        eigenvalues=known.values,
        residuals=known.residuals,
        num_largest=len(known.values),
        nodes=np.stack([each.nodes for each in probes]),
        weights=np.stack([each.weights for each in probes]),
        num_parameters=size,
        loss=0.0,
        gradient_norm=0.0,
        noise=0.0,
        num_products=np.array([0.0, *(each.num_products for each in probes)]),
        moments=moments,
        kept=np.array([], dtype=np.int64),
        done=np.ones(1 + len(probes), dtype=bool),
    )


def density_of(
    operator,
    size,
    *,
    largest=0,
    smallest=0,
    probes=4,
    steps=40,
    seed=1,
    dtype=F64,
    draw=gaussian,
    tolerance=1e-2,
    rest=False,
):
    known = pairs(
        operator, gaussian(size, seed, dtype=dtype), largest=largest, smallest=smallest, tolerance=tolerance
    )
    runs = [
        probe(
            operator,
            draw(size, seed, "probe", number, dtype=dtype),
            steps=steps,
            deflated=known,
            rest=draw(size, seed, "rest", number, dtype=dtype) if rest else None,
        )
        for number in range(probes)
    ]
    return whole(runs, known, size=size)


def distance(found, values):
    """Wasserstein-1, over the mean of |λ|: 1 would be all mass at zero."""
    nodes, weights = found.density()
    return wasserstein_distance(nodes, values, weights) / np.abs(values).mean()


@pytest.fixture(scope="module")
def hessians():
    """Dense float64 Hessians of a network of 1,510 numbers, trained for a while on the digits, and their eigenvalues."""
    digits = load_digits()
    images, labels = torch.tensor(digits.data[:250] / 16), torch.tensor(digits.target[:250])
    generator = torch.Generator().manual_seed(0)
    shapes = [(20, 64), (20,), (10, 20), (10,)]
    numbers = [math.prod(shape) for shape in shapes]
    flat = 0.15 * torch.randn(sum(numbers), generator=generator, dtype=F64)
    flat.requires_grad_(True)

    def loss(vector):
        first, bias, second, shift = (
            part.view(shape) for part, shape in zip(vector.split(numbers), shapes, strict=True)
        )
        hidden = torch.relu(images @ first.T + bias)
        return torch.nn.functional.cross_entropy(hidden @ second.T + shift, labels)

    optimizer = torch.optim.Adam([flat], lr=0.02)
    for _ in range(60):
        optimizer.zero_grad()
        loss(flat).backward()
        optimizer.step()
    end, found = flat.detach(), []

    def direction():
        """A random one with each unit's norm, without biases, as surfaces have them."""
        parts = [torch.randn(shape, generator=generator, dtype=F64) for shape in shapes]
        for part, weights in zip(parts, end.split(numbers), strict=True):
            rows = weights.view(part.shape) if part.dim() > 1 else torch.zeros(1, 1, dtype=F64)
            part *= (rows.norm(dim=1) / part.norm(dim=-1)).view(-1, *[1] * (part.dim() - 1))
        return torch.cat([part.ravel() for part in parts])

    # At the end, and at (0.5, −0.5) of a plane.
    for place in (end, end + 0.5 * direction() - 0.5 * direction()):
        matrix = torch.func.hessian(loss)(place).numpy()
        assert matrix.shape == (1510, 1510)
        found.append((matrix, np.linalg.eigvalsh(matrix)))
    return found


@pytest.mark.parametrize("place", [0, 1], ids=["at the end of its training", "away from it"])
def test_a_trained_network_within_three_hundred_products(hessians, place):
    matrix, values = hessians[place]
    trace, frobenius = values.sum(), np.linalg.norm(values)
    distances, traces, norms = [], [], []
    for seed in range(4):
        operator = dense(matrix)
        found = density_of(operator, 1510, largest=30, probes=4, steps=40, seed=seed, dtype=F32, rest=True)
        assert operator.count <= 300
        distances.append(distance(found, values))
        traces.append(found.trace / trace - 1)
        norms.append(found.frobenius / frobenius - 1)
        assert abs(found.trace - trace) <= 6 * found.moments.trace_stderr
    assert max(distances) <= 0.10
    assert np.sqrt(np.mean(np.square(traces))) <= 0.03
    assert np.sqrt(np.mean(np.square(norms))) <= 0.01


def test_what_nodes_and_weights_alone_say_of_a_trained_network(hessians):
    """As far as they tell, the same as what the probes measured."""
    matrix, values = hessians[0]
    found = density_of(dense(matrix), 1510, largest=30, probes=4, steps=40)
    first, second = (1510 * (found.weights * found.nodes**power).sum(axis=1) for power in (1, 2))
    said = moments_of(found.eigenvalues, found.residuals, first, second)
    assert said.trace == pytest.approx(found.trace, rel=1e-9)
    assert said.trace_stderr == pytest.approx(found.moments.trace_stderr, rel=1e-6)
    # Without what the deflated vectors, which are eigenvectors to a thousandth, couple to the rest.
    assert said.frobenius == pytest.approx(found.frobenius, rel=1e-6)
    for z in (1e-3, 1e-2, 1e-1):
        exact = np.sum(np.maximum(values, 0) / (np.maximum(values, 0) + z))
        assert found.effective_dimension(z) == pytest.approx(exact, rel=0.1)
    assert found.participation_ratio == pytest.approx(values.sum() ** 2 / np.sum(values**2), rel=0.1)
    assert found.trace_per_number == pytest.approx(values.mean(), rel=0.05)
    assert found.lambda_max == pytest.approx(values.max(), rel=1e-4)


@pytest.mark.parametrize("draw", [gaussian, rademacher])
def test_a_marchenko_pastur_spectrum(draw):
    """XᵀX / m of an m × n matrix of Gaussian numbers: φ(λ) = √((b − λ)(λ − a)) / (2π c λ), c = n/m, a, b = (1 ∓ √c)²."""
    rows, size = 1200, 400
    matrix = np.random.default_rng(0).standard_normal((rows, size))
    entries = torch.from_numpy(matrix)
    operator = Counted(lambda vector: entries.T @ (entries @ vector) / rows)
    found = density_of(operator, size, probes=6, steps=30, draw=draw)
    ratio = size / rows
    low, high = (1 - math.sqrt(ratio)) ** 2, (1 + math.sqrt(ratio)) ** 2
    grid = np.linspace(low, high, 4001)[1:-1]
    law = np.sqrt((high - grid) * (grid - low)) / (2 * math.pi * ratio * grid)
    nodes, weights = found.density()
    assert wasserstein_distance(nodes, grid, weights, law) < 0.04
    assert weights.sum() == pytest.approx(1)
    assert found.trace / size == pytest.approx(1, abs=0.05)
    assert found.frobenius**2 / size == pytest.approx(1 + ratio, abs=0.15)


def test_what_fills_the_space_is_exact():
    values = np.array([7.0, 5, 5, 1, 0, 0, -2, -3, 0.5])
    for known, dtype in [(0, F64), (2, F64), (5, F32), (9, F64)]:
        found = density_of(
            dense(rotated(values)), 9, largest=known, steps=12, probes=3, dtype=dtype, tolerance=1e-4
        )
        nodes, weights = found.density()
        expected = wasserstein_distance(nodes, values, weights)
        assert expected == pytest.approx(0, abs=1e-4)
        assert found.trace == pytest.approx(values.sum(), abs=1e-4)
        assert found.frobenius == pytest.approx(np.linalg.norm(values), abs=1e-4)
        assert (found.moments.trace_stderr, found.moments.frobenius_stderr) == (0, 0)
        assert found.nodes.shape == found.weights.shape == (3, 12)


def test_moments_of_a_probe_are_those_of_its_vector():
    """Gaussian quadrature of m nodes is exact for polynomials up to the degree 2 m − 1."""
    matrix = rotated(network_like(80, top=2, ratio=0.3))
    none = pairs(dense(matrix), gaussian(80, 0, dtype=F64), largest=0, smallest=0)
    vector = gaussian(80, 2, dtype=F64)
    found = probe(dense(matrix), vector, steps=5, deflated=none)
    unit = (vector / vector.norm()).numpy()
    for degree in range(10):
        exact = unit @ np.linalg.matrix_power(matrix, degree) @ unit
        assert np.sum(found.weights * found.nodes**degree) == pytest.approx(exact, rel=1e-9)


@pytest.mark.parametrize("rest", [False, True])
def test_estimates_have_no_bias_and_their_standard_errors_are_right(rest):
    """Also where the deflated vectors are no eigenvectors to the last digit: here to a twentieth."""
    values = network_like(60, top=12, ratio=0.2)
    operator = dense(rotated(values))
    known = pairs(operator, gaussian(60, 1, dtype=F64), largest=2, smallest=1, tolerance=0.3)
    assert known.residuals.max() > 0.02
    probes = [
        probe(
            operator,
            gaussian(60, seed, dtype=F64),
            steps=2,
            deflated=known,
            rest=gaussian(60, seed, "rest", dtype=F64) if rest else None,
        )
        for seed in range(1600)
    ]
    every = whole(probes, known, size=60)
    assert abs(every.trace - values.sum()) < 4 * every.moments.trace_stderr
    assert abs(every.frobenius - np.linalg.norm(values)) < 4 * every.moments.frobenius_stderr
    groups = [whole(probes[at : at + 16], known, size=60) for at in range(0, 1600, 16)]
    assert np.std([each.trace for each in groups]) == pytest.approx(
        np.sqrt(np.mean([each.moments.trace_stderr**2 for each in groups])), rel=0.2
    )
    assert np.std([each.frobenius for each in groups]) == pytest.approx(
        np.sqrt(np.mean([each.moments.frobenius_stderr**2 for each in groups])), rel=0.2
    )


def test_one_product_more_makes_trace_and_norm_better(hessians):
    values = hessians[0][1]
    errors = {}
    for rest in (False, True):
        found = [
            density_of(diagonal(values), 1510, largest=10, probes=2, steps=30, seed=seed, rest=rest)
            for seed in range(20)
        ]
        assert [each.num_products.sum() for each in found] == [2 * (30 + rest)] * 20
        errors[rest] = (
            np.std([each.trace for each in found]),
            np.std([each.frobenius for each in found]),
        )
        assert np.mean([each.trace for each in found]) == pytest.approx(
            values.sum(), abs=4 * errors[rest][0] / math.sqrt(20)
        )
    assert errors[True][0] < errors[False][0] / 3
    assert errors[True][1] < errors[False][1] / 3


def test_deflation_makes_the_errors_smaller():
    values = network_like(1000, top=20, ratio=0.02)
    errors = [
        np.mean(
            [
                distance(
                    density_of(diagonal(values), 1000, largest=largest, probes=2, steps=20, seed=seed), values
                )
                for seed in range(4)
            ]
        )
        for largest in (0, 10)
    ]
    assert errors[1] < errors[0] / 2


def test_a_run_that_ends_early_is_padded():
    values = np.repeat([3.0, -1.0], [40, 60])
    found = density_of(diagonal(values), 100, probes=2, steps=10)
    assert found.weights[:, 2:].sum() == 0
    assert found.nodes[:, :2] == pytest.approx(np.array([[-1.0, 3.0]] * 2))
    assert np.isfinite(found.nodes).all()


def test_one_probe_has_no_standard_error_and_says_so():
    found = density_of(diagonal(np.linspace(0, 1, 100)), 100, probes=1, steps=5)
    assert math.isnan(found.moments.trace_stderr)
    assert math.isnan(found.moments.frobenius_stderr)


def test_a_product_that_is_not_finite_leaves_nan():
    operator = Counted(
        lambda vector: vector * math.nan if operator.count == 4 else torch.arange(60.0) * vector
    )
    none = pairs(operator, gaussian(60, 1), largest=0, smallest=0)
    found = probe(operator, gaussian(60, 1), steps=10, deflated=none)
    assert operator.count == 4
    assert np.isnan(found.nodes).all()
    assert math.isnan(whole([found, found], none, size=60).trace)


def test_no_step_is_refused():
    none = pairs(diagonal([1.0]), gaussian(1, 1), largest=0, smallest=0)
    with pytest.raises(LandscapeError, match="0 steps of a probe are too few"):
        probe(diagonal([1.0]), gaussian(1, 1), steps=0, deflated=none)


@given(st.integers(1, 25), st.integers(0, 10_000), st.data())
def test_random_small_matrices_are_exact_when_filled(size, seed, data):
    values = np.random.default_rng(seed).integers(-3, 4, size).astype(float)
    largest = data.draw(st.integers(0, size))
    smallest = data.draw(st.integers(0, size - largest))
    found = density_of(
        dense(rotated(values, seed)),
        size,
        largest=largest,
        smallest=smallest,
        steps=size,
        probes=1,
        tolerance=1e-8,
    )
    assert found.trace == pytest.approx(values.sum(), abs=1e-6)
    assert found.frobenius == pytest.approx(np.linalg.norm(values), abs=1e-5)
    nodes, weights = found.density()
    assert wasserstein_distance(nodes, values, weights) == pytest.approx(0, abs=1e-6)
