"""Make the files anew with the program that PYTHONPATH names: `PYTHONPATH=CHECKOUT python make.py`."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

HERE = Path(__file__).resolve().parent
SAMPLED = (
    *("--set", "compute.data_shards=auto", "--set", "compute.points_per_tile=auto"),
    *("--set", "data.arguments={train: 4096, test: 120}", "--output", "sampled.h5"),
)


def main() -> None:
    generator = np.random.default_rng(5)
    for axis in ("alpha", "beta"):
        # Quarters: the same bits wherever they are drawn.
        np.save(HERE / f"{axis}.npy", generator.integers(-4, 5, 57).astype(np.float32) / 4)
    run("train", "study.yaml")
    run("surface", "study.yaml", "--output", "finished.h5")
    run("surface", "study.yaml", "--line", "--output", "line.h5")
    run("surface", "study.yaml", *SAMPLED, "--relative-error", "0.03")
    run("surface", "study.yaml", "--output", "unfinished.h5", until=lambda: num_tiles("unfinished.h5") > 8)
    stopped = ("--set", "training.output=unfinished_training")
    run("train", "study.yaml", *stopped, until=(HERE / "unfinished_training" / "epoch_0002.pt").exists)


def num_tiles(name: str) -> int:
    """How many are marked as done."""
    if not (HERE / name).exists():
        return 0
    with h5py.File(HERE / name, "r", locking=False) as file:
        return int(file["tiles/status"][...].sum())


def run(program: str, *words: str, until: Callable[[], bool] | None = None) -> None:
    """Run a program to its end, or slowly until it has come so far, and then stop it as a scheduler does."""
    command = [sys.executable, "-m", f"mpi_landscape.{program}", *words]
    job = subprocess.Popen(command, cwd=HERE, env={**os.environ, "SLEEP": "0.1" if until else "0"})
    while until and job.poll() is None and not until():
        time.sleep(0.02)
    if until:
        job.send_signal(signal.SIGTERM)
    assert job.wait() == (75 if until else 0), words


if __name__ == "__main__":
    main()
