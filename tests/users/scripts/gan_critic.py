"""The critic of a Wasserstein GAN with its gradient penalty, against a fixed generator's samples."""

import torch
from torch import nn

import mpi_landscape

torch.manual_seed(0)
real, fake, share = torch.randn(40, 5), torch.randn(40, 5) + 1, torch.rand(40, 1)
critic = nn.Sequential(nn.Linear(5, 16), nn.LeakyReLU(0.2), nn.Linear(16, 1))


def critic_loss(model, batch):
    real, fake, share = batch
    between = (share * real + (1 - share) * fake).requires_grad_(True)
    slope = torch.autograd.grad(model(between).sum(), between, create_graph=True)[0]
    return model(fake).mean() - model(real).mean() + 10 * ((slope.norm(dim=1) - 1) ** 2).mean()


surface = mpi_landscape.landscape(
    critic, critic_loss, (real, fake, share), alpha=(-1, 1, 3), beta=(-1, 1, 3), output="surface.h5"
)
model = critic


def plain(model):
    with torch.enable_grad():
        return critic_loss(model, (real, fake, share))
