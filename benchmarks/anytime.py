"""How many evaluations a surface of samples saves, and whether its error bars hold, against the exact surface.

python benchmarks/anytime.py                                  # some minutes on two cores
python benchmarks/anytime.py --examples 20480 --target 0.05

Trains a ResNet-20 of width 8 on shifted, noisy digits (a data set of any size), computes its surface exactly and with
`--relative-error`, and prints per region: the share of the evaluations of the exact surface, the share of points whose
exact loss lies within two standard errors, and the largest error. The points of a surface share their examples and so
err together: with `--seeds`, several independent choices of examples.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

CONFIGURATION = """
model: {{name: resnet20, arguments: {{width: 8, input_size: [1, 8, 8]}}}}
data: {{target: "anytime:shifted_digits", arguments: {{train: {examples}}}}}
loss: cross_entropy
grid: {{alpha: [-1, 1, 15], beta: [-1, 1, 13]}}
training:
  epochs: {epochs}
  batch_size: 128
  learning_rate: 0.1
  momentum: 0.9
  nesterov: true
  weight_decay: 5e-4
  schedule: {{milestones: [{half}, {last}], factor: 0.1}}
  seed: 0
  output: {folder}/run
"""


def shifted_digits(
    train: int = 20480, test: int = 2048, noise: float = 0.15, seed: int = 0
) -> dict[str, Any]:
    """The digits of scikit-learn, each example one of them shifted by up to a pixel, with noise."""
    import torch
    from sklearn.datasets import load_digits
    from torch.utils.data import TensorDataset

    content = load_digits()
    images, labels = content.images.astype(np.float32) / 16, content.target.astype(np.int64)
    generator = np.random.default_rng(seed)
    is_test = np.arange(len(labels)) % 5 == 4
    splits = {}
    for split, mask, count in (("train", ~is_test, train), ("test", is_test, test)):
        chosen = generator.choice(np.flatnonzero(mask), count)
        wide = np.pad(images[chosen], ((0, 0), (1, 1), (1, 1)))
        rows = generator.integers(0, 3, count)[:, None, None] + np.arange(8)[:, None]
        columns = generator.integers(0, 3, count)[:, None, None] + np.arange(8)
        shifted = wide[np.arange(count)[:, None, None], rows, columns]
        noisy = (shifted + noise * generator.standard_normal(shifted.shape) - 0.305) / 0.376
        splits[split] = TensorDataset(
            torch.from_numpy(noisy[:, None].astype(np.float32)), torch.from_numpy(labels[chosen])
        )
    return splits


def main() -> None:
    """Train, compute both surfaces, compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--examples", type=int, default=102_400, help="training examples")
    parser.add_argument("--target", type=float, default=0.01, help="the relative error")
    parser.add_argument("--seeds", type=int, default=1, help="independent choices of examples")
    options = parser.parse_args()
    with TemporaryDirectory() as name:
        folder = Path(name)
        epochs = max(4, 245_760 // options.examples)
        text = CONFIGURATION.format(
            examples=options.examples, epochs=epochs, half=epochs * 2 // 3, last=epochs - 1, folder=folder
        )
        (folder / "study.yaml").write_text(text)
        run(folder, "train", "mpi_landscape.train", "study.yaml")
        exact = folder / "exact.h5"
        common = ("mpi_landscape.surface", "study.yaml", "--set", "data.splits=[train]", "--output")
        seconds = run(folder, "exact", *common, str(exact))
        found = []
        for seed in range(options.seeds):
            path = folder / f"{seed}.h5"
            target = ("--relative-error", str(options.target))
            took = run(folder, f"sampled {seed}", *common, str(path), *target, seed=seed)
            found.append((path, took))
        report(options, exact, seconds, found)


def run(folder: Path, what: str, module: str, *arguments: str, seed: int = 0) -> float:
    """One program in a process of its own; returns its seconds."""
    here = Path(__file__).resolve()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(here.parent), str(here.parents[1])])}
    # The program draws its samples with one seed; another one needs another process that says so.
    start_program = (
        f"import runpy, mpi_landscape.surfaces.sampling as s; s._SEED = {seed}; "
        f"runpy.run_module({module!r}, run_name='__main__', alter_sys=True)"
    )
    start = time.perf_counter()
    with (folder / "log").open("a") as log:
        command = [sys.executable, "-c", start_program, *arguments]
        subprocess.run(command, cwd=folder, env=environment, check=True, stdout=log, stderr=log)
    took = time.perf_counter() - start
    print(f"{what}: {took:.0f} s", file=sys.stderr)
    return took


def report(options: argparse.Namespace, exact: Path, seconds: float, found: list[tuple[Path, float]]) -> None:
    """Print the table."""
    from mpi_landscape.storage.surface.reader import read_surface

    truth = read_surface(exact)
    loss = truth.values["train_loss"]
    assert truth.beta is not None
    radius = np.hypot(truth.alpha[:, None], truth.beta[None])
    surfaces = [read_surface(path) for path, _ in found]
    examples = np.mean([evaluated(path) for path, _ in found], axis=0)
    errors = np.array([abs(each.values["train_loss"] - loss) for each in surfaces])
    stderr = np.array([each.values["train_loss_stderr"] for each in surfaces])
    regions = {
        "near (radius < 0.35)": radius < 0.35,
        "between": (radius >= 0.35) & (radius < 0.7),
        "plateau (radius >= 0.7)": radius >= 0.7,
        "all": radius >= 0,
    }
    print(
        f"{options.examples} examples, relative error {options.target:g}, {len(found)} choices of examples; seconds:"
    )
    print(
        f"exact {seconds:.0f}, sampled {', '.join(f'{took:.0f}' for _, took in found)}, both with starting and reading\n"
    )
    print(
        "| region | points | median loss | evaluations | within 2 standard errors | largest relative error |"
    )
    print("| --- | --- | --- | --- | --- | --- |")
    for name, mask in regions.items():
        share = examples[mask].mean() / options.examples
        inside = (errors <= 2 * stderr)[:, mask].mean()
        worst = (errors / loss)[:, mask].max()
        print(
            f"| {name} | {mask.sum()} | {np.median(loss[mask]):.3g} | {100 * share:.1f} % (1/{1 / share:.1f}) | "
            f"{100 * inside:.1f} % | {100 * worst:.2f} % |"
        )
    print(
        "\nBesides: one pass over the data for each of the trial points, 4 on this grid (2.1 % of the exact surface)."
    )


def evaluated(path: Path) -> Any:
    """(num_alpha, num_beta) float64: examples evaluated at each point."""
    import h5py

    from mpi_landscape.storage.surface import schema

    with h5py.File(path, "r") as file:
        grid, plan, _ = schema.read_plan(file)
        done = file["tiles/status"][...].reshape(plan.num_points, plan.num_units) == 1
    counts = np.empty(grid.num_points)
    counts[grid.points(np.arange(grid.num_points))] = done @ np.array(plan.samples[0].examples)
    return counts.reshape(grid.shape)


if __name__ == "__main__":
    main()
