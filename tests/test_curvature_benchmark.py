"""The sides of benchmarks/curvature.py find the same eigenvalues, those of the dense Hessian."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def sides():
    """The program's modules; afterwards nothing of its folder is left in this process."""
    before = set(sys.modules)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        import curvature_density
        import curvature_places
        import curvature_sides

        yield SimpleNamespace(density=curvature_density, places=curvature_places, sides=curvature_sides)
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(BENCHMARKS)):
            del sys.modules[name]


@pytest.fixture(scope="module")
def at(sides):
    """A small network off any minimum, with batches of several sizes."""
    torch.manual_seed(2)
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).eval()
    generator = torch.Generator().manual_seed(3)
    return sides.places.Place(
        network="small",
        where=(0.0, 0.0),
        model=model,
        inputs=2 * torch.randn(25, 4, generator=generator),
        targets=torch.randint(0, 3, (25,), generator=generator),
        batch_size=10,
    )


@pytest.fixture(scope="module")
def exact(sides, at):
    return sides.density.dense_eigenvalues(at)


def test_the_reference_is_the_dense_one(sides, at, exact):
    found = sides.sides.reference(at)
    np.testing.assert_allclose([found.smallest, found.largest], exact[[0, -1]], rtol=1e-6)


@pytest.mark.parametrize("name", ["ours", "ours, graphs rebuilt", "curvlinops, ARPACK"])
def test_both_ends_are_those_of_the_dense_hessian(sides, name, at, exact):
    if name not in sides.sides.BOTH:
        pytest.skip("pip install curvlinops-for-pytorch")
    found = sides.sides.timed(sides.sides.BOTH[name], at, seed=1)
    # Residuals of a hundredth of an eigenvalue, whose errors are of second order.
    np.testing.assert_allclose([found.smallest, found.largest], exact[[0, -1]], rtol=1e-3)
    assert found.products > 1
    assert found.seconds > 0


def test_the_largest_alone_needs_fewer_products(sides, at, exact):
    alone = sides.sides.largest_alone(at, 1)
    assert alone.smallest is None
    assert alone.products <= sides.sides.both_ends(at, 1).products
    np.testing.assert_allclose(alone.largest, exact[-1], rtol=1e-3)


def test_a_density_with_room_for_the_whole_space_is_exact(sides, at, exact):
    found, products, _ = sides.density.one(at, 1, 3, 1, len(exact))
    # The trace of a run in float32 that fills the space.
    np.testing.assert_allclose(found.trace, exact.sum(), rtol=1e-4)
    assert products > 3
