"""A base in int8 that stays as it is, and a head that was trained on it."""

import torch
from torch import nn

import mpi_landscape

torch.manual_seed(0)
x, y = torch.randn(40, 8), torch.randint(0, 3, (40,))


class QuantizedLinear(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        weight = torch.randn(outputs, inputs)
        self.register_buffer("scale", weight.abs().amax(1, keepdim=True) / 127)
        self.register_buffer("weight", (weight / self.scale).round().to(torch.int8))

    def forward(self, x):
        return x @ (self.weight.to(x.dtype) * self.scale).T


model = nn.Sequential(QuantizedLinear(8, 16), nn.ReLU(), nn.Linear(16, 3))
surface = mpi_landscape.landscape(
    model, nn.CrossEntropyLoss(), (x, y), alpha=(-1, 1, 3), beta=(-1, 1, 3), output="surface.h5"
)


def plain(model):
    return nn.functional.cross_entropy(model(x), y)
