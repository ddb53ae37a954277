"""Where curvature is measured: networks that the project trains on scikit-learn's digits, at their minimum and away from it."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mpi_landscape.configuration import reading
from mpi_landscape.loading.batches import Batch
from mpi_landscape.problem.build import build

HOUSE = Path(__file__).parents[1]
# Models as a configuration has them.
NETWORKS: dict[str, dict[str, Any]] = {
    "resnet14": {"name": "resnet14", "arguments": {"width": 8, "input_size": [1, 8, 8]}},
    "resnet20": {"name": "resnet20", "arguments": {"width": 8, "input_size": [1, 8, 8]}},
    "mlp": {"name": "mlp", "arguments": {"hidden": [64, 64], "input_size": [1, 8, 8]}},
    "mlp_small": {"name": "mlp", "arguments": {"hidden": [20], "input_size": [1, 8, 8]}},
}


@dataclass(frozen=True, kw_only=True)
class Place:
    """A network somewhere, with the data on which its loss is the mean.

    Attributes:
        network: A name of NETWORKS.
        where: Coordinates on two filter-normalized random directions; (0, 0) is the minimum.
        model: There, in evaluation mode.
        inputs: (N, ...) all examples.
        targets: (N,) their labels.
        batch_size: Into how large batches all sides cut them.
    """

    network: str
    where: tuple[float, float]
    model: nn.Module
    inputs: torch.Tensor
    targets: torch.Tensor
    batch_size: int

    @property
    def pairs(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Batches as other packages take them."""
        return list(zip(self.inputs.split(self.batch_size), self.targets.split(self.batch_size), strict=True))

    @property
    def batches(self) -> list[Batch]:
        """The same for this program."""
        return [Batch(data=pair, valid=len(pair[1])) for pair in self.pairs]

    def fresh(self) -> nn.Module:
        """A copy of the network, which a side may do with what it likes."""
        return copy.deepcopy(self.model)


def configuration_of(network: str, folder: Path) -> Path:
    """A configuration of a network's training and surface, written to the folder."""
    path = folder / f"{network}.yaml"
    path.write_text(
        as_yaml(
            {
                "model": {**NETWORKS[network], "checkpoint": str(folder / network / "final.pt")},
                "data": {"name": "digits"},
                "loss": "cross_entropy",
                "compute": {"threads": 1},
                "directions": {
                    axis: {"kind": "random", "seed": seed, "normalize": "filter", "ignore": ["bias", "norm"]}
                    for axis, seed in (("alpha", 1), ("beta", 2))
                },
                "training": {
                    "epochs": 30,
                    "batch_size": 64,
                    "learning_rate": 0.1,
                    "momentum": 0.9,
                    "nesterov": True,
                    "weight_decay": 5e-4,
                    "schedule": {"milestones": [15, 25], "factor": 0.1},
                    "seed": 0,
                    "output": str(folder / network),
                },
            }
        )
    )
    return path


def as_yaml(mapping: dict[str, Any]) -> str:
    """YAML, of which JSON is a part."""
    return json.dumps(mapping, indent=1)


def trained(network: str, folder: Path) -> Path:
    """The configuration of a network that has been trained, once."""
    path = configuration_of(network, folder)
    if not (folder / network / "final.pt").exists():
        run(["-m", "mpi_landscape.train", str(path)])
    return path


def run(words: list[str], ranks: int = 1) -> str:
    """Run this interpreter, on some ranks with one thread each; what it said on its outputs."""
    command = [sys.executable, *words]
    if ranks > 1:
        own = Path(sys.executable).parent / "mpiexec"
        command = [str(own) if own.exists() else "mpiexec", "-n", str(ranks), *command]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(HOUSE)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)}: {(done.stderr or done.stdout).strip().splitlines()[-1]}")
    return done.stdout + done.stderr


def place(network: str, folder: Path, where: tuple[float, float], examples: int, batch_size: int) -> Place:
    """A trained network somewhere, with the first so many training examples; 0 for all."""
    path = trained(network, folder)
    problem = build(reading.load(str(path), []), where=str(path), folders=[])
    checkpoint = torch.load(folder / network / "final.pt", weights_only=True)
    state = checkpoint["state_dict"]
    problem.model.load_state_dict(state)
    data = problem.splits["train"]
    number = min(examples or len(data), len(data))  # type: ignore[arg-type]
    items = [data[index] for index in range(number)]
    inputs = torch.stack([torch.as_tensor(item[0]) for item in items])
    targets = torch.stack([torch.as_tensor(item[1]) for item in items]).long()
    model = problem.model.eval().float()
    with torch.no_grad():
        for seed, far in enumerate(where, 1):
            generator = torch.Generator().manual_seed(seed)
            # From a copy: the second direction has the filters' norms at the center.
            for parameter, center in zip(
                model.parameters(), _center(problem.model, state).values(), strict=True
            ):
                if parameter.ndim > 1:
                    drawn = torch.randn(center.shape, generator=generator).flatten(1)
                    norms = center.flatten(1).norm(dim=1, keepdim=True)
                    drawn *= norms / drawn.norm(dim=1, keepdim=True)
                    parameter.add_(far * drawn.reshape(center.shape))
    return Place(
        network=network, where=where, model=model, inputs=inputs, targets=targets, batch_size=batch_size
    )


def _center(model: nn.Module, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: state[name] for name, _ in model.named_parameters()}
