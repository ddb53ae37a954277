"""What tensors are, seen in a pass: each filter is set to zero in turn, in float64, and exactly one output must go with it."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mpi_landscape.evaluation.roles import roles_of
from mpi_landscape.geometry.filters import Division
from mpi_landscape.geometry.layout import layout_of


class Layer(nn.Module):
    """A user's own layer: one weight, and a function of it."""

    def __init__(self, shape, function, **further):
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.weight = nn.Parameter(torch.randn(shape, generator=generator, dtype=torch.float64))
        for name, each in further.items():
            setattr(self, name, nn.Parameter(torch.randn(each, generator=generator, dtype=torch.float64)))
        self.function = function

    def forward(self, inputs):
        return self.function(self, inputs)


class ConvNorm(Layer):
    """Called a norm, and a convolution."""


def groups(own, x):
    return F.conv_transpose2d(x, own.weight, groups=2)


# Weight's shape, inputs' shape, function, axes of the outputs that enumerate units, number of units, reason.
WEIGHTS = [
    ((5, 4), (7, 5), lambda own, x: x @ own.weight, (1,), 4, "(in, out), as in GPT-2"),
    ((5, 4), (7, 5), lambda own, x: torch.addmm(torch.zeros(4).double(), x, own.weight), (1,), 4, "addmm"),
    (
        (5, 4),
        (7, 5),
        lambda own, x: torch.addmm(input=x.new_zeros(4), mat1=x, mat2=own.weight),
        (1,),
        4,
        "by name",
    ),
    ((5, 4), (7, 5), lambda own, x: x.mm(own.weight), (1,), 4, "a method"),
    ((5, 4), (2, 3, 5), lambda own, x: torch.matmul(x, own.weight), (2,), 4, "with more axes"),
    ((4, 5), (7, 5), lambda own, x: F.linear(x, own.weight), (1,), 4, "(out, in), as PyTorch"),
    ((5, 4), (7, 5), lambda own, x: F.linear(x, own.weight.t()), (1,), 4, "turned around"),
    ((4, 5), (7, 5), lambda own, x: x @ own.weight.T, (1,), 4, "turned around by an attribute"),
    ((5, 4), (5, 7), lambda own, x: own.weight.t() @ x, (0,), 4, "from the left"),
    ((4, 5), (5, 7), lambda own, x: own.weight @ x, (0,), 4, "from the left, (out, in)"),
    ((5, 4), (7, 5), lambda own, x: torch.einsum("bi,io->bo", x, own.weight), (1,), 4, "einsum"),
    (
        (4, 5),
        (7, 5),
        lambda own, x: torch.einsum("b i, o i -> b o", x, own.weight),
        (1,),
        4,
        "einsum, with spaces",
    ),
    ((3, 5, 4), (7, 3, 5), lambda own, x: torch.einsum("bhi,hio->bho", x, own.weight), (1, 2), 12, "heads"),
    (
        (5, 3, 4),
        (7, 5),
        lambda own, x: torch.einsum("...i,iho->...ho", x, own.weight),
        (1, 2),
        12,
        "in first",
    ),
    ((5, 3, 4), (7, 5), lambda own, x: x @ own.weight.view(5, 12), (1,), 12, "two axes as one"),
    (
        (5, 12),
        (7, 5),
        lambda own, x: torch.einsum("bi,iho->bho", x, own.weight.view(5, 3, 4)),
        (1, 2),
        12,
        "one as two",
    ),
    ((3, 5, 4), (3, 7, 5), lambda own, x: torch.bmm(x, own.weight), (0, 2), 12, "a weight per group"),
    (
        (3, 5, 4),
        (7, 5),
        lambda own, x: torch.stack([x @ each for each in own.weight]),
        (0, 2),
        12,
        "one by one",
    ),
    ((5, 4), (7, 5), lambda own, x: torch.tensordot(x, own.weight, dims=1), (1,), 4, "tensordot"),
    (
        (4, 5),
        (7, 5),
        lambda own, x: torch.tensordot(x, own.weight, dims=([1], [1])),
        (1,),
        4,
        "tensordot by axes",
    ),
    (
        (5, 4),
        (7, 5),
        lambda own, x: F.linear(x, (own.weight * 0.5).t()),
        (1,),
        4,
        "an equalized learning rate",
    ),
    ((6, 4, 3, 3), (2, 4, 9, 7), lambda own, x: F.conv2d(x, own.weight), (1,), 6, "convolution"),
    ((6, 2, 3), (2, 4, 9), lambda own, x: F.conv1d(x, own.weight, groups=2), (1,), 6, "grouped"),
    ((4, 6, 3), (2, 4, 9), lambda own, x: F.conv_transpose1d(x, own.weight), (1,), 6, "transposed"),
    ((4, 3, 3, 2), (2, 4, 5, 6), groups, (1,), 6, "transposed, in groups"),
    ((4, 5, 3), (7, 5), lambda own, x: F.bilinear(x, x[:, :3], own.weight), (1,), 4, "bilinear"),
]


@pytest.mark.parametrize("kind", [Layer, ConvNorm])
@pytest.mark.parametrize(
    ("shape", "inputs", "function", "units", "number", "reason"), WEIGHTS, ids=[each[-1] for each in WEIGHTS]
)
def test_a_filter_makes_one_output(kind, shape, inputs, function, units, number, reason):
    layer = kind(shape, function)
    inputs = torch.randn(inputs, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    (entry,) = layout_of(layer, roles=roles_of(layer, lambda network: network(inputs))).entries
    assert (entry.kind, entry.num_filters) == ("weight", number), reason

    def outputs():
        found = layer(inputs).detach()
        return found.movedim(units, tuple(range(len(units)))).reshape(number, -1)

    original, before, gone = layer.weight.detach().clone(), outputs(), set()
    for place in range(number):
        view = original.clone().reshape(entry.filter_view)
        at = torch.unravel_index(torch.tensor(place), [entry.filter_view[axis] for axis in entry.filter_axes])
        index = [slice(None)] * view.dim()
        for axis, each in zip(entry.filter_axes, at, strict=True):
            index[axis] = int(each)
        view[tuple(index)] = 0
        layer.weight.data = view.reshape(shape)
        after = outputs()
        changed = [unit for unit in range(number) if not torch.equal(after[unit], before[unit])]
        assert len(changed) == 1, reason
        assert not after[changed[0]].any(), reason
        gone.add(changed[0])
    assert gone == set(range(number)), reason


class Normalizing(nn.Module):
    def __init__(self, how):
        super().__init__()
        self.gain, self.shift = nn.Parameter(torch.ones(4)), nn.Parameter(torch.zeros(4))
        self.how = how

    def forward(self, x):
        return self.how(self, x)


def by_hand(own, x):
    spread = torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)
    return x * spread * own.gain + own.shift


def by_variance(own, x):
    return own.gain * (x - x.mean(-1, keepdim=True)) / (x.var(-1, keepdim=True) + 1e-6).sqrt() + own.shift


NORMS = [
    (by_hand, "root mean square"),
    (by_variance, "variance"),
    (
        lambda own, x: x / x.square().mean(-1, keepdim=True).sqrt() * (1 + own.gain) + own.shift,
        "one plus a scale",
    ),
    (lambda own, x: F.layer_norm(x, (4,), own.gain, own.shift), "a function"),
    (lambda own, x: F.layer_norm(x, (4,), weight=own.gain, bias=own.shift), "by name"),
    (lambda own, x: torch.layer_norm(x, (4,), own.gain, own.shift), "torch's own"),
    (lambda own, x: F.group_norm(x, 2, own.gain, own.shift), "groups"),
    (lambda own, x: F.batch_norm(x, torch.zeros(4), torch.ones(4), own.gain, own.shift), "batch"),
]


@pytest.mark.parametrize(("how", "reason"), NORMS, ids=[reason for _, reason in NORMS])
def test_what_scales_a_normalized_activation_is_no_weight(how, reason):
    layer = Normalizing(how)
    found = roles_of(layer, lambda network: network(torch.randn(6, 4)))
    assert {name: rule.kind for name, rule in found.items()} == {"gain": "norm", "shift": "norm"}, reason


def test_a_scale_where_nothing_is_normalized_stays_what_it_was():
    layer = Normalizing(lambda own, x: torch.tanh(x) * own.gain + own.shift)
    assert roles_of(layer, lambda network: network(torch.randn(6, 4))) == {}


def test_a_bias_is_one_whatever_it_is_called():
    layer = Layer((5, 4), lambda own, x: torch.addmm(own.offset, x, own.weight), offset=(4,))
    found = roles_of(layer, lambda network: network(torch.randn(7, 5).double()))
    assert found["offset"] == Division(kind="bias", view=(4,), axes=())


def test_weights_of_a_layer_that_is_called_a_norm_move():
    class PreNorm(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale, self.mix = nn.Parameter(torch.ones(4)), nn.Parameter(torch.randn(4, 6))

        def forward(self, x):
            return F.layer_norm(x, (4,), self.scale) @ self.mix

    layer = PreNorm()
    assert [each.kind for each in layout_of(layer).entries] == ["norm", "norm"], "by name alone"
    found = roles_of(layer, lambda network: network(torch.randn(3, 4)))
    assert found == {"mix": Division(kind="weight", view=(4, 6), axes=(1,))}


def test_uses_that_contradict_each_other_leave_the_table():
    layer = Layer((5, 4), lambda own, x: x @ own.weight @ own.weight.t())
    assert roles_of(layer, lambda network: network(torch.randn(7, 5).double())) == {}


def test_a_product_that_is_a_weight_is_no_activation():
    def mixture(own, x):
        weight = torch.softmax(x.mean((0, 2))[:3], 0) @ own.weight
        return F.conv1d(x, weight.view(6, 4, 2))

    layer = Layer((3, 48), mixture)
    assert roles_of(layer, lambda network: network(torch.randn(2, 4, 9).double())) == {}, (
        "three convolutions, mixed"
    )


def test_the_gain_of_a_standardized_weight_is_no_normalization():
    def standardized(own, x):
        rows = own.weight.reshape(1, 6, -1)
        weight = F.batch_norm(rows, None, None, weight=(own.gain * 0.3).view(-1), training=True)
        return F.conv1d(x, weight.view(6, 4, 3))

    layer = Layer((6, 4, 3), standardized, gain=(6, 1, 1))
    assert roles_of(layer, lambda network: network(torch.randn(2, 4, 9).double())) == {}


def test_factors_of_a_weight_are_not_told():
    layer = Layer((5, 2), lambda own, x: x @ (own.weight @ own.second), second=(2, 4))
    assert roles_of(layer, lambda network: network(torch.randn(7, 5).double())) == {}


def test_parameters_in_one_vector_are_told_apart():
    layer = Layer((5, 4), lambda own, x: torch.tanh(x @ own.weight) @ own.second, second=(4, 3))
    vector = torch.randn(32).double()
    layer.weight.data, layer.second.data = vector[:20].view(5, 4), vector[20:].view(4, 3)
    found = roles_of(layer, lambda network: network(torch.randn(7, 5).double()))
    assert {name: rule.axes for name, rule in found.items()} == {"weight": (1,), "second": (1,)}


def test_layers_of_pytorch_are_never_looked_at():
    network = nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.GELU(), nn.Linear(4, 4))
    network[3].weight.data = network[3].weight.data.t()

    def raises(_):
        raise AssertionError

    assert roles_of(network, raises) == {}


def test_the_network_is_as_before():
    layer = Layer((5, 4), lambda own, x: x @ own.weight)
    with pytest.raises(RuntimeError):
        roles_of(layer, lambda network: network(torch.zeros(1, 3).double()))
    assert not layer._forward_hooks
    assert not layer._forward_pre_hooks


def test_a_single_number_in_a_normalization_stays_one():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.gain = nn.Parameter(torch.tensor(2.0))

        def forward(self, x):
            return x / x.std(-1, keepdim=True) * self.gain * math.sqrt(2)

    assert roles_of(Scaled(), lambda network: network(torch.randn(3, 4))) == {}
