"""What a network is wrapped in does not change its random numbers, and what is no wrapper stays in the names."""

import pytest
import torch
from torch import nn

from mpi_landscape.geometry.directions import ignore, random_direction
from mpi_landscape.geometry.layout import layout_of
from mpi_landscape.geometry.naming import wrapping


class Around(nn.Module):
    def __init__(self, inner, own=0):
        super().__init__()
        self.net = inner
        if own:
            self.scale = nn.Parameter(torch.ones(own))

    def forward(self, x):
        return self.net(x)


def perceptron():
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))


def single():
    return nn.Sequential(nn.Linear(3, 4))


CASES = [
    (perceptron(), "", "nothing in front"),
    (single(), "", "the name of the only layer is its name"),
    (nn.Linear(3, 4), "", "no layer inside"),
    (nn.DataParallel(perceptron()), "module.", "DataParallel"),
    (nn.DataParallel(single()), "module.", "DataParallel around a single layer"),
    (torch.optim.swa_utils.AveragedModel(single()), "module.", "an average of weights"),
    (torch.compile(perceptron()), "_orig_mod.", "torch.compile"),
    (torch.compile(nn.DataParallel(perceptron())), "_orig_mod.module.", "both"),
    (Around(perceptron()), "net.", "an attribute"),
    (Around(Around(perceptron())), "net.net.", "attributes"),
    (Around(single()), "", "an attribute around a single layer: as before"),
    (Around(perceptron(), own=3), "", "the module around it has a parameter too"),
    (nn.Sequential(nn.Sequential(nn.Linear(2, 2)), nn.Sequential(nn.Linear(2, 2))), "", "two branches"),
]


@pytest.mark.parametrize(("model", "prefix", "reason"), CASES, ids=[reason for *_, reason in CASES])
def test_only_what_is_in_front_of_everything_is_left_out(model, prefix, reason):
    names = dict(model.named_parameters())
    assert wrapping(model, names) == prefix, reason
    assert [entry.key for entry in layout_of(model).entries] == [name.removeprefix(prefix) for name in names]


@pytest.mark.parametrize(
    "wrap", [nn.DataParallel, torch.compile, Around, lambda net: Around(nn.DataParallel(net))]
)
def test_a_wrapped_network_has_the_same_random_numbers(wrap):
    plain = layout_of(perceptron())
    wrapped = layout_of(wrap(perceptron()))
    assert plain.entries[0].name != wrapped.entries[0].name
    assert torch.equal(random_direction(plain, seed=3), random_direction(wrapped, seed=3))


def test_patterns_need_not_name_the_wrapping():
    layout = layout_of(nn.DataParallel(perceptron()))
    direction = random_direction(layout, seed=3)
    short, long = (ignore(direction, layout, [pattern]) for pattern in ("0.*", "module.0.*"))
    assert torch.equal(short, long)
    assert not layout.views(short)["module.0.weight"].any()
    assert layout.views(short)["module.2.weight"].all()
