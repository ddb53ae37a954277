"""Products of the Hessian: closed forms, dense Hessians in float64, and the network as it was afterwards."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from mpi_landscape.evaluation.arithmetic import exact_arithmetic
from mpi_landscape.geometry.layout import layout_of
from tests.evaluation.curvature.oracle import (
    KINDS,
    batches_of,
    dense,
    made,
    mean_square,
    products_of,
    whole,
)


@pytest.fixture(autouse=True)
def exact():
    with exact_arithmetic():
        yield


def test_the_hessian_of_a_quadratic_is_its_closed_form():
    # L = mean((x·w - y)²) has the Hessian 2/N Xᵀ X. Small integers: nothing rounds but the division.
    inputs = torch.tensor(
        [[1.0, -2.0, 3.0], [0.0, 4.0, 1.0], [2.0, 2.0, -1.0], [5.0, 0.0, 1.0], [-3.0, 1.0, 2.0]]
    )
    model = nn.Linear(3, 1, bias=False)
    with products_of(model, mean_square) as products:
        found = whole(products, batches_of([inputs, torch.ones(5)], 2))
    assert torch.equal(found, 2 * (inputs.T @ inputs).double() / 5)


def error_of(found, wanted):
    """By how much any eigenvalue may be off, relative to the largest."""
    return float(torch.linalg.matrix_norm(found - wanted, ord=2) / torch.linalg.matrix_norm(wanted, ord=2))


# Relative to the largest eigenvalue.
PRECISIONS = [(torch.float64, 1e-11), (torch.float32, 1e-6)]


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS, ids=["float64", "float32"])
@pytest.mark.parametrize("kind", KINDS)
def test_products_are_those_of_the_dense_hessian_in_float64(kind, dtype, tolerance):
    model, loss, data = made(kind)
    names = [entry.name for entry in layout_of(model).entries if entry.trainable]
    if kind == "tied":  # the oracle has one tensor in both places
        single = copy.deepcopy(model)
        single.fourth.weight = single.third.weight
        wanted = dense(single, loss, data, names)
    else:
        wanted = dense(model, loss, data, names)
    before = copy.deepcopy(model.state_dict())
    asked = [each.requires_grad for each in model.parameters()]
    model.train()
    with products_of(model, loss, dtype=dtype) as products:
        found = whole(products, batches_of(data, 4, dtype))
    assert found.dtype == torch.float64
    assert error_of(found, wanted) < tolerance
    assert model.training
    assert all(torch.equal(model.state_dict()[name], value) for name, value in before.items())
    assert [each.requires_grad for each in model.parameters()] == asked
    assert all(each.grad is None for each in model.parameters())
