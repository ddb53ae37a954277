"""The barrier of the straight line between two seeds of a network, before and after a permutation of hidden units.

python benchmarks/alignment.py                                  # minutes on one core
python benchmarks/alignment.py --only "perceptron 512, digits"

Two networks are trained in plain PyTorch from two seeds. Of the line between them the mean loss is taken at 25 points; its
barrier is the largest less the larger end. Then the second network is brought next to the first (Ainsworth et al. 2022,
arXiv:2209.04836), and the same is done again. Batch statistics on the way are those between the ends, or made anew by a pass
over the training set (Jordan et al. 2023, arXiv:2211.08403, on why).
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn

from mpi_landscape.evaluation.alignment.aligning import Alignment, aligned, symmetries_of
from mpi_landscape.problem.datasets.signals import mnist1d
from mpi_landscape.problem.networks.convolutional import cnn, vgg9
from mpi_landscape.problem.networks.perceptron import mlp
from mpi_landscape.problem.networks.resnet import resnet

NUM_POINTS = 25
State = Mapping[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Data:
    """Inputs and labels of two splits, in memory."""

    train: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]


@dataclass(frozen=True, kw_only=True)
class Case:
    """What is trained.

    Attributes:
        make: A new network, by torch's generator.
        data: What it learns.
        epochs: How long.
        rate: The learning rate at its start, of Adam; it falls to zero along a cosine.
        anew: Whether batch statistics on the way are made anew.
    """

    make: Callable[[], nn.Module]
    data: Callable[[], Data]
    epochs: int
    rate: float = 1e-3
    anew: bool = False


@dataclass(frozen=True, kw_only=True)
class Barriers:
    """What was found, nats per example.

    Attributes:
        ends: The larger of the losses of both networks, per split.
        before: The barrier of each split without a permutation.
        after: With it.
        alignment: The permutation.
        seconds: What it took to find the units and to match them.
    """

    ends: Mapping[str, float]
    before: Mapping[str, float]
    after: Mapping[str, float]
    alignment: Alignment
    seconds: float


def digits() -> Data:
    """The 1797 images of 8 by 8 pixels that scikit-learn brings; the last 297 are for the test."""
    found = load_digits()
    images, labels = torch.from_numpy(found.images).float()[:, None] / 16, torch.from_numpy(found.target)
    return Data(train=(images[:1500], labels[:1500]), test=(images[1500:], labels[1500:]))


def signals() -> Data:
    """MNIST-1D as published, as images of one row."""
    splits = {}
    for name, rows in mnist1d().items():
        items = [rows[index] for index in range(len(rows))]
        splits[name] = (
            torch.stack([each[0] for each in items])[:, None],
            torch.stack([each[1] for each in items]),
        )
    return Data(**splits)


def loss(network: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """(N,) the cross-entropy of each example."""
    return F.cross_entropy(network(batch[0]), batch[1], reduction="none")


def trained(case: Case, data: Data, seed: int) -> nn.Module:
    """A network after training from a seed."""
    torch.manual_seed(seed)
    network = case.make().train()
    inputs, labels = data.train
    optimizer = torch.optim.Adam(network.parameters(), lr=case.rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, case.epochs)
    for _ in range(case.epochs):
        for rows in torch.randperm(len(labels)).split(100):
            optimizer.zero_grad()
            loss(network, (inputs[rows], labels[rows])).mean().backward()
            optimizer.step()
        schedule.step()
    return network.eval()


def line(case: Case, data: Data, start: State, end: State) -> dict[str, list[float]]:
    """The mean loss of each split at points of the line between two states."""
    network, found = case.make(), {"train": [], "test": []}
    for number in range(NUM_POINTS):
        share = number / (NUM_POINTS - 1)
        network.load_state_dict(
            {
                name: torch.lerp(each, end[name], share) if each.is_floating_point() else each
                for name, each in start.items()
            }
        )
        with torch.no_grad():
            if case.anew:
                torch.optim.swa_utils.update_bn(list(data.train[0].split(500)), network)
            network.eval()
            for split in found:
                found[split].append(float(loss(network, getattr(data, split)).double().mean()))
    return found


def barriers_of(case: Case, seeds: tuple[int, int] = (1, 2)) -> Barriers:
    """Train two networks, align them, and compare the lines between them."""
    data = case.data()
    first, second = (trained(case, data, seed) for seed in seeds)
    start, end = (copy.deepcopy(each.state_dict()) for each in (first, second))
    batch = tuple(each[:64] for each in data.train)
    began = time.perf_counter()
    alignment = aligned(first, end, symmetries_of(first, loss, batch), loss, batch, seed=0)
    seconds = time.perf_counter() - began
    before, after = (line(case, data, start, state) for state in (end, alignment.state))
    ends = {split: max(values[0], values[-1]) for split, values in before.items()}
    rises = [
        {split: max(values) - max(values[0], values[-1]) for split, values in found.items()}
        for found in (before, after)
    ]
    return Barriers(ends=ends, before=rises[0], after=rises[1], alignment=alignment, seconds=seconds)


IMAGES = {"input_size": (1, 8, 8), "num_classes": 10}
SIGNALS = {"input_size": (1, 1, 40), "num_classes": 10}
CASES = {
    "perceptron 512, digits": Case(make=lambda: mlp(hidden=(512,), **IMAGES), data=digits, epochs=20),
    "perceptron 512 x 2, digits": Case(make=lambda: mlp(hidden=(512, 512), **IMAGES), data=digits, epochs=20),
    "perceptron 1024 x 3, digits": Case(
        make=lambda: mlp(hidden=(1024,) * 3, **IMAGES), data=digits, epochs=10
    ),
    "perceptron 512 x 2, MNIST-1D": Case(
        make=lambda: mlp(hidden=(512, 512), **SIGNALS), data=signals, epochs=20
    ),
    "perceptron 64 x 2, digits": Case(make=lambda: mlp(hidden=(64, 64), **IMAGES), data=digits, epochs=20),
    "convolutions 64, no normalization": Case(
        make=lambda: cnn(width=64, blocks=2, shortcut="none", **IMAGES), data=digits, epochs=10
    ),
    "convolutions 64, identities": Case(
        make=lambda: cnn(width=64, blocks=2, **IMAGES), data=digits, epochs=10
    ),
    "VGG-9, statistics between": Case(make=lambda: vgg9(width=16, **IMAGES), data=digits, epochs=10),
    "VGG-9, statistics anew": Case(make=lambda: vgg9(width=16, **IMAGES), data=digits, epochs=10, anew=True),
    "ResNet-14, statistics between": Case(
        make=lambda: resnet(depth=14, width=16, **IMAGES), data=digits, epochs=10
    ),
    "ResNet-14, statistics anew": Case(
        make=lambda: resnet(depth=14, width=16, **IMAGES), data=digits, epochs=10, anew=True
    ),
    "ResNet-14, 4 times as wide, statistics anew": Case(
        make=lambda: resnet(depth=14, width=64, **IMAGES), data=digits, epochs=6, anew=True
    ),
}


def main() -> None:
    """Train, align, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", action="append", choices=CASES, help="a case; again for another")
    options = parser.parse_args()
    print(
        "| network | loss at the ends | barrier | after | share | test barrier | after | distance | after | s |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for name in options.only or CASES:
        found = barriers_of(CASES[name])
        cells = [f"{found.ends['train']:.4f}"]
        for split in ("train", "test"):
            cells += [f"{found.before[split]:.4f}", f"{found.after[split]:.4f}"]
            cells += [f"{found.after[split] / found.before[split]:.2f}"] if split == "train" else []
        cells += [f"{found.alignment.distance_before:.2f}", f"{found.alignment.distance_after:.2f}"]
        print(f"| {name} | {' | '.join(cells)} | {found.seconds:.1f} |", flush=True)


if __name__ == "__main__":
    main()
