"""What a copy or a file would lose: buffers of other types, and what tells one loss from another."""

import functools

import torch
import torch.nn.functional as F
from torch import nn

from tests.relatives.case import Asked, refused, right
from tests.relatives.small import cross_entropy, mlp, net_of, tokens, vectors

KIND, TITLE = 13, "what was lost"
ANOTHER = "another problem than the file's"
WEIGHT = 1.0


def rotary():
    angles = torch.outer(torch.arange(6.0), 1 / 10 ** (torch.arange(0, 8, 2) / 8))
    parts = [
        ("embed", nn.Embedding(20, 8)), ("head", nn.Linear(8, 3)),
        ("turns", torch.polar(torch.ones_like(angles), angles)),
    ]  # fmt: skip

    def forward(self, ids):
        pairs = torch.view_as_complex(self.embed(ids).reshape(*ids.shape, -1, 2))
        return self.head(torch.tanh(torch.view_as_real(pairs * self.turns).flatten(-2)).mean(1))

    return net_of(parts, forward)


def masked():
    return net_of(
        [("body", mlp()), ("mask", torch.tensor([True, False, True, True]))],
        lambda self, x: self.body(x * self.mask),
    )


def since():
    parts = [("body", mlp()), ("since", torch.tensor(1.7e9 + 0.5, dtype=torch.float64))]
    return net_of(parts, lambda self, x: self.body((x + (self.since - 1.7e9)).float()))


def loss_of(weight):
    return lambda model, batch: weight * cross_entropy(model, batch)


def changed(net, change):
    with torch.no_grad():
        change(net)
    return net


def pair(first, second, data, **options):
    """A problem, and another one that is asked for with the same file."""
    return Asked(**first, data=data, options=options, again=Asked(**second, data=data, options=options))


@right("a complex buffer")
def complex_buffer(folder):
    return Asked(net=rotary(), data=tokens())


@right("a buffer of booleans")
def bool_buffer(folder):
    return Asked(net=masked(), data=vectors())


@right("a buffer in float64")
def double_buffer_kept(folder):
    return Asked(net=since(), data=vectors())


@right("the same again")
def same_again(folder):
    net, data = mlp(), vectors()
    return pair({"net": net, "loss": loss_of(2.0)}, {"net": net, "loss": loss_of(2.0)}, data)


@refused("another imaginary part of a buffer", ANOTHER)
def other_complex(folder):
    turn = lambda net: net.turns.imag.add_(1e-6)  # noqa: E731
    torch.manual_seed(1)
    first = rotary()
    torch.manual_seed(1)
    return pair({"net": first}, {"net": changed(rotary(), turn)}, tokens())


@refused("another boolean of a buffer", ANOTHER)
def other_bool(folder):
    torch.manual_seed(1)
    first = masked()
    torch.manual_seed(1)
    return pair({"net": first}, {"net": changed(masked(), lambda net: net.mask.logical_not_())}, vectors())


@refused("another last bit of a float64 buffer", ANOTHER)
def other_double(folder):
    torch.manual_seed(1)
    first = since()
    torch.manual_seed(1)
    return pair({"net": first}, {"net": changed(since(), lambda net: net.since.add_(3e-7))}, vectors())


@refused("another closure of the loss", ANOTHER)
def other_closure(folder):
    net, data = mlp(), vectors()
    return pair({"net": net, "loss": loss_of(1.0)}, {"net": net, "loss": loss_of(1.0 + 1e-6)}, data)


@refused("another argument of a partial", ANOTHER)
def other_partial(folder):
    def smooth(model, batch, smoothing):
        return F.cross_entropy(model(batch[0]), batch[1], reduction="none", label_smoothing=smoothing)

    net, data = mlp(), vectors()
    first, second = (functools.partial(smooth, smoothing=each) for each in (0.1, 0.1 + 1e-7))
    return pair({"net": net, "loss": first}, {"net": net, "loss": second}, data)


@refused("another attribute of a criterion", ANOTHER)
def other_attribute(folder):
    class Criterion:
        def __init__(self, weight):
            self.weight = torch.tensor(weight)

        def __call__(self, model, batch):
            return F.cross_entropy(model(batch[0]), batch[1], weight=self.weight, reduction="none")

    net, data = mlp(), vectors()
    first, second = Criterion([1.0, 2.0, 3.0]), Criterion([1.0, 2.0, 3.000001])
    return pair({"net": net, "loss": first}, {"net": net, "loss": second}, data)


@refused("an edited body of the loss", ANOTHER)
def edited_body(folder):
    def first(model, batch):
        return cross_entropy(model, batch)

    def second(model, batch):
        return cross_entropy(model, batch) + 1e-7

    second.__qualname__ = first.__qualname__
    net, data = mlp(), vectors()
    return pair({"net": net, "loss": first}, {"net": net, "loss": second}, data)


@refused("another default argument of the loss", ANOTHER)
def other_default(folder):
    def made(value):
        def loss(model, batch, shift=value):
            return cross_entropy(model, batch) + shift

        return loss

    net, data = mlp(), vectors()
    return pair({"net": net, "loss": made(0.0)}, {"net": net, "loss": made(1e-7)}, data)


@refused("one label of the data is another one", ANOTHER)
def other_label(folder):
    net, data = mlp(), vectors()
    other = type(data)(data.tensors[0], data.tensors[1].clone())
    other.tensors[1][17] = (other.tensors[1][17] + 1) % 3
    return Asked(net=net, data=data, again=Asked(net=net, data=other))


@refused("the last bit of one parameter", ANOTHER)
def other_parameter(folder):
    first, data = mlp(), vectors()
    second = mlp()
    second.load_state_dict(first.state_dict())
    weight = second[2].bias.data
    weight[0] = torch.nextafter(weight[0], torch.tensor(torch.inf))
    return pair({"net": first}, {"net": second}, data)


@refused("an activation's own number", ANOTHER)
def other_activation(folder):
    data = vectors()
    first, second = (
        nn.Sequential(nn.Linear(4, 8), nn.LeakyReLU(slope), nn.Linear(8, 3)) for slope in (0.01, 0.0101)
    )
    second.load_state_dict(first.state_dict())
    return pair({"net": first}, {"net": second}, data)
