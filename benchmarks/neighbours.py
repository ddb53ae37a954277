"""Two other packages that compute planes, each in an environment of its own: `loss-landscapes` and `landscaper`.

Both evaluate in one process, so they get as many threads as the ranks have cores. Neither has a part that reads data: its
users write the loss. Ours for them takes batches that lie normalised in memory. Started by engine.py.
"""

from __future__ import annotations

import argparse
import copy
import json
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from workloads import BATCH, load_direction, load_network, resident_batches

PACKAGES = {"loss-landscapes": "loss-landscapes==3.0.6", "landscaper": "landscaper==1.3.1"}


def make_environment(package: str, folder: Path) -> Path:
    """An environment with one of the packages and with this interpreter's own torch, made once.

    The package's own pins (landscaper asks for numpy below 2) stay out of the environment that runs the other sides;
    what it does not bring, torch above all, comes from there, so that all sides compute with the same torch.

    Args:
        package: One of PACKAGES.
        folder: That holds the environments.

    Returns:
        Its interpreter.

    Raises:
        RuntimeError: It cannot be installed; with pip's last line.
    """
    home = folder / f"{package}-{sys.version_info.major}.{sys.version_info.minor}"
    python, ready = home / "bin" / "python", home / "ready"
    if ready.exists():
        return python
    for command in (
        [sys.executable, "-m", "venv", "--clear", str(home)],
        [str(python), "-m", "pip", "install", "--quiet", PACKAGES[package]],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            last = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["no message"]
            raise RuntimeError(f"{PACKAGES[package]} cannot be installed: {last[0]}")
    packages = Path(sysconfig.get_paths(vars={"base": str(home), "platbase": str(home)})["purelib"])
    # Paths of a .pth file come after the environment's own packages.
    (packages / "measured.pth").write_text(f"{sysconfig.get_paths()['purelib']}\n")
    ready.touch()
    return python


def main() -> None:
    """Compute one plane with one package and write seconds and losses."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("package", choices=PACKAGES)
    parser.add_argument("folder", type=Path)
    parser.add_argument("network")
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--result", type=Path, required=True)
    options = parser.parse_args()
    import torch

    torch.set_num_threads(options.threads)
    batches = list(resident_batches(options.folder, BATCH))
    model = load_network(options.folder, options.network)
    with torch.no_grad():
        model(batches[0][0])  # the first pass of a process is a slow one
    side = {"loss-landscapes": loss_landscapes, "landscaper": landscaper}[options.package]
    work, points_of = side(options, model, batches)
    start = time.perf_counter()
    result = work()
    seconds = time.perf_counter() - start
    found = {"seconds": seconds, "points": options.steps**2, "losses": points_of(result)}
    options.result.write_text(json.dumps(found))


Side = tuple[Callable[[], Any], Callable[[Any], list[list[float]]]]


def loss_landscapes(options: argparse.Namespace, model: Any, batches: list[Any]) -> Side:
    """`planar_interpolation` between the center and the ends of the two directions, with a metric over batches."""
    import loss_landscapes
    import torch
    from loss_landscapes.metrics.metric import Metric
    from workloads import crooked_points

    class MeanLoss(Metric):  # type: ignore[misc]
        def __call__(self, model_wrapper: Any) -> float:
            return mean_loss(model_wrapper.forward, batches)

    ends = []
    for axis in ("alpha", "beta"):
        end = copy.deepcopy(model)
        for parameter, change in zip(
            end.parameters(), load_direction(options.folder, axis, model), strict=True
        ):
            parameter.data += change
        ends.append(end)

    def work() -> Any:
        with torch.no_grad():
            return loss_landscapes.planar_interpolation(model, *ends, MeanLoss(), steps=options.steps)

    def points_of(plane: Any) -> list[list[float]]:
        points = crooked_points(options.steps)
        return [[alpha, beta, float(loss)] for (alpha, beta), loss in zip(points, plane.flat, strict=True)]

    return work, points_of


def landscaper(options: argparse.Namespace, model: Any, batches: list[Any]) -> Side:
    """`LossLandscape.compute` in two dimensions; only its center is a point of the others.

    It gives each tensor of a direction a length of its own choice, so the same directions are other ones. And it adds noise to
    the greatest loss.
    """
    from landscaper import LossLandscape

    directions = [load_direction(options.folder, axis, model) for axis in ("alpha", "beta")]

    def work() -> Any:
        return LossLandscape.compute(
            model,
            batches,
            directions,
            mean_loss,
            steps=options.steps,
            distance=0.5,
            dim=2,
            device="cpu",
        )

    def points_of(landscape: Any) -> list[list[float]]:
        middle = options.steps // 2
        return [[0.0, 0.0, float(landscape.loss[middle, middle])]]

    return work, points_of


def mean_loss(forward: Callable[[Any], Any], batches: list[Any]) -> float:
    """Cross-entropy over all batches."""
    import torch.nn.functional as F

    total = sum(
        F.cross_entropy(forward(inputs), targets).item() * len(targets) for inputs, targets in batches
    )
    return total / sum(len(targets) for _, targets in batches)


if __name__ == "__main__":
    main()
