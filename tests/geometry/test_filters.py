"""A filter is what makes an output channel: each is set to zero, and the layer's output says which."""

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from mpi_landscape.geometry.filters import division, is_normalization
from mpi_landscape.geometry.layout import layout_of

LAYERS = [
    (nn.Linear(5, 3, bias=False), (4, 5), 1, "linear"),
    (nn.Conv1d(4, 6, 3, bias=False), (2, 4, 9), 1, "convolution over time"),
    (nn.Conv2d(4, 6, (3, 2), bias=False), (2, 4, 9, 7), 1, "convolution"),
    (nn.Conv2d(4, 6, 3, groups=2, bias=False), (2, 4, 9, 7), 1, "grouped"),
    (nn.Conv2d(4, 8, 3, groups=4, bias=False), (2, 4, 9, 7), 1, "depthwise, two filters per channel"),
    (nn.Conv3d(2, 3, 2, bias=False), (1, 2, 4, 5, 3), 1, "volumes"),
    (nn.ConvTranspose1d(4, 6, 3, bias=False), (2, 4, 9), 1, "transposed over time"),
    (nn.ConvTranspose2d(4, 6, (3, 2), bias=False), (2, 4, 5, 7), 1, "transposed: output channels on axis 1"),
    (nn.ConvTranspose2d(4, 6, 3, groups=2, bias=False), (2, 4, 5, 7), 1, "transposed in groups"),
    (nn.ConvTranspose2d(6, 6, 3, groups=6, bias=False), (2, 6, 5, 7), 1, "transposed depthwise"),
    (nn.ConvTranspose2d(6, 4, 3, groups=2, bias=False), (2, 6, 5, 7), 1, "transposed, fewer out than in"),
    (nn.ConvTranspose3d(2, 4, 2, groups=2, bias=False), (1, 2, 3, 4, 5), 1, "transposed volumes"),
]


@pytest.mark.parametrize(("layer", "input_shape", "channel_axis", "reason"), LAYERS)
def test_zeroing_a_filter_zeroes_exactly_one_output_channel(layer, input_shape, channel_axis, reason):
    torch.manual_seed(0)
    layer = layer.double()
    (entry,) = layout_of(layer).entries
    inputs = torch.randn(input_shape, dtype=torch.float64)
    original = layer.weight.detach().clone()
    before = layer(inputs).detach().movedim(channel_axis, 0)
    assert entry.num_filters == len(before), reason
    for number in range(entry.num_filters):
        view = original.clone().reshape(entry.filter_view)
        place = torch.unravel_index(
            torch.tensor(number), [entry.filter_view[axis] for axis in entry.filter_axes]
        )
        index = [slice(None)] * view.dim()
        for axis, at in zip(entry.filter_axes, place, strict=True):
            index[axis] = int(at)
        view[tuple(index)] = 0
        with torch.no_grad():
            layer.weight.copy_(view.reshape(entry.shape))
        after = layer(inputs).detach().movedim(channel_axis, 0)
        others = [channel for channel in range(len(before)) if channel != number]
        assert (after[number] == 0).all(), reason
        assert (after[others] == before[others]).all(), reason
        assert (before[number] != 0).any(), reason


def test_an_embedding_row_is_one_token():
    layer = nn.Embedding(7, 3)
    (entry,) = layout_of(layer).entries
    assert (entry.kind, entry.filter_view, entry.filter_axes) == ("weight", (7, 3), (0,))
    with torch.no_grad():
        layer.weight[4] = 0
    assert [token for token in range(7) if (layer(torch.tensor(token)) == 0).all()] == [4]


class LayerNorm2d(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))
        self.bias = nn.Parameter(torch.zeros(3))


class Affine(nn.BatchNorm2d):
    pass


class Scale(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(3))
        self.temperature = nn.Parameter(torch.tensor(1.0))
        self.logit_bias = nn.Parameter(torch.tensor(1.0))
        self.position_bias_table = nn.Parameter(torch.ones(5, 2))
        self.token = nn.Parameter(torch.ones(1, 1, 4))


class Normalized(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2, 3))


@pytest.mark.parametrize(
    ("layer", "expected", "reason"),
    [
        (
            nn.Linear(2, 3),
            {"weight": ("weight", 3), "bias": ("bias", 1)},
            "one filter per output; bias is one",
        ),
        (nn.BatchNorm2d(3), {"weight": ("norm", 1), "bias": ("norm", 1)}, "both belong to the normalisation"),
        (nn.LayerNorm((3, 4)), {"weight": ("norm", 1), "bias": ("norm", 1)}, "two axes, still one filter"),
        (nn.GroupNorm(2, 4), {"weight": ("norm", 1), "bias": ("norm", 1)}, "group normalisation"),
        (nn.InstanceNorm1d(4, affine=True), {"weight": ("norm", 1), "bias": ("norm", 1)}, "instance"),
        (nn.RMSNorm(4), {"weight": ("norm", 1)}, "root mean square"),
        (LayerNorm2d(), {"weight": ("norm", 1), "bias": ("norm", 1)}, "a custom one, by its name"),
        (Affine(3), {"weight": ("norm", 1), "bias": ("norm", 1)}, "a subclass under another name"),
        (Normalized(), {"weight": ("weight", 2)}, "Norm must end the name, not start it"),
        (
            Scale(),
            {
                "gamma": ("weight", 1),
                "temperature": ("scalar", 1),
                "logit_bias": ("bias", 1),
                "position_bias_table": ("weight", 5),
                "token": ("weight", 1),
            },
            "loose parameters",
        ),
        (
            nn.MultiheadAttention(4, 2),
            {
                "in_proj_weight": ("weight", 12),
                "in_proj_bias": ("bias", 1),
                "out_proj.weight": ("weight", 4),
                "out_proj.bias": ("bias", 1),
            },
            "rows of queries, keys and values",
        ),
        (
            nn.GRU(3, 2),
            {
                "weight_ih_l0": ("weight", 6),
                "weight_hh_l0": ("weight", 6),
                "bias_ih_l0": ("bias", 1),
                "bias_hh_l0": ("bias", 1),
            },
            "gates of a recurrent layer",
        ),
        (
            parametrizations.weight_norm(nn.ConvTranspose2d(4, 6, 3, groups=2)),
            {
                "bias": ("bias", 1),
                "parametrizations.weight.original0": ("weight", 4),
                "parametrizations.weight.original1": ("weight", 6),
            },
            "magnitudes per input channel (torch's dim=0), directions per output channel",
        ),
        (
            parametrizations.spectral_norm(nn.Linear(2, 3)),
            {"bias": ("bias", 1), "parametrizations.weight.original": ("weight", 3)},
            "spectral normalisation of a linear layer is no normalisation layer",
        ),
    ],
)
def test_kinds_and_numbers_of_filters(layer, expected, reason):
    found = {entry.name: (entry.kind, entry.num_filters) for entry in layout_of(layer).entries}
    assert found == expected, reason


def test_every_view_keeps_the_number_of_elements():
    for layer, *_ in LAYERS:
        shape = tuple(layer.weight.shape)
        rule = division(layer, "weight", shape)
        assert torch.empty(rule.view).numel() == layer.weight.numel()


def test_layers_without_statistics_are_not_normalisation():
    assert not is_normalization(nn.Conv2d(1, 1, 1))
    assert not is_normalization(nn.Sequential(nn.BatchNorm1d(2)))
