"""Losses and gradients of parameters that are handed over, against the network moved in place."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from mpi_landscape.connections.curve import line
from mpi_landscape.connections.searching.rounds import Round, Task, mean_gradient, mean_loss
from mpi_landscape.connections.space import space_of, state_of
from mpi_landscape.errors import AgreedError, LandscapeError
from mpi_landscape.training.randomness import STEP, mixed, seed_all
from tests.connections.conftest import passes_of

X, Y = torch.randn(10, 6, generator=torch.Generator().manual_seed(1)), torch.arange(10) % 3
T = 0.3


def loss(model, batch):
    return nn.functional.cross_entropy(model(batch[0]), batch[1], reduction="none")


class Tied(nn.Module):
    """Of a user: one weight under two names, a frozen layer, and parameters outside of any layer."""

    def __init__(self):
        super().__init__()
        self.into, self.out = nn.Linear(6, 6, bias=False), nn.Linear(6, 6, bias=False)
        self.out.weight = self.into.weight
        self.last, self.scale = nn.Linear(6, 3), nn.Parameter(torch.ones(()))
        self.last.bias.requires_grad_(False)

    def forward(self, x):
        return self.last(torch.tanh(self.out(torch.tanh(self.into(x))))) * self.scale


class Complex(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.randn(6, 3, dtype=torch.complex64))

    def forward(self, x):
        return (x.to(torch.complex64) @ self.w).abs()


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm, self.last = nn.LSTM(2, 4, batch_first=True), nn.Linear(4, 3)

    def forward(self, x):
        return self.last(self.lstm(x.view(-1, 3, 2))[0][:, -1])


NETWORKS = {
    "layers": lambda: nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 3)),
    "batch normalization": lambda: nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Linear(4, 3)),
    "dropout": lambda: nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.5), nn.Linear(8, 3)),
    "tied, frozen, of a user": Tied,
    "complex": Complex,
    "recurrent": Recurrent,
    "float64": lambda: nn.Linear(6, 3).double(),
    "bfloat16": lambda: nn.Linear(6, 3).bfloat16(),
    "two types": lambda: nn.Sequential(nn.Linear(6, 4), nn.Linear(4, 3).bfloat16()),
}


class Cast(nn.Module):
    """A network with inputs in its own type, and outputs in float32."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        for layer in self.network if isinstance(self.network, nn.Sequential) else [self.network]:
            kind = next((each.dtype for each in layer.parameters() if not each.is_complex()), x.dtype)
            x = layer(x.to(kind))
        return x.float()


def made(name, seed):
    torch.manual_seed(seed)
    return Cast(NETWORKS[name]())


def in_place(model, space, piece_sizes, seed=0):
    """The gradient of the mean loss at T by the network itself, in training mode, piece by piece."""
    moved = copy.deepcopy(model)
    with torch.no_grad():
        for name, each in moved.named_parameters():
            kind = torch.promote_types(each.dtype, torch.float32)
            between = space.start[name].to(kind) * (1 - T) + space.end[name].to(kind) * T
            each.copy_(between)
    moved.train()
    total, first = 0.0, 0
    for number, size in enumerate(piece_sizes):
        seed_all(mixed(STEP, seed, 2**64 - 1, number))
        share = loss(moved, (X[first : first + size], Y[first : first + size])).sum() / len(X)
        share.backward()
        total += share.item()
        first += size
    return total, {name: each.grad for name, each in moved.named_parameters() if each.requires_grad}


@pytest.mark.parametrize("piece_size", [None, 5], ids=["a batch", "two pieces"])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_gradient_is_that_of_the_network_moved_in_place(name, piece_size):
    start, end = made(name, 1), made(name, 2)
    before = state_of(start)
    passes = passes_of(start, loss, before, state_of(end), X, Y, piece_size=piece_size)
    space = passes.space
    curve = line(space.vector(space.start), space.vector(space.end))
    (answer,) = passes.answers(curve, Round(tasks=(Task(t=T),), step=None))
    wanted, gradients = in_place(start, space, passes.batches.pieces_of(None))
    assert mean_loss(answer) == pytest.approx(wanted, rel=1e-5)
    rough = name in ("bfloat16", "two types")
    found = space.tensors(mean_gradient(answer))
    assert found.keys() == gradients.keys()
    for tensor, gradient in gradients.items():
        torch.testing.assert_close(
            found[tensor], gradient, rtol=2e-2 if rough else 1e-4, atol=2e-3 if rough else 1e-6
        )
    # Neither parameters nor running statistics nor modes of the network are others now.
    assert all(torch.equal(each, before[key]) for key, each in state_of(start).items())
    assert start.training


def test_what_moves_by_types():
    expected = {"float64": torch.float64, "bfloat16": torch.float32, "complex": torch.float32}
    for name, dtype in expected.items():
        space = space_of(made(name, 1), state_of(made(name, 1)), state_of(made(name, 2)), where="test")
        assert space.dtype == dtype
        vector = space.vector(space.start)
        for tensor, value in space.tensors(vector).items():
            assert torch.equal(value, space.start[tensor])


def test_tied_weights_are_one_and_frozen_ones_that_differ_go_straight():
    start, end = Tied(), Tied()
    with torch.no_grad():
        end.last.bias.copy_(start.last.bias + 1)
    space = space_of(start, state_of(start), state_of(end), where="test")
    assert [place.name for place in space.places] == ["scale", "into.weight", "last.weight"]
    assert space.frozen == ("last.bias",)
    tensors = space.parameters(space.vector(space.start), 0.25)
    torch.testing.assert_close(tensors["last.bias"], start.last.bias + 0.25)
    assert torch.equal(space.parameters(space.vector(space.end), 1.0)["last.bias"], end.last.bias)


def test_frozen_weights_that_are_the_same_stay():
    start, end = Tied(), Tied()
    with torch.no_grad():
        end.last.bias.copy_(start.last.bias)
    space = space_of(start, state_of(start), state_of(end), where="test")
    assert space.frozen == ()
    assert "last.bias" not in space.parameters(space.vector(space.start), 0.5)


def test_of_a_frozen_network_everything_moves():
    start, end = (nn.Linear(2, 1).requires_grad_(False) for _ in range(2))
    assert space_of(start, state_of(start), state_of(end), where="test").size == 3


class Counted(nn.Module):
    def __init__(self, whole):
        super().__init__()
        self.w = nn.Parameter(torch.randn(2))
        self.whole = nn.Parameter(torch.tensor(whole), requires_grad=False)


def diverged():
    model = nn.Linear(2, 1)
    nn.init.constant_(model.bias, float("inf"))
    return model


REFUSED = {
    "not finite": (nn.Linear(2, 1), diverged(), "bias is not finite at the end"),
    "the same": (nn.Linear(2, 1), None, "have the same trained parameters"),
    "whole numbers": (Counted([1, 2]), Counted([1, 3]), "whole is another at the end, and of int64"),
}


@pytest.mark.parametrize(("start", "end", "words"), REFUSED.values(), ids=REFUSED)
def test_ends_without_a_way_between_are_refused(start, end, words):
    with pytest.raises(LandscapeError, match=words):
        space_of(start, state_of(start), state_of(end or start), where="test")


def weighted(model, batch):
    """Sums and what they count, as a loss over tokens has them."""
    counts = batch[1] + 1.0
    return {"loss": loss(model, batch) * counts, "count": counts}


def test_a_loss_with_counts_is_a_mean_over_what_counts():
    start, end = made("layers", 1), made("layers", 2)
    passes = passes_of(start, weighted, start.state_dict(), end.state_dict(), X, Y, piece_size=4)
    space = passes.space
    curve = line(space.vector(space.start), space.vector(space.end))
    (answer,) = passes.answers(curve, Round(tasks=(Task(t=1.0),), step=None))
    end.zero_grad()
    counts = Y + 1.0
    mean = (loss(end, (X, Y)) * counts).sum() / counts.sum()
    mean.backward()
    assert mean_loss(answer) == pytest.approx(mean.item(), rel=1e-6)
    found = space.tensors(mean_gradient(answer))
    for name, each in end.named_parameters():
        torch.testing.assert_close(found[name], each.grad, rtol=1e-4, atol=1e-6)


def test_the_pieces_of_a_batch_add_up_to_it_and_examples_are_counted():
    start, end = made("layers", 1), made("layers", 2)
    passes = passes_of(start, loss, start.state_dict(), end.state_dict(), X, Y, batch_size=6, piece_size=3)
    curve = line(passes.space.vector(passes.space.start), passes.space.vector(passes.space.end))
    (whole,) = passes.answers(curve, Round(tasks=(Task(t=T),), step=3))
    parts = passes.answers(
        curve, Round(tasks=(Task(t=T, piece=0), Task(t=T, piece=1, gradient=False)), step=3)
    )
    assert [passes.batches.pieces_of(step) for step in (0, 1, 2, 3)] == [[3, 3], [2, 2]] * 2
    assert sum(each.loss for each in parts) == pytest.approx(whole.loss, rel=1e-6)
    assert parts[1].gradient is None
    assert passes.examples == {True: 4 + 2, False: 2}


def test_points_of_one_round_see_the_same_dropout():
    start, end = made("dropout", 1), made("dropout", 2)
    passes = passes_of(start, loss, start.state_dict(), end.state_dict(), X, Y)
    curve = line(passes.space.vector(passes.space.start), passes.space.vector(passes.space.end))
    ask = Round(tasks=(Task(t=T), Task(t=T)), step=4)
    one, two = passes.answers(curve, ask)
    assert one.loss == two.loss
    assert torch.equal(one.gradient, two.gradient)
    other, _ = passes.answers(curve, Round(tasks=ask.tasks, step=5))
    assert other.loss != one.loss


def test_a_loss_that_no_gradient_reaches_is_refused():
    start, end = made("layers", 1), made("layers", 2)
    passes = passes_of(
        start, lambda model, batch: loss(model, batch).detach(), start.state_dict(), end.state_dict(), X, Y
    )
    curve = line(passes.space.vector(passes.space.start), passes.space.vector(passes.space.end))
    with pytest.raises(LandscapeError, match="does not depend on the trained parameters"):
        passes.answers(curve, Round(tasks=(Task(t=T),), step=0))


def test_what_a_network_raises_is_told_in_a_line():
    start, end = made("layers", 1), made("layers", 2)
    passes = passes_of(
        start, lambda model, batch: model(batch[1]), start.state_dict(), end.state_dict(), X, Y
    )
    curve = line(passes.space.vector(passes.space.start), passes.space.vector(passes.space.end))
    with pytest.raises((LandscapeError, AgreedError), match="calling it on the network and a batch"):
        passes.answers(curve, Round(tasks=(Task(t=T),), step=0))
