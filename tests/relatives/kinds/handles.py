"""Second ways to the parameters, which a copy would leave at the original."""

import functools
import weakref

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrize

from tests.relatives.case import Asked, right
from tests.relatives.small import cross_entropy, mlp, net_of, tokens, vectors

KIND, TITLE = 2, "second ways to the parameters"


@right("`forward` is replaced by a function that holds the original")
def captured_forward(folder):
    net = mlp()
    forward = net.forward
    net.forward = lambda x: forward(x) / 2
    return Asked(net=net, data=vectors())


@right("an attribute is a view of a weight")
def view_attribute(folder):
    net = net_of(
        [("first", nn.Linear(4, 8)), ("out", nn.Linear(8, 3))],
        lambda self, x: torch.tanh(self.first(x)) @ self.codebook.t() + self.out.bias,
    )
    net.codebook = net.out.weight.data
    return Asked(net=net, data=vectors())


@right("the loss calls the outer network")
def loss_calls_outer(folder):
    net = mlp()
    return Asked(net=net, loss=lambda model, batch: cross_entropy(net, batch), data=vectors())


@right("a penalty over the outer network's parameters")
def penalty_outer(folder):
    net = mlp()

    def loss(model, batch):
        return cross_entropy(model, batch) + 0.01 * sum(each.square().sum() for each in net.parameters())

    return Asked(net=net, loss=loss, data=vectors())


@right("a list of `.data` views in the loss")
def data_views(folder):
    net = mlp()
    weights = [each.data for each in net.parameters() if each.ndim > 1]

    def loss(model, batch):
        return cross_entropy(model, batch) + sum(each.abs().mean() for each in weights)

    return Asked(net=net, loss=loss, data=vectors())


@right("a numpy array on the memory of a weight")
def numpy_view(folder):
    net = mlp()
    weight = net[2].weight.detach().numpy()
    return Asked(
        net=net,
        loss=lambda model, batch: cross_entropy(model, batch) + float((weight**2).sum()),
        data=vectors(),
    )


@right("two Parameters on one memory")
def two_parameters(folder):
    net = net_of(
        [("first", nn.Linear(4, 4)), ("second", nn.Linear(4, 4)), ("head", nn.Linear(4, 3))],
        lambda self, x: self.head(torch.tanh(self.second(torch.tanh(self.first(x))))),
    )
    net.second.weight = nn.Parameter(net.first.weight.data)
    return Asked(net=net, data=vectors())


@right("functools.partial with the network")
def partial_network(folder):
    net = mlp()

    def loss(model, batch, *, regularized):
        return cross_entropy(model, batch) + 0.1 * regularized[0].weight.norm()

    return Asked(net=net, loss=functools.partial(loss, regularized=net), data=vectors())


@right("a weak reference to the network in the loss")
def weak_reference(folder):
    net = mlp()
    reference = weakref.ref(net)
    return Asked(
        net=net,
        loss=lambda model, batch: cross_entropy(model, batch) + 0.1 * reference()[0].weight.norm(),
        data=vectors(),
    )


@right("a property that goes through a weak reference")
def weak_property(folder):
    class Tied(nn.Module):
        def __init__(self, other):
            super().__init__()
            self.bias = nn.Parameter(torch.zeros(4))
            self.other = weakref.ref(other)

        @property
        def weight(self):
            return self.other().weight

        def forward(self, x):
            return F.linear(x, self.weight.t(), self.bias)

    first = nn.Linear(4, 8)
    net = net_of(
        [("first", first), ("back", Tied(first)), ("head", nn.Linear(4, 3))],
        lambda self, x: self.head(torch.tanh(self.back(torch.tanh(self.first(x))))),
    )
    return Asked(net=net, data=vectors())


@right("a hook whose closure holds another layer")
def hook_closure(folder):
    net = mlp()
    net[0].register_forward_hook(lambda module, inputs, output: output * net[2].weight.mean())
    return Asked(net=net, data=vectors())


@right("torch's parametrizations")
def parametrized(folder):
    class Symmetric(nn.Module):
        def forward(self, x):
            return x.triu() + x.triu(1).transpose(-1, -2)

    net = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 3))
    parametrize.register_parametrization(net[0], "weight", Symmetric())
    return Asked(net=net, data=vectors())


@right("an embedding tied to the output by assignment")
def tied_embedding(folder):
    net = net_of(
        [("embed", nn.Embedding(20, 8)), ("out", nn.Linear(8, 20)), ("head", nn.Linear(20, 3))],
        lambda self, x: self.head(self.out(torch.tanh(self.embed(x)).mean(1))),
    )
    net.out.weight = net.embed.weight
    return Asked(net=net, data=tokens())


@right("layers are kept in a plain list, too")
def plain_list(folder):
    net = net_of(
        [("first", nn.Linear(4, 8)), ("second", nn.Linear(8, 3))],
        lambda self, x: self.layers[1](torch.tanh(self.layers[0](x))),
    )
    net.layers = [net.first, net.second]
    return Asked(net=net, data=vectors())


@right("all parameters are views of one flat tensor, which the loss uses")
def flattened(folder):
    net = mlp()
    flat = torch.cat([each.detach().reshape(-1) for each in net.parameters()])
    start = 0
    for each in net.parameters():
        each.data = flat[start : start + each.numel()].view(each.shape)
        start += each.numel()
    return Asked(
        net=net,
        loss=lambda model, batch: cross_entropy(model, batch) + 0.01 * flat.square().sum(),
        data=vectors(),
    )


@right("a bound method kept as an attribute")
def bound_method(folder):
    net = net_of(
        [("first", nn.Linear(4, 8)), ("second", nn.Linear(8, 3))],
        lambda self, x: self.second(torch.tanh(self.encode(x))),
    )
    net.encode = net.first.forward
    return Asked(net=net, data=vectors())


@right("a loss object that keeps the network and is called without using the argument")
def trainer(folder):
    class Trainer:
        def __init__(self, net):
            self.net = net

        def step(self, model, batch):
            return cross_entropy(self.net, batch)

    net = mlp()
    return Asked(net=net, loss=Trainer(net).step, data=vectors())
