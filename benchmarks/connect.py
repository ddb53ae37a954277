"""Barriers of paths between two seeds of a network, and what each has cost, at about equal passes over the data.

python benchmarks/connect.py                              # a fully connected network on the digits
python benchmarks/connect.py --network resnet8 --passes 60

Trains the two, connects them by every method with about so many passes with gradients, and prints a table: Garipov et al.'s
recipe (2018, arXiv:1802.10026) is the row "bezier", Draxler et al.'s (2018, arXiv:1803.00885) is "autoneb".
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

from mpi_landscape.storage.connection.reader import read_connection

BATCH, EXAMPLES = 64, 1442
PIVOTS, CYCLES = 7, 4
NETWORKS: dict[str, dict[str, Any]] = {
    "mlp": {"name": "mlp", "arguments": {"hidden": [64, 64], "input_size": [1, 8, 8]}},
    "resnet8": {"name": "resnet8", "arguments": {"width": 8, "input_size": [1, 8, 8]}},
}


def methods(passes: int, rate: float) -> dict[str, dict[str, Any]]:
    """Fields of a section `connect` for each method, each of about so many passes."""
    steps = passes * -(-EXAMPLES // BATCH)
    trained = {"batch_size": BATCH, "learning_rate": rate, "weight_decay": 0.0}
    # From three pivots on, two more at most in every cycle: seen were 3 + 5 + 5 + 5.
    each = max(1, steps // 18)
    rates = [rate] * (CYCLES - 1) + [rate / 5]
    return {
        "line": {},
        "bezier": {**trained, "epochs": passes},
        "polygon": {**trained, "epochs": passes},
        "string": {**trained, "momentum": 0.9, "pivots": PIVOTS, "steps": max(1, steps // PIVOTS)},
        "autoneb": {
            "batch_size": BATCH,
            "weight_decay": 0.0,
            "cycles": [{"steps": each, "learning_rate": own} for own in rates],
        },
    }


def main() -> None:
    """Train, connect, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", choices=NETWORKS, default="mlp")
    parser.add_argument("--passes", type=int, default=60, help="passes with gradients, about")
    parser.add_argument("--learning-rate", type=float, default=0.1)
    parser.add_argument("--epochs", type=int, default=30, help="of the two trainings")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        base = {"model": NETWORKS[options.network], "data": {"name": "digits"}, "compute": {"device": "cpu"}}
        training = {
            "output": f"{folder}/seeds",
            "seed": [1, 2],
            "epochs": options.epochs,
            "batch_size": BATCH,
            "weight_decay": 0.0,
            "checkpoint_every": options.epochs,
        }
        run("train", folder, {**base, "training": training})
        ends = {side: f"{folder}/seeds/seed={seed}/final.pt" for side, seed in (("start", 1), ("end", 2))}
        print(
            f"{options.network} on digits, about {options.passes} passes, learning rate {options.learning_rate:g}\n"
        )
        print(
            "| method | passes with gradients | without | length | train barrier | test barrier | share of the line's |"
        )
        print("| --- | --- | --- | --- | --- | --- | --- |")
        for method, said in methods(options.passes, options.learning_rate).items():
            output = folder / f"{method}.h5"
            connect = {**ends, "method": method, **said}
            run("connect", folder, {**base, "connect": connect, "output": str(output)})
            found = read_connection(output)
            barriers, facts = found.barriers, found.attributes
            share = barriers["barrier_train"] / barriers["line_barrier_train"]
            print(
                f"| {method} | {facts['gradient_passes']:.1f} | {facts['loss_passes']:.1f} | {found.length[-1]:.4g} | "
                f"{barriers['barrier_train']:.4g} | {barriers['barrier_test']:.4g} | {share:.3g} |"
            )


def run(program: str, folder: Path, text: dict[str, Any]) -> None:
    """A program on a configuration; ends with its words where it fails."""
    path = folder / f"{program}.yaml"
    path.write_text(yaml.safe_dump(text))
    done = subprocess.run(
        [sys.executable, "-m", f"mpi_landscape.{program}", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(done.stdout + done.stderr)


if __name__ == "__main__":
    main()
