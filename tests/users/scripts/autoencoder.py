"""An autoencoder: no targets, and a penalty on the weights that belongs to no example."""

import torch
from torch import nn

import mpi_landscape

torch.manual_seed(0)
x = torch.rand(50, 12)
model = nn.Sequential(nn.Linear(12, 4), nn.Sigmoid(), nn.Linear(4, 12))


def loss(model, x):
    penalty = sum(p.pow(2).sum() for p in model.parameters())
    return nn.functional.mse_loss(model(x), x) + 1e-3 * penalty


surface = mpi_landscape.landscape(model, loss, x, alpha=(-1, 1, 3), beta=(-1, 1, 3), output="surface.h5")


def plain(model):
    return loss(model, x)
