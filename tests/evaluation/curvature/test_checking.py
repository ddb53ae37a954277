"""What has no second derivative is named before the work, and what is smooth in pieces only is said."""

from __future__ import annotations

import copy
import functools

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from mpi_landscape.errors import LandscapeError
from mpi_landscape.evaluation.arithmetic import exact_arithmetic
from mpi_landscape.evaluation.curvature.checking import bytes_of_example, check_twice_differentiable
from mpi_landscape.evaluation.curvature.graphs import num_bytes
from mpi_landscape.evaluation.curvature.space import space_of
from mpi_landscape.geometry.layout import layout_of
from mpi_landscape.problem.losses import evaluate
from tests.evaluation.curvature.oracle import KINDS, batches_of, labels, made, normal, products_of


@pytest.fixture(autouse=True)
def exact():
    with exact_arithmetic():
        yield


def checked(model, loss, data):
    (batch,) = batches_of(data, len(data[1]))
    return check_twice_differentiable(model, loss, batch, space_of(layout_of(model)))


class Once(torch.autograd.Function):
    @staticmethod
    def forward(context, x):
        context.save_for_backward(x)
        return x**3

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(context, gradient):
        return 3 * context.saved_tensors[0] ** 2 * gradient


class Half(torch.autograd.Function):
    """A product whose gradient by one factor forgets that it depends on the other."""

    @staticmethod
    def forward(context, x, y):
        context.save_for_backward(x, y)
        return x * y

    @staticmethod
    def backward(context, gradient):
        x, y = context.saved_tensors
        return gradient * y, gradient * x.detach()


class Gated(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.other = nn.Linear(3, 4), nn.Linear(3, 4)

    def forward(self, x):
        return Half.apply(self.one(x), torch.tanh(self.other(x)))


def normed(make):
    return nn.Sequential(make(nn.Linear(3, 5)), nn.Tanh(), nn.Linear(5, 4))


class Bag(nn.Module):
    def __init__(self):
        super().__init__()
        self.bag, self.head = nn.EmbeddingBag(7, 3, mode="sum"), nn.Linear(3, 4)

    def forward(self, words):
        return self.head(torch.tanh(self.bag(words)))


def named(name):
    return functools.partial(evaluate, name=name, arguments={})


def once(model, batch):
    return Once.apply(model(batch[0])).sum(1)


def cut(model, batch):
    return model(batch[0]).detach().sum(1)


def absolute(model, batch):
    return (model(batch[0]) - batch[2]).abs().sum(1)


def margin(model, batch):
    return F.multi_margin_loss(model(batch[0]), batch[1], reduction="none")


def in_place(model, batch):
    hidden = model(batch[0]).exp()
    result = hidden.sum(1)
    hidden.add_(1)
    return result


def raising(model, batch):
    return model(batch[0], batch[1])


LINEAR = nn.Linear(3, 4)
DATA = [normal(6, 3), labels(6, 4)]
REFUSED = {
    "margin": (nn.Linear(3, 4), margin, DATA, "hessian: multi_margin_loss, which has kinks, has no second derivative"),
    "bag": (Bag(), named("cross_entropy"), [labels(6, 7)[:, None], labels(6, 4)], "hessian: EmbeddingBag"),
    "once": (nn.Linear(3, 4), once, DATA, "hessian: Once, a torch.autograd.Function marked as once_differentiable"),
    "half": (Gated(), named("cross_entropy"), DATA, "hessian: second derivatives of this network and loss are not symmetric"),
    "weight norm": (normed(weight_norm), named("cross_entropy"), DATA, "torch's of weight_norm are"),
    "old weight norm": (normed(nn.utils.weight_norm), named("mse"), DATA, "torch's of weight_norm are"),
    "cut": (nn.Linear(3, 4), cut, DATA, "hessian: the loss has no gradient"),
    "kink": (
        LINEAR,
        absolute,
        [torch.zeros(6, 3), labels(6, 4), LINEAR.bias.detach().repeat(6, 1)],
        "hessian: the loss has a kink at the data: 24 of its absolute values",
    ),
    "in place": (nn.Linear(3, 4), in_place, DATA, "hessian: the gradient of the loss raised RuntimeError: one of the"),
    "raising": (nn.Linear(3, 4), raising, DATA, "loss: calling it on the network and a batch"),
}  # fmt: skip


@pytest.mark.parametrize(("model", "loss", "data", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_differentiated_twice_is_refused_by_name(model, loss, data, message):
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(LandscapeError) as caught:
        checked(model, loss, data)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert all(torch.equal(model.state_dict()[name], value) for name, value in before.items())
    assert not model._forward_hooks
    assert all(each.requires_grad for each in model.parameters())


def test_a_weight_that_is_no_longer_normalized_is_taken():
    model = normed(weight_norm)
    torch.nn.utils.parametrize.remove_parametrizations(model[0], "weight")
    assert checked(model, named("cross_entropy"), DATA) == ()


@pytest.mark.parametrize("scale", [1.0, 30.0, 1e4], ids="a loss of {}".format)
def test_rounding_is_not_taken_for_a_wrong_derivative(scale):
    """Of losses near one, near 1e-9 or 1e-20, and of one that has no second derivative at all."""
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 4))
    data = [normal(6, 3), torch.full((6,), 2)]
    with torch.no_grad():
        model[2].bias[2] += scale
    checked(model, named("cross_entropy"), data)

    def linear(model, batch):
        return scale * model(batch[0]).sum(1)

    checked(nn.Linear(3, 4), linear, data)


def test_absolute_values_that_are_not_zero_and_zeros_inside_of_a_network_are_taken():
    class Folding(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.head = nn.Linear(3, 4), nn.Linear(4, 4)

        def forward(self, x):
            return self.head(F.relu(self.first(x)).abs())

    assert checked(nn.Linear(3, 4), absolute, [*DATA, normal(6, 4, seed=9)]) == ("abs",)
    assert checked(Folding(), named("mse"), DATA) == ("abs", "relu")
    assert checked(nn.Linear(3, 4), named("hinge"), DATA) == ("clamp",)


@pytest.mark.parametrize("kind", KINDS)
def test_networks_that_have_second_derivatives_pass_and_are_as_they_were(kind):
    model, loss, data = made(kind)
    model.train()
    before = copy.deepcopy(model.state_dict())
    found = checked(model, loss, data)
    assert ("relu" in found) == (kind in ("mlp", "residual", "attention", "counted"))
    assert model.training
    assert all(torch.equal(model.state_dict()[name], value) for name, value in before.items())


def test_the_memory_of_an_example_is_what_further_ones_take():
    model, loss, data = made("residual", number=12)
    space, found = space_of(layout_of(model)), []
    for dtype in (torch.float32, torch.float64):
        (batch,) = batches_of(data, 12, dtype)
        found.append(bytes_of_example(model, loss, batch, space))
    assert found[1] == pytest.approx(2 * found[0], rel=0.1)
    sizes = []
    for number in (4, 12):
        (batch,) = batches_of([each[:number] for each in data], number)
        with products_of(model, loss, engine="plain", memory=2**30) as products:
            products.product(torch.ones(1, products.size), lambda b=batch: [[b]])
            # Without the batch itself, which a kept graph holds too.
            sizes.append((products._graphs.price - 1) * num_bytes(batch))
    assert (sizes[1] - sizes[0]) / 8 == pytest.approx(found[0], rel=0.02)
