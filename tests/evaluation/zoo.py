"""Small networks of every kind that an engine must get right or leave alone, and data that fits them."""

import torch
import torch.nn.functional as F
from torch import nn

from mpi_landscape.problem.networks.convolutional import vgg9
from mpi_landscape.problem.networks.densenet import densenet
from mpi_landscape.problem.networks.perceptron import mlp
from mpi_landscape.problem.networks.resnet import resnet

CLASSES = 5


class Viewing(nn.Module):
    """Its `.view` needs the rows of an image one after the other, as channels-last order does not have them."""

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(3, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.head = nn.Linear(6 * 16, CLASSES)

    def forward(self, images):
        hidden = F.relu(self.norm(self.convolution(images)))
        return self.head(hidden.view(len(images), 6 * 16, 4).mean(dim=2))


class Branching(nn.Module):
    """Goes one way or the other by the values of its weights, which tracing cannot follow."""

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(3, 6, 3, bias=False)
        self.norm = nn.BatchNorm2d(6)
        self.head = nn.Linear(6, CLASSES)

    def forward(self, images):
        hidden = self.norm(self.convolution(images))
        if self.head.weight.sum() > 0:
            hidden = hidden * 2
        return self.head(F.relu(hidden).mean(dim=(2, 3)))


class Tied(nn.Module):
    """One convolution's weight in two places, one of them before a normalisation; one normalisation used twice."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 3, 3, padding=1, bias=False)
        self.second = nn.Conv2d(3, 3, 3, padding=1, bias=False)
        self.second.weight = self.first.weight
        self.norm = nn.BatchNorm2d(3)
        self.third = nn.Conv2d(3, 4, 3)
        self.twice = nn.BatchNorm2d(4)
        self.head = nn.Linear(4, CLASSES)

    def forward(self, images):
        hidden = F.relu(self.norm(self.first(images)) + self.second(images))
        hidden = self.twice(self.twice(self.third(hidden)))
        return self.head(hidden.mean(dim=(2, 3)))


class Spread(nn.Module):
    """The convolution's output goes into the normalisation and past it."""

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(3, 6, 3)
        self.norm = nn.BatchNorm2d(6)
        self.head = nn.Linear(6, CLASSES)

    def forward(self, images):
        before = self.convolution(images)
        return self.head((F.relu(self.norm(before)) + before).mean(dim=(2, 3)))


class Aliasing(nn.Module):
    """A view of a convolution's output is used after the output has been summed onto something."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.second = nn.Conv2d(4, 4, 3, padding=1)
        self.head = nn.Linear(4, CLASSES)

    def forward(self, images):
        start = self.first(images)
        part = start[:, :, ::2, ::2]
        total = F.relu(self.second(start) + start)
        return self.head(total.mean(dim=(2, 3)) + part.mean(dim=(2, 3)))


def _with_statistics(network):
    """Trained-looking running statistics, scales and biases: the initial ones would hide mistakes."""
    generator = torch.Generator().manual_seed(3)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.running_mean.normal_(std=0.2, generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
            if module.affine:
                module.weight.data.uniform_(0.5, 1.5, generator=generator)
                module.bias.data.normal_(std=0.2, generator=generator)
    return network.eval()


def _perceptron(norms):
    layers = [nn.Flatten(), nn.Linear(192, 24)]
    layers += [nn.BatchNorm1d(24, affine=norms == "affine")] if norms else []
    return nn.Sequential(*layers, nn.ReLU(inplace=True), nn.Linear(24, 16), nn.Tanh(), nn.Linear(16, CLASSES))


def _mobile():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU6(inplace=True),
        nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False),
        nn.BatchNorm2d(8, affine=False),
        nn.Hardswish(),
        nn.Conv2d(8, 12, 1),
        nn.SiLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(12, CLASSES),
    )


SIZE = {"input_size": (3, 8, 8), "num_classes": CLASSES}
NETWORKS = {
    "residual": lambda: resnet(depth=8, width=4, **SIZE),
    "residual with padding": lambda: resnet(depth=8, width=4, shortcut="padding", **SIZE),
    "without shortcuts": lambda: resnet(depth=8, width=4, shortcut="none", **SIZE),
    "vgg": lambda: vgg9(width=4, input_size=(3, 32, 32), num_classes=CLASSES),
    "dense": lambda: densenet(depth=121, growth=2, **SIZE),
    "perceptron": lambda: mlp(hidden=(16, 12), **SIZE),
    "linear": lambda: mlp(hidden=(), **SIZE),
    "normalised perceptron": lambda: _perceptron("affine"),
    "perceptron, plain norms": lambda: _perceptron("plain"),
    "unnormalised perceptron": lambda: _perceptron(None),
    "mobile": _mobile,
    "viewing": Viewing,
    "branching": Branching,
    "tied": Tied,
    "spread": Spread,
    "aliasing": Aliasing,
}


def network_of(name):
    torch.manual_seed(5)
    return _with_statistics(NETWORKS[name]())


def examples_of(name, count=21):
    generator = torch.Generator().manual_seed(2)
    size = 32 if name == "vgg" else 8
    return [(torch.randn(3, size, size, generator=generator), index % CLASSES) for index in range(count)]
