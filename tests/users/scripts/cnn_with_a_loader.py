"""A convolutional network and the DataLoader that it was trained with."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import mpi_landscape

torch.manual_seed(0)
images, labels = torch.randn(70, 3, 12, 12), torch.randint(0, 5, (70,))
model = nn.Sequential(
    nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 5)
)
train_loader = DataLoader(TensorDataset(images, labels), batch_size=16, shuffle=True, drop_last=True)
criterion = nn.CrossEntropyLoss(label_smoothing=0.1)

surface = mpi_landscape.landscape(
    model, criterion, train_loader, alpha=(-1, 1, 3), beta=(-1, 1, 3), output="surface.h5"
)


def plain(model):
    return nn.CrossEntropyLoss(label_smoothing=0.1)(model(images), labels)
