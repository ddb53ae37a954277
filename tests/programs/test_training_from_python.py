"""A training that a script asks for: the network that it has, trained where it is, kept as the program keeps one."""

import copy
import importlib
import signal

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import mpi_landscape
from mpi_landscape.storage.history.records import read_history
from mpi_landscape.storage.surface.ending import Ended

SCRIPT = """
import sys
import torch, mpi_landscape
from torch import nn
from torch.utils.data import TensorDataset

from mpi4py import MPI
rank = MPI.COMM_WORLD.rank
# Every rank has initial parameters of its own; those of rank 0 count.
torch.manual_seed(rank)
model = nn.Linear(3, 2)
torch.manual_seed(9)
data = TensorDataset(torch.randn(40, 3), torch.arange(40) % 2)
solution = mpi_landscape.train(model, "cross_entropy", data, sys.argv[1], epochs=2, batch_size=8)
torch.save([model.state_dict(), solution.train_loss], f"{sys.argv[1]}/rank_{rank}.saved")
"""


@pytest.fixture
def problem():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3))
    return net, (torch.randn(60, 5), torch.arange(60) % 3)


def normalized():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 3))


def numbers(net):
    return torch.cat([each.detach().reshape(-1).double() for each in net.state_dict().values()])


def test_it_is_gradient_descent_in_a_plain_loop(problem, tmp_path):
    net, (inputs, targets) = problem
    mine = copy.deepcopy(net)
    optimizer = torch.optim.SGD(mine.parameters(), 0.2, 0.9, weight_decay=1e-3, nesterov=True)
    wanted = []
    for step in range(6):
        optimizer.param_groups[0]["lr"] = 0.2 if step < 3 else 0.02
        loss = F.cross_entropy(mine(inputs), targets, label_smoothing=0.1)
        wanted.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    solution = mpi_landscape.train(
        net, nn.CrossEntropyLoss(label_smoothing=0.1), (inputs, targets), tmp_path / "run", epochs=6,
        batch_size="all", learning_rate=0.2, momentum=0.9, nesterov=True, weight_decay=1e-3,
        schedule={"milestones": [3], "factor": 0.1},
    )  # fmt: skip
    np.testing.assert_allclose(solution.train_loss[:-1], wanted, rtol=1e-5)
    torch.testing.assert_close(numbers(net), numbers(mine), rtol=1e-4, atol=1e-6)
    assert solution.num_epochs == 6
    assert solution.ending is Ended.FINISHED
    assert [path.name for path in solution.checkpoints] == [f"epoch_{n:04d}.pt" for n in range(7)]
    kept = torch.load(solution.final, weights_only=True)["state_dict"]
    assert all(torch.equal(kept[name], value) for name, value in net.state_dict().items())


def test_what_is_given_as_a_loader_decides_the_batches(problem, tmp_path):
    net, tensors = problem
    loader = DataLoader(TensorDataset(*tensors), batch_size=15, shuffle=True)
    solution = mpi_landscape.train(net, "cross_entropy", loader, tmp_path / "run", epochs=1)
    assert "batch_size: 15" in solution.history.attributes["configuration"]


def test_stopped_and_called_again_it_gives_the_bits_of_one_call(problem, tmp_path):
    _, data = problem
    call = {"epochs": 5, "batch_size": 7, "optimizer": "adam"}
    whole = normalized()
    mpi_landscape.train(whole, "cross_entropy", data, tmp_path / "whole", **call)
    net, endings = normalized(), []
    passes = iter(range(10**6))

    def stop(*_):
        if next(passes) in (25, 50):
            signal.raise_signal(signal.SIGTERM)

    net.register_forward_hook(stop)
    while Ended.FINISHED not in endings:
        # As in a notebook, whose cell is run again: the network has the parameters of the stop.
        solution = mpi_landscape.train(net, "cross_entropy", data, tmp_path / "parts", **call)
        endings.append(solution.ending)
    assert endings == [Ended.SIGNAL, Ended.SIGNAL, Ended.FINISHED]
    assert torch.equal(numbers(net), numbers(whole))
    first = read_history(tmp_path / "whole" / "history.h5").values
    for name, values in solution.history.values.items():
        if name != "seconds":
            np.testing.assert_array_equal(values, first[name])


def test_stopped_before_it_began_nothing_is_lost(problem, tmp_path):
    net, data = problem
    before = numbers(net)
    solution = mpi_landscape.train(net, "cross_entropy", data, tmp_path / "run", epochs=2, time_limit=1e-6)
    assert solution.ending is Ended.TIME_LIMIT
    assert repr(solution) == f"Solution('{tmp_path}/run', 0 epochs; not finished)"
    assert torch.equal(numbers(net), before)
    assert mpi_landscape.train(net, "cross_entropy", data, tmp_path / "run", epochs=2).num_epochs == 2


def test_a_finished_one_is_read_by_a_new_network_and_by_the_trained_one(problem, tmp_path, capsys):
    _, data = problem
    net, new = normalized(), normalized()
    call = {"data": data, "output": tmp_path / "run", "epochs": 2}
    mpi_landscape.train(net, "cross_entropy", **call)
    capsys.readouterr()
    for each in (net, new):
        again = mpi_landscape.train(each, "cross_entropy", **call)
        assert "complete" in capsys.readouterr().out
        assert again.num_epochs == 2
        assert torch.equal(numbers(each), numbers(net))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"net": nn.Linear(5, 3)}, r"differs in parameters"),
        ({"loss": nn.MultiMarginLoss()}, r"differs in loss"),
        ({"epochs": 3}, r"differs in training\.epochs"),
    ],
)
def test_another_training_in_the_folder_is_refused_and_replaced_when_asked(problem, tmp_path, change, words):
    net, data = problem
    mpi_landscape.train(copy.deepcopy(net), nn.CrossEntropyLoss(), data, tmp_path / "run", epochs=2)
    call = {"epochs": 2, **{name: value for name, value in change.items() if name == "epochs"}}
    other, loss = change.get("net", net), change.get("loss", nn.CrossEntropyLoss())
    before = numbers(other)
    with pytest.raises(mpi_landscape.LandscapeError, match=words):
        mpi_landscape.train(other, loss, data, tmp_path / "run", **call)
    assert torch.equal(numbers(other), before)
    solution = mpi_landscape.train(other, loss, data, tmp_path / "run", **call, overwrite=True)
    assert solution.num_epochs == call["epochs"]


def test_modes_gradients_and_frozen_parameters_stay(problem, tmp_path):
    _, data = problem
    net = normalized()
    net[1].eval()
    net[0].weight.requires_grad_(False)
    net[4].bias.grad = torch.ones(3)
    frozen = net[0].weight.detach().clone()
    mpi_landscape.train(net, "cross_entropy", data, tmp_path / "run", epochs=2)
    assert [each.training for each in net.modules()] == [True, True, False, True, True, True]
    assert torch.equal(net[0].weight, frozen)
    assert torch.equal(net[4].bias.grad, torch.ones(3))
    assert net[4].weight.grad is None


def test_tied_weights_are_trained_as_one(tmp_path):
    torch.manual_seed(0)

    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Embedding(7, 4)
            self.head = nn.Linear(4, 7, bias=False)
            self.head.weight = self.table.weight

        def forward(self, tokens):
            return self.head(self.table(tokens))

    net = Tied()
    tokens = torch.arange(70) % 7
    solution = mpi_landscape.train(
        net, "cross_entropy", (tokens, (tokens + 1) % 7), tmp_path / "run", epochs=3
    )
    assert net.head.weight is net.table.weight
    assert solution.train_loss[-1] < solution.train_loss[0]


def test_items_of_several_sizes_are_padded(tmp_path):
    torch.manual_seed(0)
    items = [(torch.randn(3 + i % 4), i % 2) for i in range(24)]

    def pad(batch):
        rows = nn.utils.rnn.pad_sequence([row for row, _ in batch], batch_first=True)
        return F.pad(rows, (0, 6 - rows.shape[1])), torch.tensor([label for _, label in batch])

    net = nn.Linear(6, 2)
    solution = mpi_landscape.train(net, "cross_entropy", items, tmp_path / "run", epochs=2, collate_fn=pad)
    rows, labels = pad(items)
    right = F.cross_entropy(net(rows), labels).item()
    assert solution.train_loss[-1] == pytest.approx(right, rel=1e-5)


class Stepping(nn.Module):
    """As of Lightning: a step and no forward pass."""

    def __init__(self):
        super().__init__()
        self.net = normalized()

    def training_step(self, batch, index):
        inputs, targets = batch
        return F.cross_entropy(self.net(inputs), targets)


class OfItself(nn.Module):
    """As of Hugging Face: its output has the loss."""

    def __init__(self):
        super().__init__()
        self.net = normalized()

    def forward(self, x, labels):
        return {"loss": F.cross_entropy(self.net(x), labels)}


def scalar(model, batch):
    return F.cross_entropy(model(batch[0]), batch[1])


@pytest.mark.parametrize(
    ("make", "loss", "form"),
    [
        (normalized, nn.CrossEntropyLoss(), tuple),
        (normalized, scalar, tuple),
        (Stepping, "training_step", tuple),
        (OfItself, "output", lambda data: dict(zip(("x", "labels"), data, strict=True))),
    ],
    ids=["criterion", "scalar", "training_step", "output"],
)
def test_dropout_draws_the_same_whatever_form_the_loss_has(problem, tmp_path, make, loss, form):
    _, data = problem
    net, named = make(), normalized()
    call = {"epochs": 2, "batch_size": 16, "learning_rate": 0.05}
    mpi_landscape.train(named, "cross_entropy", data, tmp_path / "named", **call)
    mpi_landscape.train(net, loss, form(data), tmp_path / "run", **call)
    torch.testing.assert_close(numbers(net), numbers(named), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"epochs": None}, r"train\(\): training.*epochs"),
        ({"optimizer": "adamw"}, r"train\(\): training\.optimizer is 'adamw'; .*sgd.*adam"),
        ({"batch_size": 61}, r"train\(\): training\.batch_size is 61, but the split train has 60 examples"),
        ({"output": 5}, r"train\(\): output is 5; expected the path of a folder"),
        ({"time_limit": -1}, r"train\(\): time_limit is -1"),
        (
            {"model": nn.Linear(5, 3).bfloat16()},
            r"train\(\): model: weight is in bfloat16; .*model\.float\(\)",
        ),
        ({"model": nn.Linear}, r"train\(\): model is the class Linear"),
        ({"model": nn.Linear(4, 3)}, r"mat1 and mat2 shapes cannot be multiplied"),
        ({"learning_rate": 1e30}, r"train\(\): the training diverged"),
        ({"data": {"test": (torch.ones(4, 5), torch.ones(4))}}, r"train\(\): data has no split 'train'"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_what_cannot_be_is_refused_in_one_line(problem, tmp_path, options, words):
    net, data = problem
    given = {"model": net, "data": data, "output": tmp_path / "run", "epochs": 2, **options}
    with pytest.raises(mpi_landscape.LandscapeError, match=words) as caught:
        mpi_landscape.train(given.pop("model"), "cross_entropy", given.pop("data"), **given)
    assert "\n" not in str(caught.value)


def test_every_rank_has_the_network_that_one_has_trained_from_that_of_rank_0(standing, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    found = {}
    for size in (1, 2):
        folder = tmp_path / f"ranks_{size}"
        done = standing(size, str(script), str(folder))
        assert done.returncode == 0, done.stderr
        found[size] = [torch.load(folder / f"rank_{rank}.saved", weights_only=False) for rank in range(size)]
    (state, losses), *_ = found[1]
    for other, values in found[2]:
        assert all(torch.equal(state[name], value) for name, value in other.items())
        np.testing.assert_array_equal(values, losses)


def test_the_value_says_what_it_is_and_draws_its_history(problem, tmp_path):
    net, data = problem
    solution = mpi_landscape.train(net, "cross_entropy", data, tmp_path / "run", epochs=2, title="small")
    assert repr(solution).startswith(f"Solution('{tmp_path}/run', 2 epochs; finished)\n  train loss ")
    assert "train_accuracy" in dir(solution)
    with pytest.raises(AttributeError, match="a solution has no attribute 'test_loss'; its quantities are"):
        _ = solution.test_loss
    figure = solution.plot()
    assert len(figure.axes) >= 3
    assert solution.history.attributes["title"] == "small"


def test_the_program_and_the_door_are_one_name():
    assert importlib.import_module("mpi_landscape.train") is mpi_landscape.train
    assert callable(mpi_landscape.train.main)
