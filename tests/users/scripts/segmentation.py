"""A segmentation with weights of classes."""

import torch
from torch import nn

import mpi_landscape

torch.manual_seed(0)
images, masks = torch.randn(24, 1, 10, 10), torch.randint(0, 3, (24, 10, 10))
model = nn.Sequential(nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 3, 1))
criterion = nn.CrossEntropyLoss(weight=torch.tensor([0.2, 1.0, 3.0]))

surface = mpi_landscape.landscape(
    model, criterion, (images, masks), alpha=(-1, 1, 3), beta=(-1, 1, 3), output="surface.h5"
)


def plain(model):
    return criterion(model(images), masks)
