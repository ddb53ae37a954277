"""Training throughput against the usual loop: torchvision's data set, transforms and a loader with two workers.

python benchmarks/training.py                        # on the CPU; on a GPU where there is one
python benchmarks/training.py --networks resnet20 --images 4096 --repeats 5

Both train the same network on the same 32 x 32 images, with shift and flip, batch 128 and Nesterov momentum; each run
in a process of its own, the two sides alternating, the second epoch timed. Prints images per second (medians) and their
ratio.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from typing import Any

MEAN, STD = (0.4914, 0.4824, 0.4467), (0.2471, 0.2435, 0.2616)
BATCH = 128


def main() -> None:
    """Run both sides, or be one of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", default="resnet20,vgg9", help="names, separated by commas")
    parser.add_argument("--images", type=int, default=2048, help="images in an epoch")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each side")
    parser.add_argument("--threads", type=int, default=0, help="of the CPU; all cores by default")
    parser.add_argument("--side", choices=("plain", "ours"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        print(json.dumps(measure(options)))
        return
    rows = []
    for network in options.networks.split(","):
        rates: dict[str, list[float]] = {"plain": [], "ours": []}
        for _ in range(options.repeats):
            for side in rates:
                found = run(network, side, options)
                rates[side].append(found["rate"])
        plain, ours = (statistics.median(rates[side]) for side in ("plain", "ours"))
        rows.append(f"| {network} | {plain:,.0f} | {ours:,.0f} | {ours / plain:.2f} |")
        print(f"{network}: plain {sorted(rates['plain'])}, ours {sorted(rates['ours'])}", file=sys.stderr)
    print(
        f"{found['device']}, {found['threads']} threads, Python {platform.python_version()}, torch {found['torch']}"
    )
    print(f"{options.images} images, batch {BATCH}, medians of {options.repeats} runs\n")
    print(
        "| network | plain loader loop, images/s | mpi_landscape.train, images/s | ratio |\n| --- | --- | --- | --- |"
    )
    print("\n".join(rows))


def run(network: str, side: str, options: argparse.Namespace) -> dict[str, Any]:
    """One side in a process of its own."""
    command = [sys.executable, __file__, "--side", side, "--networks", network]
    command += ["--images", str(options.images), "--threads", str(options.threads)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Images per second of one side in the second epoch."""
    import torch

    from mpi_landscape.parallel.devices import available_cores, device_name

    threads = options.threads or len(available_cores())
    torch.set_num_threads(threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    rate = (plain if options.side == "plain" else ours)(options.networks, options.images, device, threads)
    return {"rate": rate, "device": device_name(device), "threads": threads, "torch": torch.__version__}


def network_of(name: str) -> Any:
    """The network with the same initial parameters on both sides."""
    import torch

    from mpi_landscape.configuration.sections.sources import ModelConfiguration
    from mpi_landscape.problem.networks.table import build_network

    torch.manual_seed(0)
    return build_network(ModelConfiguration(name=name), where="benchmark", folders=[])


def images_of(count: int) -> tuple[Any, Any]:
    """Random photographs (count, 32, 32, 3) uint8, and labels."""
    import numpy as np

    generator = np.random.default_rng(0)
    return generator.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8), generator.integers(0, 10, count)


def plain(name: str, count: int, device: Any, _: int) -> float:
    """The loop that everybody writes."""
    import torch
    import torch.nn.functional as F
    import torchvision
    from torchvision import transforms

    # torchvision's own class, filled without the files that it would check.
    dataset = torchvision.datasets.CIFAR10.__new__(torchvision.datasets.CIFAR10)
    dataset.data, labels = images_of(count)
    dataset.targets = labels.tolist()
    dataset.target_transform = None
    dataset.transform = transforms.Compose(
        [
            transforms.RandomCrop(32, padding=4),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )
    loader = torch.utils.data.DataLoader(
        dataset, BATCH, shuffle=True, num_workers=2, persistent_workers=True, pin_memory=device.type == "cuda"
    )
    model = network_of(name).to(device).train()
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9, nesterov=True, weight_decay=5e-4)
    for _ in range(2):
        start = time.perf_counter()
        for inputs, targets in loader:
            inputs, targets = inputs.to(device), targets.to(device)
            optimizer.zero_grad()
            F.cross_entropy(model(inputs), targets).backward()
            optimizer.step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds = time.perf_counter() - start
    return count / seconds


def ours(name: str, count: int, device: Any, threads: int) -> float:
    """The program's own loop, as `mpi_landscape.train` runs it."""
    import numpy as np
    import torch

    from mpi_landscape.command.memory import keep_freed_memory
    from mpi_landscape.configuration.sections.sources import LossConfiguration
    from mpi_landscape.configuration.sections.training import Augmentation, Phase
    from mpi_landscape.evaluation.arithmetic import exact_arithmetic
    from mpi_landscape.problem.datasets.images import ImageDataset
    from mpi_landscape.problem.losses import build_loss
    from mpi_landscape.training.feed import make_feed
    from mpi_landscape.training.loop import Training
    from mpi_landscape.training.memory import prefers_channels_last
    from mpi_landscape.training.recipe import Recipe

    keep_freed_memory()
    pixels, labels = images_of(count)
    dataset = ImageDataset(
        torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))),
        torch.from_numpy(labels),
        scale=255.0,
        mean=MEAN,
        std=STD,
    )
    phase = Phase(
        epochs=2,
        optimizer="sgd",
        batch_size=BATCH,
        learning_rate=0.01,
        momentum=0.9,
        nesterov=True,
        weight_decay=5e-4,
        augmentation=Augmentation(shift=4, flip=True),
    )
    loss = build_loss(LossConfiguration(name="cross_entropy"), where="benchmark", folders=[])
    with exact_arithmetic(threads):
        examples = make_feed(
            "train", dataset, device=device, dtype=torch.float32, workers=0, mode="resident", available=None
        )
        model = network_of(name).to(device)
        first = next(iter(examples.batches(torch.arange(2), 2)))
        training = Training(
            model,
            loss,
            {"train": examples},
            Recipe(phases=(phase,), seed=0),
            device=device,
            channels_last=prefers_channels_last(model, loss, first),
        )
        seconds = [epoch.seconds for epoch in training.epochs()]
    return count / seconds[-1]


if __name__ == "__main__":
    main()
