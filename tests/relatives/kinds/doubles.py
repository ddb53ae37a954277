"""Numbers that float32 cannot hold."""

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import TensorDataset

from tests.relatives.case import Asked, either, right
from tests.relatives.small import cross_entropy, mlp, net_of, numbers, squared, vectors

KIND, TITLE = 8, "float64"
EPOCH = 1.7e9
# Of one weight there is no plane.
LINE = {"beta": None}


def times(count=90):
    return torch.arange(EPOCH, EPOCH + count, dtype=torch.float64)[:, None]


def regression():
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))


@right("times since 1970 as inputs")
def large_times(folder):
    t = times()
    net = net_of([("body", nn.Linear(1, 1))], lambda self, t: self.body(((t - EPOCH) / 100).float()))
    return Asked(net=net, loss="mse", data=TensorDataset(t, ((t - EPOCH) / 100).float()), options=LINE)


@right("labels in float64 that the loss centers")
def large_labels(folder):
    def loss(model, batch):
        return (model(batch[0])[:, 0] - (batch[1] - EPOCH).float() / 100).square()

    return Asked(net=regression(), loss=loss, data=TensorDataset(torch.randn(90, 4), times()[:, 0]))


@right("a float64 network in precision float64")
def double_network(folder):
    data = TensorDataset(torch.randn(90, 4).double(), torch.randint(0, 3, (90,)))
    return Asked(net=mlp().double(), data=data, options={"compute": {"precision": "float64"}})


@right("a float64 network in the default precision")
def double_network_single(folder):
    data = TensorDataset(torch.randn(90, 4).double(), torch.randint(0, 3, (90,)))
    return Asked(net=mlp().double(), data=data)


@right("a buffer in float64 that inputs are counted from")
def double_buffer(folder):
    net = net_of(
        [("body", nn.Linear(1, 1)), ("since", torch.tensor(EPOCH, dtype=torch.float64))],
        lambda self, t: self.body(((t - self.since) / 100).float()),
    )
    t = times()
    return Asked(net=net, loss="mse", data=TensorDataset(t, ((t - EPOCH) / 100).float()), options=LINE)


@right("float64 data for a float32 network, from numpy")
def numpy_data(folder):
    x, y = torch.randn(90, 4), torch.randint(0, 3, (90,))
    asked = Asked(net=mlp(), data=TensorDataset(x.double(), y))
    one = TensorDataset(x, y)

    def mean(net):
        batch = [one.tensors[0], one.tensors[1]]
        return float(cross_entropy(net, batch).detach().double().mean())

    return Asked(net=asked.net, data=asked.data, mean=mean)


@right("identifiers beyond 2^24 through a hash")
def large_integers(folder):
    ids = torch.arange(2**40, 2**40 + 90)
    net = net_of([("embed", nn.Embedding(16, 3))], lambda self, ids: self.embed((ids * 2654435761) % 16))
    return Asked(net=net, data=TensorDataset(ids, torch.randint(0, 3, (90,))))


@right("sums in float64 inside the loss")
def double_inside(folder):
    def loss(model, batch):
        return (1e6 + squared(model, batch).double()) - 1e6

    return Asked(net=regression(), loss=loss, data=numbers())


@right("float64 dates beside float32 features in a mapping")
def mixed_mapping(folder):
    from tests.relatives.small import Items

    x, t = torch.randn(90, 4), times()[:, 0]

    def loss(model, batch):
        return (model(batch["x"])[:, 0] - torch.sin((batch["t"] - EPOCH) / 7).float()).square()

    return Asked(net=regression(), loss=loss, data=Items(lambda index: {"x": x[index], "t": t[index]}, 90))


@right("images of bytes that the network scales")
def bytes_images(folder):
    data = TensorDataset(torch.randint(0, 256, (90, 4), dtype=torch.uint8), torch.randint(0, 3, (90,)))
    return Asked(net=net_of([("body", mlp())], lambda self, x: self.body(x.float() / 255)), data=data)


@right("a network in bfloat16, computed in float32")
def bfloat16_network(folder):
    return Asked(net=mlp().bfloat16(), data=vectors())


@right("soft labels in float64")
def soft_labels(folder):
    soft = torch.rand(90, 3).double().softmax(1)

    def loss(model, batch):
        return F.cross_entropy(model(batch[0]).double(), batch[1], reduction="none")

    return Asked(net=mlp(), loss=loss, data=TensorDataset(torch.randn(90, 4), soft))


def mixed(precision):
    net = net_of(
        [("first", nn.Linear(4, 8)), ("solver", nn.Linear(8, 3).double())],
        lambda self, x: self.solver(torch.tanh(self.first(x)).double()),
    )
    return Asked(net=net, data=vectors(), options={"compute": {"precision": precision}})


@either(
    "one layer in float64 within a float32 network",
    "parameters are one vector of one type",
    says="compute.precision: float64",
)
def mixed_network(folder):
    return mixed("float32")


@right("likewise, in precision float64")
def mixed_in_double(folder):
    return mixed("float64")


@right("float16 features, as a cache keeps them")
def half_features(folder):
    x, y = torch.randn(90, 4).half(), torch.randint(0, 3, (90,))
    return Asked(
        net=net_of([("body", mlp())], lambda self, x: self.body(x.float())), data=TensorDataset(x, y)
    )
