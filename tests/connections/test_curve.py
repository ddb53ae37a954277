"""Curves between two vectors: points, lengths, and vectors put along them anew, against plain formulas."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from scipy.integrate import quad

from mpi_landscape.connections.curve import (
    bezier,
    chain,
    even_places,
    line,
    redistributed,
    straight_controls,
)


def vectors(number, size=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(number, size, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_curve_passes_its_ends_bit_for_bit(dtype):
    controls = vectors(3).to(dtype)
    for curve in (bezier(controls), chain(controls), chain(controls, [0.0, 0.9, 1.0])):
        assert torch.equal(curve.point(0.0), controls[0])
        assert torch.equal(curve.point(1.0), controls[2])
    assert torch.equal(chain(controls, [0.0, 0.9, 1.0]).point(0.9), controls[1])


def test_a_bezier_curve_is_its_formula():
    a, c, b = vectors(3)
    for t in (0.1, 0.5, 0.83):
        wanted = (1 - t) ** 2 * a + 2 * t * (1 - t) * c + t**2 * b
        torch.testing.assert_close(bezier(torch.stack([a, c, b])).point(t), wanted)


def test_a_chain_is_numpys_interpolation():
    controls, places = vectors(4), [0.0, 0.2, 0.7, 1.0]
    for t in np.linspace(0, 1, 23):
        wanted = [np.interp(t, places, column) for column in controls.T.numpy()]
        np.testing.assert_allclose(chain(controls, places).point(float(t)).numpy(), wanted, atol=1e-14)


def test_a_point_is_memory_of_its_own():
    controls = vectors(2)
    before = controls.clone()
    line(*controls).point(0.0).zero_()
    assert torch.equal(controls, before)


@pytest.mark.parametrize("scale", [1.0, 0.0], ids=["bent", "a bend on the line"])
def test_the_length_of_a_bezier_curve_is_the_integral_of_its_speed(scale):
    a, c, b = vectors(3).numpy()
    c = (a + b) / 2 + scale * (c - (a + b) / 2)
    places = [0.0, 0.2, 0.25, 0.9, 1.0]

    def speed(t):
        return float(np.linalg.norm(2 * (1 - t) * (c - a) + 2 * t * (b - c)))

    wanted = [quad(speed, 0, t, epsabs=1e-12)[0] for t in places]
    curve = bezier(torch.tensor(np.stack([a, c, b])))
    np.testing.assert_allclose(curve.lengths(places), wanted, rtol=1e-9)


def test_the_length_of_a_chain_is_that_of_its_pieces():
    controls = torch.tensor([[0.0, 0.0], [3.0, 4.0], [3.0, 6.0]])
    np.testing.assert_allclose(
        chain(controls, [0.0, 0.8, 1.0]).lengths([0.0, 0.4, 0.8, 0.9, 1.0]), [0, 2.5, 5, 6, 7]
    )


def plain_redistribution(controls, shares):
    """In a plain loop: walk along the pieces until the wanted length is used up."""
    controls = controls.numpy()
    pieces = [np.linalg.norm(after - before) for before, after in itertools.pairwise(controls)]
    made = [controls[0]]
    for number in range(1, len(controls) - 1):
        left = sum(shares[:number]) * sum(pieces)
        for index, piece in enumerate(pieces):
            if left <= piece:
                made.append(controls[index] + (controls[index + 1] - controls[index]) * left / piece)
                break
            left -= piece
    return np.stack([*made, controls[-1]])


@pytest.mark.parametrize("shares", [[0.25] * 4, [0.1, 0.2, 0.3, 0.4]], ids=["equal", "as they were"])
def test_vectors_are_put_along_a_chain_as_a_plain_loop_does(shares):
    controls = vectors(5, seed=3)
    np.testing.assert_allclose(
        redistributed(controls, shares).numpy(), plain_redistribution(controls, shares), atol=1e-12
    )


def test_vectors_at_equal_distances_stay_where_they_are():
    controls = straight_controls(*vectors(2), 6)
    torch.testing.assert_close(redistributed(controls, [0.2] * 5), controls)


def test_a_chain_without_length_stays_as_it_is():
    controls = torch.ones(4, 3)
    assert torch.equal(redistributed(controls, [1 / 3] * 3), controls)


def test_straight_controls_begin_and_end_with_the_ends():
    a, b = vectors(2).float()
    controls = straight_controls(a, b, 4)
    assert torch.equal(controls[0], a)
    assert torch.equal(controls[3], b)
    torch.testing.assert_close(controls[1], a + (b - a) / 3)
    assert even_places(4)[1] == 1 / 3
