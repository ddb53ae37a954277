"""A diffusion model's denoiser: noise and times that were drawn once and kept, so that every point sees the same."""

import torch
from torch import nn

import mpi_landscape

torch.manual_seed(0)
images, noise, times = torch.randn(32, 1, 8, 8), torch.randn(32, 1, 8, 8), torch.randint(0, 100, (32,))


class Denoiser(nn.Module):
    def __init__(self):
        super().__init__()
        self.time = nn.Embedding(100, 8)
        self.first, self.norm, self.last = (
            nn.Conv2d(1, 8, 3, padding=1),
            nn.GroupNorm(2, 8),
            nn.Conv2d(8, 1, 3, padding=1),
        )

    def forward(self, images, times):
        return self.last(
            nn.functional.silu(self.norm(self.first(images) + self.time(times)[..., None, None]))
        )


def loss(model, batch):
    keep = torch.cos(batch["times"] / 100)[:, None, None, None]
    noisy = keep * batch["images"] + (1 - keep**2).sqrt() * batch["noise"]
    return nn.functional.mse_loss(model(noisy, batch["times"]), batch["noise"])


model = Denoiser()
data = {"images": images, "noise": noise, "times": times}
surface = mpi_landscape.landscape(model, loss, data, alpha=(-1, 1, 3), beta=(-1, 1, 3), output="surface.h5")


def plain(model):
    return loss(model, data)
