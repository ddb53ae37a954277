"""Trainings that are made up: checkpoints of a quadratic bowl, or of a small residual network, on a known way."""

from pathlib import Path

import numpy as np
import torch

from mpi_landscape.configuration.reading import load_text
from mpi_landscape.problem.networks.table import build_network
from mpi_landscape.storage.history.records import HistoryWriter, create_history

NUM = 7
RESNET = """
model: {{name: resnet8, arguments: {{width: 4, input_size: [1, 8, 8]}}}}
data: digits
compute: {{device: cpu, batch_size: 256}}
trajectory: {{checkpoints: {folder}/run, axes: {axes}}}
"""


def bowls(folder: Path, *, num: int = NUM, history: bool = True) -> list[dict[str, torch.Tensor]]:
    """Checkpoints of the bowl of the studies, of epochs 0, 1, ..., the learning rate of which drops after epochs 2 and 4."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(5)
    state = {"weight": torch.zeros(3, 4), "bias": torch.zeros(5)}
    states = []
    for epoch in range(num):
        state = {
            name: value + torch.randn(value.shape, generator=generator) / (1 + epoch)
            for name, value in state.items()
        }
        states.append(state)
        torch.save({"state_dict": state, "epoch": epoch}, folder / f"epoch_{epoch:04d}.pt")
    if history:
        _history(folder, num)
    return states


def _history(folder: Path, num: int) -> None:
    create_history(
        folder / "history.h5", num_epochs=num - 1, splits=["train"], attributes={"title": "made up"}
    )
    with HistoryWriter(folder / "history.h5") as writer:
        for epoch in range(num):
            rate = 0.0 if epoch == 0 else 0.1 if epoch <= 2 else 0.01 if epoch <= 4 else 0.001
            writer.record(epoch, {"learning_rate": rate}, phase=0)


def bowl_loss(state: dict[str, np.ndarray], offset: float) -> float:
    """The mean loss of the bowl over the numbers of a split, in closed form."""
    count = 10 if offset == 0 else 7
    steepness = np.arange(1, 13).reshape(3, 4) / 4
    height = (steepness * (state["weight"] - 0.5) ** 2).sum() / 2 + (state["bias"] ** 2).sum() / 2
    return float(height + np.mean(np.arange(count) / 64) + offset)


def residual(folder: Path, axes: str, *, num: int = NUM) -> tuple[Path, torch.nn.Module, list[dict]]:
    """A configuration, its network, and checkpoints with statistics of their own on a smooth way with noise."""
    (folder / "run").mkdir()
    configuration = folder / f"{axes}.yaml"
    configuration.write_text(RESNET.format(folder=folder, axes=axes))
    torch.manual_seed(7)
    model = build_network(load_text(configuration.read_text(), where="here").model, where="here", folders=[])
    start = {name: value.clone() for name, value in model.state_dict().items()}
    steps = {name: torch.randn(value.shape) for name, value in start.items()}
    states = []
    for epoch in range(num):
        share = epoch / (num - 1)
        states.append(
            {
                name: value
                if not value.is_floating_point()
                else (value + 0.2 * share * steps[name].abs())
                if name.endswith("running_var")
                else value + 0.1 * share * steps[name] + 0.02 * share * (1 - share) * torch.randn(value.shape)
                for name, value in start.items()
            }
        )
        torch.save(states[-1], folder / "run" / f"step-{10 * epoch}.pt")
    return configuration, model.eval(), states
