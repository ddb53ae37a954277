"""Dense Hessians in float64 by a plain loop of autograd over one flat vector, and small networks of many kinds."""

from __future__ import annotations

import copy
import math

import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from mpi_landscape.evaluation.curvature.products import Products
from mpi_landscape.evaluation.curvature.space import space_of
from mpi_landscape.geometry.layout import layout_of
from mpi_landscape.loading import nests
from mpi_landscape.loading.batches import Batch

CPU = torch.device("cpu")


class _Called(nn.Module):
    def __init__(self, network, loss):
        super().__init__()
        self.network, self.loss = network, loss

    def forward(self, batch):
        return self.loss(self.network, batch)


def dense(model, loss, batch, names):
    """(n, n) float64: the Hessian of Σ losses / Σ counts over all examples at once, by the parameters of these names.

    A complex parameter is pairs of numbers. The network is called with tensors that are cut out of one vector.
    """
    network = copy.deepcopy(model).double() if not _is_complex(model) else _in_128(model)
    network.eval().requires_grad_(False)
    for module in network.modules():
        if isinstance(module, nn.Embedding):
            module.sparse = False
    own = dict(network.named_parameters())
    parts = [torch.view_as_real(own[n]) if own[n].is_complex() else own[n] for n in names]
    sizes = [each.numel() for each in parts]
    point = torch.cat([each.detach().reshape(-1) for each in parts]).requires_grad_(True)
    tensors = {}
    for name, piece in zip(names, torch.split(point, sizes), strict=True):
        if own[name].is_complex():
            tensors[name] = torch.view_as_complex(piece.reshape(*own[name].shape, 2))
        else:
            tensors[name] = piece.reshape(own[name].shape)
    data = nests.in_precision(batch, torch.float64)
    with sdpa_kernel(SDPBackend.MATH):
        named = {f"network.{name}": tensor for name, tensor in tensors.items()}
        result = functional_call(_Called(network, loss), named, (data,))
        result = result if isinstance(result, dict) else {"loss": result}
        count = result["count"].sum() if "count" in result else len(result["loss"])
        mean = result["loss"].double().sum() / count
        (gradient,) = torch.autograd.grad(mean, point, create_graph=True)
        rows = []
        for each in gradient:
            (row,) = torch.autograd.grad(each, point, retain_graph=True, allow_unused=True)
            rows.append(torch.zeros_like(point) if row is None else row)
    return torch.stack(rows).detach()


def _is_complex(model):
    return any(each.is_complex() for each in model.parameters())


def _in_128(model):
    network = copy.deepcopy(model)
    for each in network.parameters():
        each.data = each.data.to(torch.complex128 if each.is_complex() else torch.float64)
    return network


def batches_of(data, size, dtype=torch.float32):
    """Batches of so many examples; the last repeats its last item."""
    data = nests.in_precision(data, dtype)
    number = len(next(iter(nests.tensors(data)))[1])
    found = []
    for start in range(0, number, size):
        part = nests.rows(data, start, min(start + size, number))
        valid = min(size, number - start)
        if valid < size:
            part = nests.map_tensors(
                lambda each, valid=valid: torch.cat([each, each[-1:].expand(size - valid, *each.shape[1:])]),
                part,
            )
        found.append(Batch(data=part, valid=valid))
    return found


def products_of(model, loss, *, parameters="trainable", **settings):
    """The products of a network over its trainable parameters."""
    return Products(model, loss, space_of(layout_of(model), parameters=parameters), device=CPU, **settings)


def whole(products, batches):
    """(n, n): the operator as a matrix."""
    return products.product(torch.eye(products.size, dtype=torch.float64), lambda: [batches])


def labels(number, classes, seed=1):
    return torch.randint(classes, (number,), generator=torch.Generator().manual_seed(seed))


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def cross_entropy(model, batch):
    return {"loss": F.cross_entropy(model(batch[0]), batch[1], reduction="none")}


def mean_square(model, batch):
    return (model(batch[0])[:, 0] - batch[1]) ** 2


class Residual(nn.Module):
    """Two blocks with batch normalization, the second with a shortcut."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(2, 3, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(3)
        self.second = nn.Conv2d(3, 3, 3, padding=1)
        self.norm2 = nn.BatchNorm2d(3)
        self.head = nn.Linear(3, 4)

    def forward(self, images):
        hidden = F.relu(self.norm1(self.first(images)))
        hidden = F.relu(self.norm2(self.second(hidden)) + hidden)
        return self.head(hidden.mean(dim=(2, 3)))


class Tied(nn.Module):
    """A weight used twice, tied as one object, and another tied as two parameters on one memory."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.second.weight = self.first.weight
        self.third = nn.Linear(4, 4, bias=False)
        self.fourth = nn.Linear(4, 4, bias=False)
        self.fourth.weight = nn.Parameter(self.third.weight.data)

    def forward(self, x):
        x = torch.tanh(self.second(torch.tanh(self.first(x))))
        return self.fourth(torch.tanh(self.third(x)))


class Words(nn.Module):
    def __init__(self, sparse=True):
        super().__init__()
        self.table = nn.Embedding(7, 3, sparse=sparse)
        self.head = nn.Linear(3, 4)

    def forward(self, words):
        return self.head(torch.tanh(self.table(words)).mean(1))


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell = nn.LSTM(3, 4, batch_first=True)
        self.head = nn.Linear(4, 4)

    def forward(self, x):
        return self.head(self.cell(x)[0][:, -1])


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.inside = nn.Linear(3, 4)
        self.layer = nn.TransformerEncoderLayer(4, 2, 5, dropout=0.1, batch_first=True)
        self.head = nn.Linear(4, 4)

    def forward(self, x):
        return self.head(self.layer(self.inside(x)).mean(1))


class Waves(nn.Module):
    """Complex weights on the way to real outputs."""

    def __init__(self):
        super().__init__()
        self.turn = nn.Parameter(
            torch.complex(normal(3, 4, seed=3), normal(3, 4, seed=4)).to(torch.complex64)
        )
        self.head = nn.Linear(4, 4)

    def forward(self, x):
        return self.head(torch.tanh((x.to(self.turn.dtype) @ self.turn).abs() ** 2))


class Loose(nn.Module):
    """A parameter without influence, one that outputs are linear in, a frozen one."""

    def __init__(self):
        super().__init__()
        self.idle = nn.Parameter(torch.ones(3))
        self.frozen = nn.Linear(3, 4)
        self.frozen.requires_grad_(False)
        self.head = nn.Linear(4, 4)
        self.shift = nn.Parameter(torch.ones(4))

    def forward(self, x):
        return self.head(torch.tanh(self.frozen(x))) + self.shift


def mlp():
    return nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 5), nn.Tanh(), nn.Linear(5, 4))


def penalized(model, batch):
    """A loss that takes derivatives itself: of the outputs by the inputs."""
    x = batch[0].detach().requires_grad_(True)
    outputs = model(x)
    (slope,) = torch.autograd.grad(outputs.square().sum(), x, create_graph=True)
    return F.cross_entropy(outputs, batch[1], reduction="none") + slope.square().sum(1)


def counted(model, batch):
    """Examples that count by different amounts."""
    counts = 1.0 + batch[1].double()
    return {"loss": counts * F.cross_entropy(model(batch[0]), batch[1], reduction="none"), "count": counts}


def made(kind, number=11):
    """A network in evaluation mode, its loss and its data, all drawn from fixed seeds."""
    torch.manual_seed(5)
    if kind == "mlp":
        return mlp(), cross_entropy, [normal(number, 3), labels(number, 4)]
    if kind == "residual":
        model = Residual()
        with torch.no_grad():
            for norm in (model.norm1, model.norm2):
                norm.running_mean.normal_(std=0.3)
                norm.running_var.uniform_(0.5, 2)
                norm.weight.uniform_(0.5, 2)
                norm.bias.normal_()
        return model, cross_entropy, [normal(number, 2, 5, 5), labels(number, 4)]
    if kind == "tied":
        return Tied(), cross_entropy, [normal(number, 4), labels(number, 4)]
    if kind == "words":
        words = torch.randint(7, (number, 5), generator=torch.Generator().manual_seed(8))
        return Words(), cross_entropy, [words, labels(number, 4)]
    if kind == "recurrent":
        return Recurrent(), cross_entropy, [normal(number, 3, 3), labels(number, 4)]
    if kind == "attention":
        return Attention(), cross_entropy, [normal(number, 3, 3), labels(number, 4)]
    if kind == "complex":
        return Waves(), cross_entropy, [normal(number, 3) / math.sqrt(3), labels(number, 4)]
    if kind == "loose":
        return Loose(), cross_entropy, [normal(number, 3), labels(number, 4)]
    if kind == "derivatives":
        model = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 4))
        return model, penalized, [normal(number, 3), labels(number, 4)]
    assert kind == "counted"
    return mlp(), counted, [normal(number, 3), labels(number, 4)]


KINDS = (
    *(
        "mlp",
        "residual",
        "tied",
        "words",
        "recurrent",
        "attention",
        "complex",
        "loose",
        "derivatives",
        "counted",
    ),
)
