"""What is seen of a pass: what Python reads, what is random, what is unused, and what comes from the parameters."""

import copy
import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mpi_landscape.evaluation.engine.dataflow import observed
from mpi_landscape.evaluation.engine.provenance import Source


class Network(nn.Module):
    """One function of the data, two parameters of which it may use any, and a buffer."""

    def __init__(self, function):
        super().__init__()
        self.first, self.second = nn.Parameter(torch.tensor([3.0, 1.0, 2.0])), nn.Parameter(torch.ones(3))
        self.register_buffer("mask", torch.tensor([1.0, 0.0, 1.0]))
        self.layer = nn.Linear(3, 2)
        self.function = function

    def forward(self, x):
        return self.function(self, x)


DATA = torch.tensor([[0.5, -1.0, 2.0], [1.5, 0.25, -0.5]])


def flow_of(function, **options):
    return observed(Network(function), lambda network: network(DATA), **options)


def in_inference_mode(s):
    with torch.inference_mode():
        return torch.where(s.first > 1)[0]


# What a network does -> what is said of it, up to the place.
READING = {
    "a comparison": (lambda s, x: x if s.first.sum() > 0 else s.second, "item of the parameters"),
    "item": (lambda s, x: x * s.first.sum().item(), "item of the parameters"),
    "int": (lambda s, x: x[: int(s.second.sum())], "item of the parameters"),
    "an index": (lambda s, x: x[:, s.first.argmax()], "item of the parameters"),
    "tolist": (lambda s, x: x * sum(s.first.tolist()), "tolist of the parameters"),
    "numpy": (lambda s, x: x * float(s.first.detach().numpy().sum()), "numpy of the parameters"),
    "numpy's asarray": (
        lambda s, x: x * float(np.asarray(s.first.detach()).sum()),
        "array of the parameters",
    ),
    "a tensor of tensors": (
        lambda s, x: x * torch.tensor([s.first[0], s.first[1], 1.0]),
        "tensor of the parameters",
    ),
    "repr": (lambda s, x: x if "3" in repr(s.first) else -x, "repr of the parameters"),
    "equal": (lambda s, x: x if torch.equal(s.first, s.second) else -x, "equal of the parameters"),
    "allclose": (lambda s, x: x if torch.allclose(s.first, s.second) else -x, "allclose of the parameters"),
    "memory": (lambda s, x: x if s.first.data_ptr() else -x, "data_ptr of the parameters"),
    "a mask as index": (lambda s, x: s.first[s.first > 1], "the shape of index of the parameters"),
    "nonzero": (
        lambda s, x: x[:, torch.nonzero(s.first > 1)[:, 0]],
        "the shape of nonzero of the parameters",
    ),
    "masked_select": (
        lambda s, x: s.first.masked_select(s.first > 1),
        "the shape of masked_select of the parameters",
    ),
    "unique": (lambda s, x: s.first.unique(), "the shape of _unique2 of the parameters"),
    "inference mode": (lambda s, x: in_inference_mode(s), "the shape of nonzero of the parameters"),
    "a result": (lambda s, x: x if s.layer(x).sum() > 0 else -x, "item of the parameters"),
    "written in place": (
        lambda s, x: x if torch.zeros(3).add_(s.first).sum() > 0 else -x,
        "item of the parameters",
    ),
    "a view of data": (lambda s, x: x if s.first.data[1:].sum() > 0 else -x, "item of the parameters"),
    "the data": (lambda s, x: x * s.first if x.mean() > 0 else x, "item of the data"),
    "rows of the data": (lambda s, x: x[x.sum(1) > 0], "the shape of index of the data"),
    "classes of the data": (lambda s, x: F.one_hot(x[:, 0].abs().long()), "item of the data"),
}


@pytest.mark.parametrize("case", READING)
def test_what_python_reads_is_seen_with_its_place(case):
    function, wanted = READING[case]
    said, _, place = (flow_of(function).reads or "").partition(" is read at ")
    assert said == wanted
    assert place.startswith("test_dataflow.py:")


NOT_READING = {
    "products": lambda s, x: s.layer(x * s.first),
    "a constant": lambda s, x: x if torch.tensor([1.0, 2.0]).sum() > 2 else -x,
    "a buffer": lambda s, x: x[:, s.mask.bool()] if s.mask.sum() > 1 else x,
    "shapes": lambda s, x: x.view(len(x), -1)[:, : x.shape[1]],
    "an index of numbers": lambda s, x: s.first[torch.tensor([0, 2])],
    "a given number of classes": lambda s, x: F.one_hot(x[:, 0].abs().long(), 4) * s.first[0],
    "where": lambda s, x: torch.where(x > 0, s.first, x),
    "a mask written to": lambda s, x: x.clone().masked_fill_(s.first > 1, 0.0),
    "attention": lambda s, x: F.scaled_dot_product_attention(*[(x * s.first)[None]] * 3),
    "a copy": lambda s, x: x * copy.deepcopy(s.first.detach()),
}


@pytest.mark.parametrize("case", NOT_READING)
def test_a_pass_whose_operations_do_not_depend_on_numbers_reads_nothing(case):
    assert flow_of(NOT_READING[case]).reads is None


def test_what_is_read_of_the_parameters_is_said_rather_than_what_is_read_of_the_data():
    flow = flow_of(lambda s, x: x if x.sum() > 99 or s.first.sum() > 0 else -x)
    assert flow.reads is not None
    assert flow.reads.startswith("item of the parameters")


def forked(x):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return x + torch.randn(3)


RANDOM = {
    "dropout": (lambda s, x: F.dropout(x, 0.5, True), True),
    "noise": (lambda s, x: x + torch.randn(3), True),
    "its own generator": (lambda s, x: x + torch.randn(3, generator=torch.Generator()), True),
    "the same noise every time": (lambda s, x: forked(x), True),
    "numpy": (lambda s, x: x * np.random.rand(), True),
    "python": (lambda s, x: x * random.random(), True),
    "dropout in evaluation mode": (lambda s, x: F.dropout(x, 0.5, False), False),
    "attention without dropout": (
        lambda s, x: F.scaled_dot_product_attention(x[None], x[None], x[None]),
        False,
    ),
    "a numpy generator that is nobody else's": (lambda s, x: x * np.random.default_rng(0).random(), False),
}


@pytest.mark.parametrize("case", RANDOM)
def test_random_numbers_are_seen_where_they_are_drawn(case):
    function, wanted = RANDOM[case]
    assert (flow_of(function).random is not None) == wanted


def test_parameters_that_enter_no_operation_are_named():
    assert flow_of(lambda s, x: x * s.second).unused == ("first", "layer.weight", "layer.bias")
    assert flow_of(lambda s, x: x * sum(s.first.tolist())).unused == ("second", "layer.weight", "layer.bias")


# What is done to the data before the layer -> what its input depends on.
INPUTS = {
    "nothing": (lambda s, x: x, Source.DATA),
    "constants": (lambda s, x: (x - s.mask) / 2, Source.DATA),
    "no data": (lambda s, x: torch.ones_like(s.mask)[None], Source.CONSTANTS),
    "a shift": (lambda s, x: x + s.first, Source.PARAMETERS),
    "a shift of none of these examples": (
        lambda s, x: torch.where(x.mean(1, keepdim=True) > 9, s.first, x),
        Source.PARAMETERS,
    ),
    "a column written": (
        lambda s, x: x.clone().index_copy_(1, torch.tensor([0]), s.first[:1].expand(2, 1)),
        Source.PARAMETERS,
    ),
    "a view written": (lambda s, x: written(x, s.first), Source.PARAMETERS),
    "an order of a parameter": (lambda s, x: x.gather(1, s.first.argsort().expand(2, 3)), Source.PARAMETERS),
    "past autograd": (lambda s, x: x + s.first.detach().data.clone(), Source.PARAMETERS),
    "a moving buffer": (lambda s, x: x * s.second, Source.PARAMETERS),
}


def written(x, parameter):
    made = x.clone()
    made[:, 1:].mul_(parameter[1:])
    return made


@pytest.mark.parametrize("case", INPUTS)
def test_what_a_layer_gets_is_told_from_what_parameters_enter(case):
    function, wanted = INPUTS[case]
    flow = flow_of(lambda s, x: s.layer(function(s, x)), layers=["layer"])
    assert [call.source for call in flow.calls["layer"]] == [wanted]


def test_a_buffer_counts_as_a_parameter_where_it_moves():
    network = Network(lambda s, x: s.layer(x * s.mask))
    moving = {**dict(network.named_parameters()), "mask": network.mask}
    still = observed(network, lambda network: network(DATA), layers=["layer"])
    flow = observed(network, lambda network: network(DATA), layers=["layer"], moving=moving)
    assert [still.calls["layer"][0].source, flow.calls["layer"][0].source] == [Source.DATA, Source.PARAMETERS]


def test_a_parameter_is_told_from_its_neighbour_in_one_memory():
    memory = torch.arange(6.0)
    network = Network(lambda s, x: x * s.first)
    network.first.data, network.second.data = memory[:3], memory[3:]
    flow = observed(network, lambda network: network(DATA))
    assert "second" in flow.unused
    assert "first" not in flow.unused


@pytest.mark.parametrize(
    ("function", "alone", "reason"),
    [
        (lambda s, x: s.layer(x), True, "called as it should be"),
        (lambda s, x: s.layer(x) * s.layer.weight.sum(), False, "its weight elsewhere"),
        (lambda s, x: s.layer(x) + s.layer.forward(x), False, "called past its hooks"),
        (lambda s, x: s.layer(x) + F.linear(x, s.layer.weight.data[:]), False, "a view of its weight"),
    ],
)
def test_a_layer_whose_parameters_are_used_elsewhere_is_told(function, alone, reason):
    assert flow_of(function, layers=["layer"]).is_alone("layer") == alone, reason


def texts(function):
    return [each.text for each in flow_of(function).operations]


def test_two_passes_that_do_the_same_are_described_alike():
    assert texts(lambda s, x: s.layer(x * s.first)) == texts(lambda s, x: s.layer(x * s.first))
    assert texts(lambda s, x: s.layer(x * s.first)) != texts(lambda s, x: s.layer(x * s.second))
    assert texts(lambda s, x: x - x * s.first) != texts(lambda s, x: x * s.first - x)


def test_a_sum_in_place_is_a_sum_unless_somebody_looks_at_what_was_written():
    def in_place(s, x):
        y = x * s.first
        y += s.second
        return y * 2

    def kept(s, x):
        y = other = x * s.first
        y += s.second
        return y * other

    assert texts(in_place) == texts(lambda s, x: (x * s.first + s.second) * 2)
    assert texts(kept) != texts(lambda s, x: (lambda y: (y + s.second) * y)(x * s.first))


def test_what_a_network_raises_is_raised_and_leaves_no_hooks():
    network = Network(lambda s, x: s.layer(x) @ x.mT)
    with pytest.raises(RuntimeError):
        observed(network, lambda network: network(DATA), layers=["layer"])
    assert not network.layer._forward_hooks
    assert not network.layer._forward_pre_hooks
