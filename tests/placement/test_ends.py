"""Where a difference leads: to the checkpoint, with its running statistics, or it is said what is left behind."""

import h5py
import pytest
import torch
from torch import nn

import mpi_landscape
from mpi_landscape import LandscapeError
from mpi_landscape.configuration.sections.plane import (
    DifferenceDirection,
    DirectionsConfiguration,
    FileDirection,
    RandomDirection,
)
from mpi_landscape.parallel.ranks import Ranks
from mpi_landscape.placement.ends import buffers_move, end_of, ends_of
from mpi_landscape.problem.checkpoints import Source, read_weights


class Net(nn.Sequential):
    def __init__(self, seed):
        torch.manual_seed(seed)
        super().__init__(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 3))
        self.register_buffer("offset", torch.zeros(3))
        self[1].running_mean.normal_()
        self[1].running_var.uniform_(0.5, 2)
        self.eval()

    def forward(self, x):
        return super().forward(x) + self.offset


def data(length=30):
    generator = torch.Generator().manual_seed(3)
    return torch.utils.data.TensorDataset(
        torch.randn(length, 5, generator=generator), torch.randint(0, 3, (length,), generator=generator)
    )


def loss_of(net):
    inputs, labels = data()[:]
    with torch.no_grad():
        return nn.functional.cross_entropy(net(inputs), labels).item()


@pytest.fixture
def far(tmp_path):
    other = Net(2)
    torch.save(other.state_dict(), tmp_path / "far.pt")
    return other, str(tmp_path / "far.pt")


def line(net, path, tmp_path, **directions):
    return mpi_landscape.landscape(
        net,
        "cross_entropy",
        data(),
        alpha=(0, 1, 3),
        beta=None,
        directions={"alpha": {"kind": "difference", "to": path}, **directions},
        output=tmp_path / "line.h5",
    )


def test_the_end_of_a_line_is_the_other_checkpoint(far, tmp_path, capsys):
    net, (other, path) = Net(1), far
    assert loss_of(net) != pytest.approx(loss_of(other), rel=1e-3)
    values = line(net, path, tmp_path).values["train_loss"]
    assert values[[0, 2]] == pytest.approx([loss_of(net), loss_of(other)], rel=1e-5)
    assert "warning" not in capsys.readouterr().out
    with h5py.File(tmp_path / "line.h5") as file:
        assert list(file["directions/tensor_kind"].asstr()[...][-2:]) == ["buffer", "buffer"]


def test_an_end_that_is_not_reached_is_said(far, tmp_path, capsys):
    net, (other, path) = Net(1), far
    values = line(net, path, tmp_path, normalization_buffers=False).values["train_loss"]
    for name in ("running_mean", "running_var"):
        setattr(other[1], name, getattr(net[1], name))
    assert values[2] == pytest.approx(loss_of(other), rel=1e-5), "with the statistics of the first one"
    said = capsys.readouterr().out
    assert (
        "directions.alpha: running statistics stay at the center's, and differ at the end (1.running_mean, "
        in said
    )


def test_other_buffers_that_differ_are_said(far, tmp_path, capsys):
    net, (_, path) = Net(1), far
    net.offset.fill_(0.5)
    net[1].num_batches_tracked.fill_(7)
    line(net, path, tmp_path)
    said = capsys.readouterr().out
    assert "directions.alpha: buffers stay at the center's, and differ at the end (offset)" in said
    assert "num_batches_tracked" not in said


def test_a_random_direction_beside_it_leaves_statistics_alone(far, tmp_path):
    net, (_, path) = Net(1), far
    mpi_landscape.landscape(
        net,
        "cross_entropy",
        data(),
        alpha=(0, 1, 3),
        beta=(-0.5, 1, 4),
        directions={
            "alpha": {"kind": "difference", "to": path},
            "beta": {"seed": 1, "ignore": []},
            "orthogonalize": True,
        },
        output=tmp_path / "plane.h5",
    )
    with h5py.File(tmp_path / "plane.h5") as file:
        alpha, beta = (file[f"directions/{axis}"][...] for axis in ("alpha", "beta"))
        start = file["directions/tensor_offset"][...][-2]
    assert alpha[start:].all()
    assert beta[:start].any()
    assert not beta[start:].any()


AUTO = [
    ({"alpha": "far"}, True, "an end with other statistics"),
    ({"alpha": "same"}, False, "an end with the same ones"),
    ({"alpha": "far", "ignore": ("norm",)}, False, "they are not to move"),
    ({"alpha": "far", "normalize": "filter"}, False, "it does not lead there"),
    ({"alpha": "random"}, False, "none leads anywhere"),
    ({"alpha": "file"}, True, "a direction of a surface that has moved them"),
    ({"alpha": "far", "said": False}, False, "said"),
    ({"alpha": "random", "said": True}, True, "said"),
]


@pytest.mark.parametrize(("case", "expected", "reason"), AUTO, ids=[reason for *_, reason in AUTO])
def test_statistics_come_along_where_they_must(case, expected, reason, far, tmp_path):
    net = Net(1)
    if case["alpha"] == "file":
        line(Net(1), far[1], tmp_path)
        alpha = FileDirection(path=str(tmp_path / "line.h5"))
    elif case["alpha"] == "random":
        alpha = RandomDirection(seed=1)
    else:
        if case["alpha"] == "same":
            net[1].load_state_dict(far[0][1].state_dict())
        alpha = DifferenceDirection(
            to=far[1], ignore=case.get("ignore", ()), normalize=case.get("normalize", "none")
        )
    said = DirectionsConfiguration(alpha=alpha, beta=None, normalization_buffers=case.get("said", "auto"))
    assert buffers_move(said, net, Ranks(), where="x") is expected, reason


def test_ends_are_those_of_differences_as_they_are():
    far, near = DifferenceDirection(to="far.pt"), DifferenceDirection(to="near.pt")
    both = DirectionsConfiguration(alpha=far, beta=near)
    assert ends_of(both) == {"alpha": far, "beta": near}
    assert ends_of(DirectionsConfiguration(alpha=far, beta=near, orthogonalize=True)) == {"alpha": far}
    for changed in ({"normalize": "layer"}, {"ignore": ("bias",)}, {"only": "trainable"}):
        said = DirectionsConfiguration(alpha=DifferenceDirection(to="far.pt", **changed), beta=near)
        assert ends_of(said) == {"beta": near}, changed
    assert ends_of(DirectionsConfiguration()) == {}


def test_an_end_with_two_values_for_one_tensor_is_refused(tmp_path):
    net = nn.Sequential(nn.Embedding(4, 3), nn.Flatten(), nn.Linear(3, 4, bias=False))
    net[2].weight = net[0].weight
    state = {name: each.clone() for name, each in net.state_dict().items()}
    torch.save(state, tmp_path / "end.pt")
    end_of(net, read_weights(Source(path=str(tmp_path / "end.pt"))), where="x")
    torch.save({**state, "2.weight": state["0.weight"] + 1}, tmp_path / "end.pt")
    with pytest.raises(LandscapeError, match=r"2\.weight differs from 0\.weight, which is the same tensor"):
        end_of(net, read_weights(Source(path=str(tmp_path / "end.pt"))), where="x")


class Spectral(nn.Module):
    """A complex weight, another one on the memory of a real one, and integers."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(4)
        self.filter = nn.Parameter(torch.randn(5, 4, dtype=torch.complex64))
        self.first = nn.Parameter(torch.randn(4, 4))
        self.second = nn.Parameter(self.first.data)
        self.order = nn.Parameter(torch.tensor([2, 0, 1, 3, 4]), requires_grad=False)
        self.last = nn.Linear(4, 3)

    def forward(self, x):
        hidden = (x[:, self.order].to(torch.complex64) @ self.filter).abs()
        return self.last(torch.tanh(hidden @ self.first) @ self.second)


def test_complex_and_tied_parameters_move_as_one(tmp_path, capsys):
    """Against a loop that moves the network in place, element by element as the file's own direction says."""
    net = Spectral().eval()
    surface = mpi_landscape.landscape(
        net,
        "cross_entropy",
        data(),
        alpha=(-1, 0.5, 4),
        beta=None,
        directions={"alpha": {"ignore": []}},
        compute={"quantities": ["loss", "gradient_norm"]},
        output=tmp_path / "x.h5",
    )
    assert "order: no floating-point numbers" in (said := capsys.readouterr().out)
    assert "second is first: one memory, one tensor" in said
    with h5py.File(tmp_path / "x.h5") as file:
        direction = torch.from_numpy(file["directions/alpha"][...])
        assert list(file["directions/tensor_name"].asstr()[...]) == [
            "filter",
            "first",
            "last.weight",
            "last.bias",
        ]
        assert file["directions/tensor_shape"].asstr()[0] == "5,4,2"
    steps = {
        "filter": torch.complex(direction[:40:2], direction[1:40:2]).reshape(5, 4),
        "first": direction[40:56].reshape(4, 4),
        "last.weight": direction[56:68].reshape(3, 4),
        "last.bias": direction[68:],
    }
    # The output axis of (in, out) weights is the second one.
    for name in ("filter", "first"):
        found, center = (
            steps[name].abs().square().sum(0),
            net.get_parameter(name).detach().abs().square().sum(0),
        )
        torch.testing.assert_close(found, center)
    inputs, labels = data()[:]
    for number, alpha in enumerate(surface.alpha):
        moved = Spectral()
        moved.second = moved.first
        for name, step in steps.items():
            moved.get_parameter(name).data.add_(step, alpha=alpha)
        loss = nn.functional.cross_entropy(moved(inputs), labels)
        assert surface.values["train_loss"][number] == pytest.approx(loss.item(), rel=1e-5)
        gradients = torch.autograd.grad(loss, [moved.get_parameter(name) for name in steps])
        norm = sum(each.abs().square().sum().item() for each in gradients) ** 0.5
        assert surface.values["train_gradient_norm"][number] == pytest.approx(norm, rel=1e-4)
