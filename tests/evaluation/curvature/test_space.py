"""Which parameters are a vector, and coordinates in which a rescaled layer is the same."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from mpi_landscape.errors import LandscapeError
from mpi_landscape.evaluation.arithmetic import exact_arithmetic
from mpi_landscape.evaluation.curvature.space import space_of
from mpi_landscape.geometry.layout import layout_of
from mpi_landscape.geometry.normalization import filter_norms
from tests.evaluation.curvature.oracle import batches_of, made, products_of, whole


@pytest.fixture(autouse=True)
def exact():
    with exact_arithmetic():
        yield


def test_a_vector_holds_what_counts_in_the_order_of_the_layout():
    model, _, _ = made("residual")
    model.second.weight.requires_grad_(False)
    space = space_of(layout_of(model, normalization_buffers=True))
    wanted = [(name, each) for name, each in model.named_parameters() if name != "second.weight"]
    assert space.names == tuple(name for name, _ in wanted)
    vector = space.vector(model.state_dict())
    assert torch.equal(vector, torch.cat([each.detach().reshape(-1) for _, each in wanted]))
    assert all(torch.equal(space.tensors(vector)[name], each) for name, each in wanted)
    whole_vector = space.in_layout(vector)
    assert whole_vector.shape == (space.layout.size,)
    assert torch.equal(space.of_layout(whole_vector), vector)
    assert int((whole_vector != 0).sum()) == int((vector != 0).sum())


def test_complex_numbers_are_pairs_and_tied_parameters_are_one():
    model, _, _ = made("complex")
    space = space_of(layout_of(model))
    assert space.size == 2 * 12 + 20
    vector = space.vector(model.state_dict())
    assert torch.equal(space.tensors(vector)["turn"], model.turn)
    tied, _, _ = made("tied")
    assert space_of(layout_of(tied)).size == 16 + 4 + 4 + 16


def test_parameters_are_chosen_by_patterns_or_by_what_moves():
    model, _, _ = made("residual")
    layout = layout_of(model)
    weights = ("first.weight", "norm1.weight", "second.weight", "norm2.weight", "head.weight")
    assert space_of(layout, parameters=["*.weight"]).names == weights
    direction = torch.zeros(layout.size)
    direction[layout.entries[1].offset] = 1
    assert space_of(layout, parameters="moving", directions=[torch.zeros(layout.size), direction]).names == (
        "norm1.weight",
    )


WRONG = [
    (["*.weights"], r"hessian.parameters: '\*.weights' fits no parameter; valid are patterns of names such as"),
    ([], "hessian.parameters: is empty"),
    ("moving", "hessian.parameters is moving, and no direction moves a parameter"),
    ("all", "hessian.parameters is 'all'; valid is trainable, moving, or a list of patterns"),
]  # fmt: skip


@pytest.mark.parametrize(("parameters", "message"), WRONG)
def test_a_choice_of_nothing_is_refused(parameters, message):
    model, _, _ = made("residual")
    layout = layout_of(model)
    with pytest.raises(LandscapeError, match=message):
        space_of(layout, parameters=parameters, directions=[torch.zeros(layout.size)])


def test_units_are_the_norms_of_filters():
    model, _, _ = made("residual")
    layout = layout_of(model)
    space = space_of(layout)
    found = space.scale(space.vector(model.state_dict()))
    norms, start = filter_norms(space.vector(model.state_dict()), layout), 0
    for entry in layout.entries:
        own = torch.from_numpy(norms[start : start + entry.num_filters])
        each = found[entry.offset : entry.stop].reshape(entry.num_filters, -1)
        torch.testing.assert_close(each, own[:, None].expand_as(each), rtol=1e-12, atol=0)
        start += entry.num_filters


def test_a_rescaled_relu_layer_changes_the_hessian_and_not_the_normalized_one():
    model, loss, data = made("mlp")
    batches = batches_of(data, 4, torch.float64)
    other = copy.deepcopy(model)
    with torch.no_grad():  # relu(c z) = c relu(z)
        other[0].weight *= 8
        other[0].bias *= 8
        other[2].weight /= 8
    found = {}
    for name, network in (("model", model), ("other", other)):
        with products_of(network, loss, dtype=torch.float64) as products:
            space = products.space
            scale = space.scale(space.vector(network.state_dict(), torch.float64))
            hessian = whole(products, batches)
            # By products with D on both sides, as a run has them.
            normalized = scale * products.product(torch.diag(scale), lambda: [batches])
        found[name] = torch.linalg.eigvalsh(hessian), torch.linalg.eigvalsh(normalized)
    plain, scaled = zip(found["model"], found["other"], strict=True)
    assert float((scaled[0] - scaled[1]).abs().max()) < 1e-10 * float(scaled[0].abs().max())
    assert float((plain[0] - plain[1]).abs().max()) > 0.5 * float(plain[0].abs().max())


def test_a_vector_of_another_length_is_refused():
    model = nn.Linear(2, 1)
    space = space_of(layout_of(model))
    with pytest.raises(
        LandscapeError, match=r"a vector has shape \(4,\); the parameters that count make \(3,\)"
    ):
        space.tensors(torch.zeros(4))
