"""A contrastive loss: every example's depends on the others of its batch, so there is no mean over examples."""

import torch
from torch import nn

import mpi_landscape

torch.manual_seed(0)
first, second = torch.randn(40, 6), torch.randn(40, 6)
model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 4))


def loss(model, batch):
    first, second = (nn.functional.normalize(model(each), dim=1) for each in batch)
    return nn.functional.cross_entropy(first @ second.T / 0.1, torch.arange(len(first), device=first.device))


refused = "must not depend on the other examples of its batch"
surface = mpi_landscape.landscape(
    model, loss, (first, second), alpha=(-1, 1, 3), beta=(-1, 1, 3), output="surface.h5"
)
