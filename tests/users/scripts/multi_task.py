"""Two tasks with a weight each, batches in a dict."""

import torch
from torch import nn

import mpi_landscape

torch.manual_seed(0)
data = {"x": torch.randn(48, 6), "kind": torch.randint(0, 3, (48,)), "size": torch.randn(48)}


class TwoHeads(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.kind, self.size = nn.Linear(6, 16), nn.Linear(16, 3), nn.Linear(16, 1)

    def forward(self, x):
        hidden = torch.relu(self.body(x))
        return {"kind": self.kind(hidden), "size": self.size(hidden)[:, 0]}


def loss(model, batch):
    outputs = model(batch["x"])
    kind = nn.functional.cross_entropy(outputs["kind"], batch["kind"])
    return kind + 0.5 * nn.functional.mse_loss(outputs["size"], batch["size"])


model = TwoHeads()
surface = mpi_landscape.landscape(model, loss, data, alpha=(-1, 1, 3), beta=(-1, 1, 3), output="surface.h5")


def plain(model):
    return loss(model, data)
