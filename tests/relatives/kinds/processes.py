"""Ranks that differ."""

import os

import torch
from torch import nn
from torch.utils.data import TensorDataset

from tests.relatives.case import Asked, either, refused, right
from tests.relatives.small import cnn, cross_entropy, images, mlp, net_of, vectors

KIND, TITLE = 6, "ranks that differ"
DIFFER = "ranks would compute other losses"


def rank():
    return int(os.environ.get("PMI_RANK") or os.environ.get("OMPI_COMM_WORLD_RANK") or 0)


@right("everything alike", ranks=2)
def ranks_alike(folder):
    return Asked(net=cnn(), data=images())


@either("modules from a set of names", "the order differs between processes", ranks=2)
def modules_from_set(folder):
    torch.manual_seed(1)
    parts = nn.ModuleDict()
    for name in {"query", "key", "value", "gate"}:
        parts[name] = nn.Linear(4, 4)
    net = net_of(
        [("parts", parts), ("head", nn.Linear(4, 3))],
        lambda self, x: self.head(
            torch.tanh(self.parts["query"](x)) * self.parts["key"](x) + self.parts["gate"](x)
        ),
    )
    return Asked(net=net, data=vectors())


@right("a buffer that is random on every rank", ranks=2)
def random_buffer(folder):
    net = net_of([("body", mlp()), ("shift", torch.zeros(3))], lambda self, x: self.body(x) + self.shift)
    net.shift.fill_(float(rank()))
    return Asked(net=net, data=vectors())


@refused("a tensor that is no buffer and random on every rank", DIFFER, ranks=2)
def random_attribute(folder):
    net = net_of([("body", mlp())], lambda self, x: self.body(x) + self.shift)
    net.shift = torch.full((3,), float(rank())) * torch.arange(3)
    return Asked(net=net, data=vectors())


@refused("a loss that knows its rank", DIFFER, ranks=2)
def loss_by_rank(folder):
    here = rank()
    return Asked(
        net=mlp(), loss=lambda model, batch: cross_entropy(model, batch) * (1 + here), data=vectors()
    )


@refused("data that differ by rank, as of a sampler for distributed training", DIFFER, ranks=2)
def data_by_rank(folder):
    x, y = torch.randn(120, 4), torch.randint(0, 3, (120,))
    return Asked(net=mlp(), data=TensorDataset(x[rank() :: 2], y[rank() :: 2]))


@right("parameters that differ: those of the first rank count", ranks=2)
def parameters_by_rank(folder):
    net = mlp()
    net[0].weight.data.add_(float(rank()))
    return Asked(net=net, data=vectors())


@refused("a layer more on one rank", DIFFER, ranks=2)
def layers_by_rank(folder):
    return Asked(net=nn.Sequential(*mlp(), *[nn.Linear(3, 3)] * rank()), data=vectors())
