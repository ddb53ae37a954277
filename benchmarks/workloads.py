"""What is measured: networks with their data, written once to a folder that all sides read.

A folder holds the center (a state dictionary), two filter-normalised random directions (flat float32), the images
(uint8) with their labels, and a configuration of `mpi_landscape.surface`. All sides take the same numbers from it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import torch

MEAN, STD = (0.4914, 0.4824, 0.4467), (0.2471, 0.2435, 0.2616)
# Of the reference protocol; the neighbours' losses, which their users write, take the same.
BATCH = 128


@dataclass(frozen=True, kw_only=True)
class Workload:
    """One row of the table.

    Attributes:
        network: Name in `mpi_landscape/problem/networks/table.py`.
        images: Examples at each point, by default.
        finer: How many steps of our grid make one of the others' (odd, so that two ranks share the points evenly).
        float32: Ratio of the reference protocol to ours that is wanted, and the least; None for no wish.
        bfloat16: Likewise.
    """

    network: str
    images: int
    finer: int = 1
    float32: tuple[float, float] | None = None
    bfloat16: tuple[float, float] | None = None


# The least time of a measurement is what makes a fast network's grid finer. Where one product serves all points of a
# tile, a picture's usual number of points is part of the matter.
WORKLOADS = {
    each.network: each
    for each in (
        Workload(network="resnet20", images=1024, finer=3),
        Workload(network="resnet56", images=1024, finer=3, float32=(3.0, 2.5), bfloat16=(6.0, 5.0)),
        Workload(network="vgg9", images=1024, float32=(2.0, 1.5)),
        Workload(network="densenet121", images=512, float32=(2.0, 1.5)),
        Workload(network="wrn56_2", images=512, float32=(2.0, 1.5)),
        Workload(network="linear", images=50_000, finer=25, float32=(150.0, 60.0)),
        Workload(network="mlp", images=50_000, finer=25, float32=(150.0, 60.0)),
    )
}


def crooked_points(steps: int) -> list[tuple[float, float]]:
    """The points that `loss_landscapes.planar_interpolation` visits, in its own order, in lengths of the directions.

    It moves to the first point of an even row before it evaluates, so even rows hold beta = 1/steps ... 1 and odd ones
    0 ... (steps-1)/steps. The reference protocol takes the same points, and our grid holds them all.

    Args:
        steps: Along each direction.

    Returns:
        (alpha, beta) of steps * steps points.
    """
    return [
        (row / steps, (column + (row % 2 == 0)) / steps) for row in range(steps) for column in range(steps)
    ]


def grid_around(steps: int, finer: int) -> tuple[list[float], list[float]]:
    """Our axes, as [min, max, num], which hold all of `crooked_points(steps)`.

    Args:
        steps: Of the others.
        finer: Our steps in one of theirs.
    """
    return [0.0, (steps - 1) / steps, (steps - 1) * finer + 1], [0.0, 1.0, steps * finer + 1]


def write_workload(folder: Path, name: str, images: int, *, size: int = 32) -> dict[str, Any]:
    """Write everything that the sides read.

    Args:
        folder: Where.
        name: One of WORKLOADS, or another network by its name in a configuration.
        images: Examples at each point.
        size: Height and width of the images, in pixels.

    Returns:
        What is known of it: parameters, and FLOPs of one example as `torch.utils.flop_counter` counts them.
    """
    import numpy as np
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from mpi_landscape.geometry.directions import ignore, random_direction
    from mpi_landscape.geometry.layout import layout_of
    from mpi_landscape.geometry.normalization import normalize

    generator = np.random.default_rng(0)
    np.save(folder / "images.npy", generator.integers(0, 256, (images, 3, size, size), dtype=np.uint8))
    np.save(folder / "labels.npy", generator.integers(0, 10, images))
    torch.manual_seed(0)
    model = _network(name)
    batches = list(resident_batches(folder, BATCH, most=512))
    _settle(model, [inputs for inputs, _ in batches])
    torch.save(model.state_dict(), folder / "center.pt")
    layout = layout_of(model)
    center = layout.flatten(dict(model.named_parameters()), where=name)
    for seed, axis in enumerate(("alpha", "beta"), start=1):
        direction = ignore(random_direction(layout, seed=seed), layout, ("bias", "norm"))
        np.save(folder / f"{axis}.npy", normalize(direction, center, layout, how="filter").numpy())
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(batches[0][0][:1])
    _write_configuration(folder, name)
    return {"parameters": layout.size, "flops": counter.get_total_flops(), "offered": _offered(folder)}


def _settle(model: torch.nn.Module, inputs: list[torch.Tensor]) -> None:
    """Give the normalisations the statistics of the data, without which a deep untrained network overflows."""
    import torch

    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # of all batches alike
    model.train()
    with torch.no_grad():
        for batch in inputs:
            model(batch)
    for norm in norms:
        norm.momentum = 0.1
    model.eval()


def _write_configuration(folder: Path, name: str) -> None:
    """A configuration of `mpi_landscape.surface`; JSON is YAML."""
    axes = {axis: {"kind": "file", "path": str(folder / f"{axis}.npy")} for axis in ("alpha", "beta")}
    content = {
        "model": {"name": name, "checkpoint": str(folder / "center.pt")},
        "data": {"target": "workloads:splits", "arguments": {"folder": str(folder)}},
        "directions": axes,
        "loss": "cross_entropy",
        "compute": {"device": "cpu", "threads": 1},
    }
    (folder / "surface.yaml").write_text(json.dumps(content, indent=1))


def _offered(folder: Path) -> dict[str, bool]:
    """Which fields this version of the program knows, of those that came later than this benchmark's first form."""
    from mpi_landscape.configuration.reading import load
    from mpi_landscape.errors import LandscapeError

    found = {}
    for field in ("compute.engine=plain", "compute.precision=bfloat16"):
        try:
            load(str(folder / "surface.yaml"), [field])
            found[field] = True
        except LandscapeError:
            found[field] = False
    return found


def _network(name: str) -> torch.nn.Module:
    from mpi_landscape.configuration.sections.sources import ModelConfiguration
    from mpi_landscape.problem.networks.table import build_network

    return build_network(ModelConfiguration(name=name), where="benchmark", folders=[])


def load_network(folder: Path, name: str) -> torch.nn.Module:
    """The network at the center, in evaluation mode."""
    import torch

    model = _network(name)
    model.load_state_dict(torch.load(folder / "center.pt", weights_only=True))
    return model.eval()


def load_direction(folder: Path, axis: str, model: torch.nn.Module) -> list[torch.Tensor]:
    """A direction as a list of tensors, one per parameter of the network."""
    import numpy as np
    import torch

    flat = torch.from_numpy(np.load(folder / f"{axis}.npy"))
    shapes = [parameter.shape for parameter in model.parameters()]
    pieces = flat.split([shape.numel() for shape in shapes])
    return [piece.view(shape).clone() for piece, shape in zip(pieces, shapes, strict=True)]


def load_images(folder: Path) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Images (N, 3, size, size) uint8, and labels (N,) int64."""
    import numpy as np

    return np.load(folder / "images.npy"), np.load(folder / "labels.npy")


def resident_batches(
    folder: Path, size: int, *, most: int | None = None
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Normalised float32 batches in memory, in the order of the data.

    Args:
        folder: Of the workload.
        size: Examples in a batch.
        most: Examples in all; every one unless given.
    """
    import torch

    images, labels = load_images(folder)
    mean, std = torch.tensor(MEAN)[:, None, None], torch.tensor(STD)[:, None, None]
    for start in range(0, min(most or len(labels), len(labels)), size):
        piece = torch.from_numpy(images[start : start + size])
        yield (piece.float().div(255).sub(mean).div(std), torch.from_numpy(labels[start : start + size]))


def splits(folder: str) -> dict[str, Any]:
    """The target of the configuration: the images in the program's own form, bytes until they are used."""
    import torch

    from mpi_landscape.problem.datasets.images import ImageDataset

    images, labels = load_images(Path(folder))
    return {
        "train": ImageDataset(
            torch.from_numpy(images), torch.from_numpy(labels), scale=255.0, mean=MEAN, std=STD
        )
    }
