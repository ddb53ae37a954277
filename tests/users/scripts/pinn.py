"""A physics-informed network: u'' = -sin, with gradients inside the loss and a scalar of the batch."""

import torch
from torch import nn

import mpi_landscape

torch.manual_seed(0)
points = torch.linspace(0, 3.1, 64)[:, None]
model = nn.Sequential(nn.Linear(1, 16), nn.Tanh(), nn.Linear(16, 1))


def loss(model, x):
    x = x.clone().requires_grad_(True)
    u = model(x)
    du = torch.autograd.grad(u.sum(), x, create_graph=True)[0]
    d2u = torch.autograd.grad(du.sum(), x, create_graph=True)[0]
    return ((d2u + torch.sin(x)) ** 2).mean()


surface = mpi_landscape.landscape(model, loss, points, alpha=(-1, 1, 3), beta=(-1, 1, 3), output="surface.h5")


def plain(model):
    with torch.enable_grad():
        return loss(model, points)
