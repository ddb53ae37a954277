"""The greatest loss in Keskar's box: closed forms, and L-BFGS-B of scipy."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from mpi_landscape.evaluation.sharpness import sharpness_of


def quadratic(steep, slope=None):
    slope = torch.zeros_like(steep) if slope is None else slope

    def at(z):
        return 0.3 + float((steep * z * z).sum()) / 2 + float(slope @ z), steep * z + slope

    return at


@pytest.mark.parametrize("epsilon", [1e-3, 0.5])
def test_a_quadratic_is_greatest_at_a_corner_of_the_box(epsilon):
    generator = torch.Generator().manual_seed(2)
    middle = torch.randn(40, generator=generator, dtype=torch.float64)
    steep = torch.rand(40, generator=generator, dtype=torch.float64) + 0.1
    found = sharpness_of(quadratic(steep), middle, epsilon=epsilon)
    # Every corner is as high: the greatest of every coordinate.
    greatest = 0.3 + float((steep * (epsilon * (middle.abs() + 1)) ** 2).sum()) / 2
    assert found.loss == pytest.approx(0.3)
    assert found.greatest == pytest.approx(greatest, rel=1e-12)
    assert found.sharpness == pytest.approx((greatest - 0.3) / 1.3 * 100, rel=1e-9)
    assert found.settled


def test_a_linear_loss_is_greatest_at_the_corner_that_its_slope_points_to():
    middle, slope = torch.tensor([0.0, -4.0, 2.0]).double(), torch.tensor([1.0, -2.0, 0.5]).double()
    found = sharpness_of(quadratic(torch.zeros(3).double(), slope), middle, epsilon=0.1)
    assert found.greatest == pytest.approx(0.3 + 0.1 * (1 * 1 + 2 * 5 + 0.5 * 3))


def test_nothing_in_the_box_is_higher_than_a_maximum():
    found = sharpness_of(quadratic(-torch.ones(5).double()), torch.zeros(5).double(), epsilon=0.1)
    assert found.greatest == found.loss == pytest.approx(0.3)
    assert found.sharpness == 0


def test_a_loss_that_overflows_in_the_box_is_infinitely_sharp():
    def at(z):
        height = math.inf if float(z.abs().max()) > 0.05 else 1.0
        return height, torch.ones_like(z)

    found = sharpness_of(at, torch.zeros(4).double(), epsilon=0.1)
    assert found.greatest == math.inf
    assert found.sharpness == math.inf


@pytest.mark.parametrize("epsilon", [1e-3, 1e-2])
def test_it_climbs_as_high_as_l_bfgs_b_on_a_small_network(epsilon):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3)).double()
    inputs, targets = torch.randn(60, 4, dtype=torch.float64), torch.arange(60) % 3
    inputs[:, 0] += 3 * (targets == 0)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    for _ in range(300):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
    names, start = [name for name, _ in model.named_parameters()], list(model.parameters())
    middle = torch.cat([each.detach().reshape(-1) for each in start])

    def at(z):
        moved = (middle + z).requires_grad_()
        parts = torch.split(moved, [each.numel() for each in start])
        state = {name: part.view(each.shape) for name, part, each in zip(names, parts, start, strict=True)}
        loss = torch.nn.functional.cross_entropy(torch.func.functional_call(model, state, inputs), targets)
        (gradient,) = torch.autograd.grad(loss, moved)
        return loss.item(), gradient

    half = (epsilon * (middle.abs() + 1)).numpy()

    def down(z):
        loss, gradient = at(torch.from_numpy(z))
        return -loss, -gradient.numpy()

    # Both find one of many corners: the best of three starts.
    here = at(torch.zeros_like(middle))[0]
    found = max(sharpness_of(at, middle, epsilon=epsilon, seed=seed).greatest for seed in range(3))
    best = -min(
        minimize(
            down,
            0.1 * half * np.random.default_rng(seed).uniform(-1, 1, len(half)),
            jac=True,
            method="L-BFGS-B",
            bounds=list(zip(-half, half, strict=True)),
        ).fun
        for seed in range(3)
    )
    assert best > here
    assert found - here >= 0.95 * (best - here)
