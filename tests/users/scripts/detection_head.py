"""A detection head: classes of all anchors, and boxes of those that hold something."""

import torch
from torch import nn

import mpi_landscape

torch.manual_seed(0)
features, classes, boxes = torch.randn(30, 8, 6), torch.randint(0, 3, (30, 6)), torch.randn(30, 6, 4)


class Head(nn.Module):
    def __init__(self):
        super().__init__()
        self.classes, self.boxes = nn.Conv1d(8, 3, 1), nn.Conv1d(8, 4, 1)

    def forward(self, features):
        return self.classes(features), self.boxes(features).transpose(1, 2)


def loss(model, batch):
    features, classes, boxes = batch
    logits, predicted = model(features)
    held = (classes > 0).float()
    classification = nn.functional.cross_entropy(logits, classes, reduction="none").mean(1)
    regression = nn.functional.smooth_l1_loss(predicted, boxes, reduction="none").mean(2)
    return classification + (regression * held).sum(1) / held.sum(1).clamp(min=1)


model = Head()
data = {"train": (features, classes, boxes)}
surface = mpi_landscape.landscape(model, loss, data, alpha=(-1, 1, 3), beta=(-1, 1, 3), output="surface.h5")


def plain(model):
    return loss(model, (features, classes, boxes)).mean()
