"""Ends of lines and planes that are another network's, with more to it than its parameters."""

import copy

import torch
from torch import nn

from tests.relatives.case import Asked, right
from tests.relatives.small import cnn, images, mlp, net_of, stirred, tokens, vectors

KIND, TITLE = 4, "ends that are not the ends"
LINE = {"alpha": (-0.5, 1, 4), "beta": None}
PLANE = {"alpha": (-0.5, 1, 4), "beta": (0, 1, 3)}


def other_of(net, seed=7):
    """A network of the same kind, trained elsewhere."""
    torch.manual_seed(seed)
    other = copy.deepcopy(net)
    with torch.no_grad():
        for each in other.parameters():
            each.add_(0.3 * torch.randn_like(each))
    return stirred(other)


def to(folder, name, other, said=lambda state: state):
    torch.save(said(other.state_dict()), folder / f"{name}.pt")
    return {"kind": "difference", "to": str(folder / f"{name}.pt")}


def line(folder, net, other, data, said=lambda state: state, **directions):
    alpha = to(folder, "other", other, said)
    options = {**LINE, "directions": {"alpha": alpha, "beta": None, **directions}}
    return Asked(net=net, data=data, options=options, ends={"alpha": other})


@right("a line to a network with other running statistics")
def line_statistics(folder):
    net = cnn()
    return line(folder, net, other_of(net), images())


@right("a plane through two networks with other running statistics")
def plane_statistics(folder):
    net = cnn()
    first, second = other_of(net), other_of(net, 8)
    directions = {"alpha": to(folder, "first", first), "beta": to(folder, "second", second)}
    return Asked(
        net=net,
        data=images(),
        options={**PLANE, "directions": directions},
        ends={"alpha": first, "beta": second},
    )


@right("normalization_buffers: false says that the end is not the end", says="warning")
def statistics_left(folder):
    net = cnn()
    return line(folder, net, other_of(net), images(), normalization_buffers=False)


def averaged(name):
    net = net_of(
        [("body", mlp()), (name, torch.zeros(3))], lambda self, x: self.body(x) + getattr(self, name)
    )
    return net


@right("a moving average in a buffer that the output uses", says="warning")
def average_buffer(folder):
    net = averaged("ema")
    other = other_of(net)
    other.ema.fill_(0.7)
    return line(folder, net, other, vectors())


@right("only num_batches_tracked differs")
def batches_tracked(folder):
    net = cnn()
    other = copy.deepcopy(net)
    other[8].weight.data.add_(0.5)
    other[1].num_batches_tracked.fill_(1000)
    return line(folder, net, other, images())


@right("a mask of booleans differs at the end", says="warning")
def bool_mask(folder):
    net = net_of(
        [("body", mlp()), ("mask", torch.ones(4, dtype=torch.bool))], lambda self, x: self.body(x * self.mask)
    )
    other = other_of(net)
    other.mask[1] = False
    return line(folder, net, other, vectors())


@right("a table of integers differs at the end", says="warning")
def integer_table(folder):
    net = net_of([("body", mlp()), ("order", torch.arange(4))], lambda self, x: self.body(x[:, self.order]))
    other = other_of(net)
    other.order.copy_(torch.tensor([1, 0, 3, 2]))
    return line(folder, net, other, vectors())


@right("parameters alone: the end is exact")
def parameters_alone(folder):
    net = mlp()
    return line(folder, net, other_of(net), vectors())


@right("batch normalization with momentum None")
def momentum_none(folder):
    net = cnn(norm=lambda width: nn.BatchNorm2d(width, momentum=None))
    return line(folder, net, other_of(net), images())


@right("instance normalization that keeps statistics")
def instance_norm(folder):
    net = cnn(norm=lambda width: nn.InstanceNorm2d(width, affine=True, track_running_stats=True))
    return line(folder, net, other_of(net), images())


@right("tied weights at both ends")
def tied_ends(folder):
    net = net_of(
        [("embed", nn.Embedding(20, 8)), ("out", nn.Linear(8, 20)), ("head", nn.Linear(20, 3))],
        lambda self, x: self.head(self.out(torch.tanh(self.embed(x)).mean(1))),
    )
    net.out.weight = net.embed.weight
    return line(folder, net, other_of(net), tokens())


@right("a checkpoint of a DataParallel network")
def parallel_checkpoint(folder):
    net = cnn()
    said = lambda state: {"state_dict": {f"module.{name}": each for name, each in state.items()}}  # noqa: E731
    return line(folder, net, other_of(net), images(), said)


@right("a checkpoint in float16")
def half_checkpoint(folder):
    net = mlp()
    other = other_of(net).half().float()
    return line(
        folder, net, other, vectors(), lambda state: {name: each.half() for name, each in state.items()}
    )


@right("a frozen layer that differs at the end")
def frozen_differs(folder):
    net = mlp()
    net[0].requires_grad_(False)
    return line(folder, net, other_of(net), vectors())


@right("an output of spectral normalization, whose vectors are buffers")
def spectral_end(folder):
    net = nn.Sequential(
        nn.utils.parametrizations.spectral_norm(nn.Linear(4, 8)), nn.Tanh(), nn.Linear(8, 3)
    ).eval()
    other = other_of(net)
    for _ in range(5):
        other.train()(torch.randn(3, 4))
    return line(folder, net, other.eval(), vectors())


@right("a buffer that the checkpoint keeps and the loss reads as a class's prototypes", says="warning")
def prototypes(folder):
    net = net_of(
        [("body", mlp()), ("prototypes", torch.eye(3))],
        lambda self, x: -torch.cdist(self.body(x), self.prototypes),
    )
    other = other_of(net)
    other.prototypes.mul_(2).add_(0.1)
    return line(folder, net, other, vectors())
