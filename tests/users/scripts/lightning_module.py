"""A LightningModule and its LightningDataModule."""

import lightning
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import mpi_landscape

torch.manual_seed(0)
x, y = torch.randn(90, 6), torch.randn(90, 2)


class Data(lightning.LightningDataModule):
    def setup(self, stage):
        self.train, self.val = TensorDataset(x[:60], y[:60]), TensorDataset(x[60:], y[60:])

    def train_dataloader(self):
        return DataLoader(self.train, batch_size=20, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.val, batch_size=30)


class Net(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(6, 16), nn.GELU(), nn.LayerNorm(16), nn.Linear(16, 2))

    def training_step(self, batch, batch_idx):
        inputs, targets = batch
        predictions = self.layers(inputs)
        mse, mae = nn.functional.mse_loss(predictions, targets), nn.functional.l1_loss(predictions, targets)
        self.log("train/mse", mse, prog_bar=True)
        return {"loss": mse + 0.1 * mae, "predictions": predictions}


model, data = Net(), Data()
surface = mpi_landscape.landscape(
    model, "training_step", data, alpha=(-1, 1, 3), beta=(-1, 1, 3), output="surface.h5"
)


def plain(model):
    predictions = model.layers(x[:60])
    return nn.functional.mse_loss(predictions, y[:60]) + 0.1 * nn.functional.l1_loss(predictions, y[:60])
