"""The usual protocol of loss landscapes, written plainly: a loader per point, tensor by tensor, in lock step.

As in the code of Li et al. (2018), arXiv:1712.09913: the ranks share out the points; at each one, the weights are set
tensor by tensor, a loader with two workers reads and transforms all of the data anew, losses are taken by batches with
`.item()`, and every point ends in reductions over all ranks. Started by engine.py under mpiexec.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import torchvision
from torch.utils.data import DataLoader
from torchvision import transforms
from workloads import (
    BATCH,
    MEAN,
    STD,
    crooked_points,
    load_direction,
    load_images,
    load_network,
    load_sentences,
    padded,
    resident_batches,
)


def main() -> None:
    """Evaluate the points and write seconds and losses."""
    from mpi4py import MPI

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("network")
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--result", type=Path, required=True)
    options = parser.parse_args()
    comm = MPI.COMM_WORLD
    model = load_network(options.folder, options.network)
    center = [parameter.data.clone() for parameter in model.parameters()]
    directions = [load_direction(options.folder, axis, model) for axis in ("alpha", "beta")]
    loader = loader_of(options.folder)
    points = crooked_points(options.steps)
    with torch.no_grad():
        model(next(resident_batches(options.folder, BATCH))[0])  # the first pass of a process is a slow one
    losses = torch.zeros(len(points), dtype=torch.float64)
    correct = torch.zeros(len(points), dtype=torch.float64)
    network = loading = 0.0
    comm.Barrier()
    start = time.perf_counter()
    for first in range(0, len(points), comm.size):
        mine = first + comm.rank
        if mine < len(points):
            set_weights(model, center, directions, points[mine])
            losses[mine], correct[mine], spent = evaluate(model, loader)
            network, loading = network + spent["network"], loading + spent["loading"]
        # Every rank takes part, whether it has a point or not.
        comm.allreduce(float(losses[mine]) if mine < len(points) else 0.0, op=MPI.MAX)
        comm.allreduce(float(correct[mine]) if mine < len(points) else 0.0, op=MPI.MAX)
    comm.Barrier()
    seconds = time.perf_counter() - start
    gathered = comm.reduce(losses.numpy(), op=MPI.SUM)
    shares = [sum(comm.allgather(part)) / (comm.size * seconds) for part in (network, loading)]
    if comm.rank == 0:
        found: dict[str, Any] = {"seconds": seconds, "points": len(points)}
        found |= {"network": shares[0], "loading": shares[1]}
        found["losses"] = [
            [alpha, beta, loss] for (alpha, beta), loss in zip(points, gathered.tolist(), strict=True)
        ]
        options.result.write_text(json.dumps(found))


def loader_of(folder: Path) -> DataLoader[Any]:
    """The data set of torchvision, filled without the files that it would check, and the usual loader; or that of sentences."""
    sentences = load_sentences(folder)
    if sentences:
        return DataLoader(sentences, batch_size=BATCH, shuffle=False, num_workers=2, collate_fn=padded)  # type: ignore[arg-type]
    images, labels = load_images(folder)
    dataset = torchvision.datasets.CIFAR10.__new__(torchvision.datasets.CIFAR10)
    dataset.data = images.transpose(0, 2, 3, 1).copy()
    dataset.targets = labels.tolist()
    dataset.target_transform = None
    dataset.transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize(MEAN, STD)])
    return DataLoader(dataset, batch_size=BATCH, shuffle=False, num_workers=2)


def set_weights(
    model: torch.nn.Module,
    center: list[torch.Tensor],
    directions: list[list[torch.Tensor]],
    point: tuple[float, float],
) -> None:
    """Go to center + alpha * d1 + beta * d2."""
    alpha, beta = point
    for parameter, value, first, second in zip(model.parameters(), center, *directions, strict=True):
        parameter.data = value + (first * alpha + second * beta)


def evaluate(
    model: torch.nn.Module, loader: DataLoader[Any], device: str = "cpu"
) -> tuple[float, float, dict[str, float]]:
    """Mean loss and accuracy over the data, and where the seconds went."""
    total, right, count = 0.0, 0, 0
    network = 0.0
    start = time.perf_counter()
    with torch.no_grad():
        for inputs, targets in loader:
            began = time.perf_counter()
            inputs, targets = to(inputs, device), targets.to(device)
            outputs = model(inputs)
            total += F.cross_entropy(outputs, targets).item() * len(targets)
            right += (outputs.argmax(1) == targets).sum().item()
            count += len(targets)
            network += time.perf_counter() - began
    loading = time.perf_counter() - start - network
    return total / count, right / count, {"network": network, "loading": loading}


def to(inputs: Any, device: str) -> Any:
    """A tensor, or each of a mapping, on a device."""
    if isinstance(inputs, torch.Tensor):
        return inputs.to(device)
    return {name: each.to(device) for name, each in inputs.items()}


if __name__ == "__main__":
    main()
