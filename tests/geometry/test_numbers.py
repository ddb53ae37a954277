"""Parameters of other numbers: a single one, complex ones, integers; and those that no training moves."""

import numpy as np
import pytest
import torch
from torch import nn

from mpi_landscape import LandscapeError
from mpi_landscape.evaluation.replica import attach, network_on
from mpi_landscape.geometry.directions import ignore, keep_frozen, random_direction
from mpi_landscape.geometry.layout import layout_of
from mpi_landscape.geometry.normalization import filter_norms, norm_ratios, normalize


class Mixed(nn.Module):
    """Single numbers, an odd number of real ones before complex ones, and integers."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.logit_scale = nn.Parameter(torch.tensor(2.5))
        self.layer = nn.Linear(4, 3, bias=False)
        self.filter = nn.Parameter(torch.randn(3, 5, generator=generator, dtype=torch.complex64))
        self.codes = nn.Parameter(torch.arange(3), requires_grad=False)
        self.slope = nn.PReLU()
        self.phase = nn.Parameter(torch.randn((), generator=generator, dtype=torch.complex64))


def test_a_complex_tensor_lies_in_the_vector_as_pairs():
    model = Mixed()
    layout = layout_of(model)
    assert [entry.name for entry in layout.entries] == [
        "filter",
        "phase",
        "logit_scale",
        "layer.weight",
        "slope.weight",
    ]
    assert layout.fixed == ("codes",)
    assert layout.size == 30 + 2 + 1 + 12 + 1
    vector = layout.flatten(dict(model.named_parameters()), where="model")
    expected = np.stack([model.filter.detach().numpy().real, model.filter.detach().numpy().imag], axis=-1)
    assert np.array_equal(vector[:30].numpy(), expected.reshape(-1))
    assert vector[30:32].tolist() == [model.phase.real.item(), model.phase.imag.item()]
    views = layout.views(vector)
    for name, parameter in model.named_parameters():
        if name != "codes":
            assert torch.equal(views[name], parameter), name
            assert views[name].data_ptr() >= vector.data_ptr()


def test_a_network_follows_the_vector_in_both_parts():
    model = Mixed()
    layout = layout_of(model)
    vector = layout.flatten(dict(model.named_parameters()), where="model", dtype=torch.float64)
    network = network_on(model, torch.device("cpu"), torch.float64)
    assert network.filter.dtype == torch.complex128
    assert torch.equal(network.filter.to(torch.complex64), model.filter)
    attach(network, layout.views(vector))
    vector[3] = -7
    assert network.filter[0, 1].imag == -7


def test_a_filter_of_complex_numbers_has_the_norm_of_its_absolute_values():
    model = Mixed()
    layout = layout_of(model)
    center = layout.flatten(dict(model.named_parameters()), where="model")
    direction = random_direction(layout, seed=1)
    rows = [np.linalg.norm(row) for row in model.filter.detach().numpy().astype(np.complex128)]
    assert filter_norms(center, layout)[:4] == pytest.approx([*rows, abs(model.phase.item())], rel=1e-6)
    moved = normalize(direction, center, layout, how="filter")
    assert norm_ratios(moved, center, layout) == pytest.approx(1, rel=1e-6)
    found = layout.views(moved)["filter"].numpy().astype(np.complex128)
    assert [np.linalg.norm(row) for row in found] == pytest.approx(rows, rel=1e-6)
    assert np.abs(found.imag).min() > 0, "both parts move"


def test_complex_numbers_of_sixteen_bits_are_refused():
    layout = layout_of(Mixed())
    with pytest.raises(
        LandscapeError, match=r"filter is complex, and there are no complex numbers of torch\.bfloat16"
    ):
        layout.views(torch.zeros(layout.size, dtype=torch.bfloat16))


def test_real_numbers_are_no_complex_ones():
    state = {**dict(Mixed().named_parameters()), "filter": torch.zeros(3, 5)}
    with pytest.raises(LandscapeError, match=r"filter has dtype torch\.float32, the network complex numbers"):
        layout_of(Mixed()).flatten(state, where="x.pt")


def test_single_numbers_are_scalars_and_stay_with_norms():
    layout = layout_of(Mixed())
    assert {entry.name: entry.kind for entry in layout.entries} == {
        "filter": "weight",
        "phase": "scalar",
        "logit_scale": "scalar",
        "layer.weight": "weight",
        "slope.weight": "scalar",
    }
    direction = random_direction(layout, seed=1)
    for patterns in (["bias", "norm"], ["scalar"]):
        still = [
            name for name, view in layout.views(ignore(direction, layout, patterns)).items() if not view.any()
        ]
        assert still == ["phase", "logit_scale", "slope.weight"], patterns


def test_one_number_can_be_the_weight_of_a_layer_of_pytorch():
    model = nn.Sequential(nn.Linear(1, 1), nn.Conv2d(1, 1, 1, bias=False), nn.Embedding(1, 1))
    assert [entry.kind for entry in layout_of(model).entries] == ["weight", "bias", "weight", "weight"]


def test_frozen_tensors_stay_at_the_center():
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2))
    model[0].requires_grad_(False)
    layout = layout_of(model)
    assert [entry.trainable for entry in layout.entries] == [False, False, True, True]
    direction = random_direction(layout, seed=1)
    kept = keep_frozen(direction, layout)
    assert not kept[:8].any()
    assert torch.equal(kept[8:], direction[8:])


def test_a_network_that_is_frozen_as_a_whole_moves():
    model = nn.Linear(3, 2).requires_grad_(False)
    layout = layout_of(model)
    assert layout.is_frozen
    assert keep_frozen(torch.ones(8), layout).all()


def test_running_statistics_never_move_at_random():
    layout = layout_of(nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 2)), normalization_buffers=True)
    views = layout.views(random_direction(layout, seed=1))
    assert {name for name, view in views.items() if not view.any()} == {"0.running_mean", "0.running_var"}
