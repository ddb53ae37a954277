"""Rules over what has been seen, and what is seen over the table; a whole surface against a plain loop."""

import hashlib

import h5py
import numpy as np
import pytest
import torch
from torch import nn

import mpi_landscape
from mpi_landscape import LandscapeError
from mpi_landscape.configuration.sections.plane import TensorRule
from mpi_landscape.geometry.filters import Division
from mpi_landscape.parallel.ranks import Ranks
from mpi_landscape.placement.roles import ruled, share_roles
from mpi_landscape.problem.build import Problem


class Sideways(nn.Module):
    """A layer of GPT-2: its weight is (in, out)."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(inputs, outputs))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x):
        return torch.addmm(self.bias, x, self.weight)


class ConvNorm(nn.Module):
    """A convolution and a normalization in one, under the name of a norm."""

    def __init__(self):
        super().__init__()
        self.kernel, self.gain = nn.Parameter(torch.randn(4, 1, 3)), nn.Parameter(torch.ones(4))

    def forward(self, x):
        return nn.functional.group_norm(nn.functional.conv1d(x[:, None], self.kernel), 2, self.gain).flatten(
            1
        )


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.first, self.last = ConvNorm(), Sideways(16, 5), nn.Linear(5, 3)
        self.temperature = nn.Parameter(torch.tensor(0.7))
        self.table = nn.Parameter(torch.ones(6), requires_grad=False)

    def forward(self, x):
        return self.last(torch.tanh(self.first(self.conv(x * self.table)))) * self.temperature


@pytest.fixture
def net():
    torch.manual_seed(2)
    return Net().eval()


def data(length=24):
    generator = torch.Generator().manual_seed(3)
    return torch.utils.data.TensorDataset(
        torch.randn(length, 6, generator=generator), torch.randint(0, 3, (length,), generator=generator)
    )


def cross_entropy(network, batch):
    return nn.functional.cross_entropy(network(batch[0]), batch[1], reduction="none")


def problem(model):
    return Problem(model=model, loss=cross_entropy, splits={"train": data()}, where="here.yaml")


def test_what_is_seen_on_real_examples(net):
    assert share_roles(problem(net), (), Ranks()) == {
        "conv.kernel": Division(kind="weight", view=(4, 1, 3), axes=(0,)),
        "first.weight": Division(kind="weight", view=(16, 5), axes=(1,)),
    }


def test_a_pass_that_raises_leaves_the_table_and_is_said(net, capsys):
    def broken(network, batch):
        raise ValueError("no loss")

    found = share_roles(Problem(model=net, loss=broken, splits={"train": data()}), (), Ranks())
    assert found == {}
    assert "cannot be seen (ValueError: no loss)" in capsys.readouterr().out


def test_the_pass_leaves_the_network_alone(net):
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(6, 3))
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, x):
            self.calls += 1
            return x @ self.weight

    model = Counting()
    assert share_roles(problem(model), (), Ranks())
    assert model.calls == 0


SIDEWAYS = Division(kind="weight", view=(16, 5), axes=(1,))
RULES = [
    (
        {"tensors": "first.weight", "axis": 0},
        "first.weight",
        Division(kind="weight", view=(16, 5), axes=(0,)),
        "axis",
    ),
    (
        {"tensors": "*.weight", "axis": -1},
        "last.weight",
        Division(kind="weight", view=(3, 5), axes=(1,)),
        "the last",
    ),
    (
        {"tensors": "first.weight", "axis": (1, 0)},
        "first.weight",
        Division(kind="weight", view=(16, 5), axes=(0, 1)),
        "2",
    ),
    (
        {"tensors": "first.weight", "whole": True},
        "first.weight",
        Division(kind="weight", view=(80,), axes=()),
        "whole",
    ),
    (
        {"tensors": "first.weight", "kind": "weight"},
        "first.weight",
        SIDEWAYS,
        "says no more than what is seen",
    ),
    (
        {"tensors": "first.weight", "kind": "norm"},
        "first.weight",
        Division(kind="norm", view=(80,), axes=()),
        "kind",
    ),
    (
        {"tensors": "temperature", "kind": "weight"},
        "temperature",
        Division(kind="weight", view=(1,), axes=()),
        "moves",
    ),
    (
        {"tensors": "conv.gain", "kind": "weight"},
        "conv.gain",
        Division(kind="weight", view=(4,), axes=()),
        "a scale",
    ),
]


@pytest.mark.parametrize(("said", "name", "expected", "reason"), RULES, ids=[reason for *_, reason in RULES])
def test_a_rule_is_what_counts(net, said, name, expected, reason):
    found = ruled(problem(net), [TensorRule(**said)], {"first.weight": SIDEWAYS})
    assert found[name] == expected, reason


def test_the_last_rule_counts(net):
    rules = [TensorRule(tensors="*.weight", axis=0), TensorRule(tensors="last.*", kind="norm")]
    found = ruled(problem(net), rules, {})
    assert found["last.weight"].kind == found["last.bias"].kind == "norm"
    assert found["first.weight"].axes == (0,)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (
            {"tensors": "lost.*", "axis": 0},
            r"here.yaml: directions.rules\[0\]: 'lost.\*' matches no tensor.*conv.kernel",
        ),
        (
            {"tensors": "last.weight", "axis": 2},
            r"last.weight of shape \(3, 5\) has no axis 2; valid is from -2 to 1",
        ),
        (
            {"tensors": "temperature", "axis": 0},
            r"temperature of shape \(\) has no axis 0; valid is whole: true",
        ),
    ],
)
def test_a_rule_that_does_not_fit_is_refused(net, said, message):
    with pytest.raises(LandscapeError, match=message):
        ruled(problem(net), [TensorRule(**said)], {})


def plain_direction(net, axes, seed):
    """Every output unit of the given tensors scaled to the center's by a loop, in float64; the rest zero."""
    rows = {}
    for name, parameter in net.named_parameters():
        step = np.zeros(tuple(parameter.shape))
        if name in axes:
            key = hashlib.sha256(f"{seed}:{name}".encode()).digest()[:16]
            generator = np.random.Generator(np.random.Philox(key=int.from_bytes(key, "little")))
            drawn = (
                generator.standard_normal(step.size).astype(np.float32).astype(np.float64).reshape(step.shape)
            )
            center = parameter.detach().numpy().astype(np.float64)
            for unit in range(step.shape[axes[name]]):
                place = [slice(None)] * step.ndim
                place[axes[name]] = unit
                place = tuple(place)
                step[place] = drawn[place] * np.linalg.norm(center[place]) / np.linalg.norm(drawn[place])
        rows[name] = step
    return rows


@pytest.mark.parametrize("wrap", [lambda net: net, nn.DataParallel], ids=["plain", "wrapped"])
def test_a_surface_of_such_a_network_is_that_of_a_plain_loop(net, wrap, tmp_path, capsys):
    rows = plain_direction(net, {"conv.kernel": 0, "first.weight": 1, "last.weight": 0}, seed=1)
    surface = mpi_landscape.landscape(
        wrap(net), "cross_entropy", data(), alpha=(-1, 0.5, 4), beta=None, output=tmp_path / "x.h5"
    )
    with h5py.File(tmp_path / "x.h5") as file:
        found = file["directions/alpha"][...]
        kinds = dict(
            zip(
                file["directions/tensor_name"].asstr()[...],
                file["directions/tensor_kind"].asstr()[...],
                strict=True,
            )
        )
    flat = np.concatenate([rows[name].reshape(-1) for name, _ in net.named_parameters()])
    np.testing.assert_allclose(found, flat, rtol=1e-6)
    prefix = "" if "temperature" in kinds else "module."
    assert kinds[f"{prefix}temperature"] == "scalar"
    assert kinds[f"{prefix}conv.gain"] == "norm"
    original = {name: each.detach().clone() for name, each in net.named_parameters()}
    inputs, labels = data()[:]
    for number, alpha in enumerate(surface.alpha):
        with torch.no_grad():
            for name, each in net.named_parameters():
                each.copy_(original[name].double() + alpha * torch.from_numpy(rows[name]))
            expected = nn.functional.cross_entropy(net(inputs), labels).item()
        assert surface.values["train_loss"][number] == pytest.approx(expected, rel=1e-5)
    assert "table: not trainable, left at the center along alpha" in capsys.readouterr().out


def test_rules_reach_the_file(net, tmp_path):
    rules = [{"tensors": "temperature", "kind": "weight"}, {"tensors": "first.weight", "kind": "norm"}]
    mpi_landscape.landscape(
        net,
        "cross_entropy",
        data(),
        alpha=(-1, 0.5, 2),
        beta=None,
        directions={"rules": rules, "alpha": {"only": "all"}},
        output=tmp_path / "x.h5",
    )
    with h5py.File(tmp_path / "x.h5") as file:
        names = list(file["directions/tensor_name"].asstr()[...])
        offsets, found = file["directions/tensor_offset"][...], file["directions/alpha"][...]
    parts = dict(zip(names, np.split(found, offsets[1:]), strict=True))
    assert abs(parts["temperature"]) == pytest.approx(0.7), "as long as itself"
    assert not parts["first.weight"].any()
    assert parts["table"].all(), "only: all"
