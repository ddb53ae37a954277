"""Random networks, losses and planes, and whether the engine that they get is right.

The oracle is the network itself, whose parameters are moved in place, in one thread; float64 says how much of a difference is
rounding. `python -m tests.evaluation.random_networks --networks 2000` tries many and prints what was found.
"""

import argparse
import copy
import warnings
from collections import Counter
from dataclasses import dataclass
from random import Random
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import nn

from mpi_landscape.evaluation.arithmetic import exact_arithmetic
from mpi_landscape.evaluation.choosing import choose_engine
from mpi_landscape.evaluation.engine import packing
from mpi_landscape.evaluation.engine.description import PLAIN, Engine
from mpi_landscape.evaluation.engine.steps import USUAL
from mpi_landscape.evaluation.evaluator import Evaluator
from mpi_landscape.evaluation.probe import Setting, probe_points
from mpi_landscape.geometry.directions import random_direction
from mpi_landscape.geometry.layout import layout_of
from mpi_landscape.geometry.normalization import normalize
from mpi_landscape.loading import nests
from mpi_landscape.loading.resident import make_resident
from mpi_landscape.loading.results import losses_of
from tests.evaluation.random_blocks import IMAGES, ODD_IMAGES
from tests.evaluation.random_heads import BEGINNINGS, CLASSES, LOSSES, Head

RANGE = ((-1.0, 1.0), (-0.75, 1.25))
NUM_POINTS = 20
# Relative to the loss of an example or the mean, whichever is larger; in float64 as many times finer as its rounding.
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Problem:
    """A network with all that its landscape needs.

    Attributes:
        name: What it is made of.
        setting: Network, loss and plane.
        batches: All of the data, several batches, the last one smaller.
        dtype: In which to compute.
    """

    name: str
    setting: Setting
    batches: list[Any]
    dtype: torch.dtype

    def points(self, seed: int) -> list[tuple[float, float]]:
        """The corners, the center, and random points of the range."""
        draw = Random(seed)
        corners = [(a, b) for a in RANGE[0] for b in RANGE[1]]
        rest = [tuple(draw.uniform(*axis) for axis in RANGE) for _ in range(NUM_POINTS - 5)]
        return [*corners, (0.0, 0.0), *rest]


def problem_of(seed: int) -> Problem:
    """The random problem of a seed."""
    draw = Random(seed)
    torch.manual_seed(seed)
    names = [
        draw.choice(list(ODD_IMAGES if draw.random() < 0.5 else IMAGES)) for _ in range(draw.randint(1, 3))
    ]
    start, loss = draw.choice(list(BEGINNINGS)), draw.choice(list(LOSSES))
    beginning = BEGINNINGS[start](draw)
    blocks = [(IMAGES | ODD_IMAGES)[name](draw) for name in names]
    model = _settled(nn.Sequential(beginning.module, *blocks, Head(draw)))
    generator = torch.Generator().manual_seed(seed)
    count, size = draw.randint(9, 23), draw.randint(3, 8)
    examples = [(beginning.example(generator), draw.randrange(CLASSES)) for _ in range(count)]
    dtype = torch.float64 if draw.random() < 0.15 else torch.float32
    batches = make_resident("train", examples, batch_size=size, device=CPU, dtype=dtype).batches
    setting = _setting(draw, seed, model, LOSSES[loss])
    return Problem(" ".join([start, *names, loss]), setting, list(batches), dtype)


def _settled(model: nn.Module) -> nn.Module:
    """Statistics and scales as after a training: those of before would hide mistakes."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.running_mean.normal_(std=0.3)
            module.running_var.uniform_(0.5, 2)
            if module.affine:
                module.weight.data.uniform_(0.5, 1.5)
                module.bias.data.normal_(std=0.3)
    return model.eval()


def _setting(draw: Random, seed: int, model: nn.Module, loss: Any) -> Setting:
    layout = layout_of(model)
    center = layout.flatten(dict(model.named_parameters()), where="test")
    left = [kind for kind in ("norm", "bias") if draw.random() < 0.7]
    directions = []
    for number in (1, 2):
        vector = normalize(random_direction(layout, seed=seed + number), center, layout, how="filter")
        for entry in layout.entries:
            if entry.kind in left:
                vector[entry.offset : entry.stop] = 0
        directions.append(vector)
    return Setting(model=model, loss=loss, layout=layout, center=center, directions=directions, device=CPU)


def oracle(
    problem: Problem, points: list[tuple[float, float]], dtype: torch.dtype, *, nudged: bool = False
) -> np.ndarray:
    """(points, examples): the losses of the network itself, moved in place; of a copy of it in another type.

    `nudged` is with every parameter half a unit of float32's last place away: what no float32 network can be blamed for.
    """
    generator = torch.Generator().manual_seed(0)
    setting = problem.setting
    model = setting.model if dtype == torch.float32 else copy.deepcopy(setting.model).to(dtype)
    own = dict(model.named_parameters())
    rows = [setting.layout.views(each.to(dtype)) for each in (setting.center, *setting.directions)]
    data = [
        nests.map_tensors(lambda t: t.to(dtype) if t.is_floating_point() else t, each.data)
        for each in problem.batches
    ]
    found = []
    with torch.no_grad():
        for alpha, beta in points:
            for name, parameter in own.items():
                value = rows[0][name] + alpha * rows[1][name] + beta * rows[2][name]
                if nudged:
                    signs = torch.randint(0, 2, value.shape, generator=generator, dtype=torch.int64) * 2 - 1
                    value = value * (1 + 2**-24 * signs)
                parameter.data.copy_(value)
            losses = [
                losses_of(setting.loss(model, each))[: b.valid]
                for each, b in zip(data, problem.batches, strict=True)
            ]
            found.append(torch.cat(losses).double().numpy())
        for name, parameter in own.items():
            parameter.data.copy_(rows[0][name])
    return np.array(found)


def evaluated(
    problem: Problem, engine: Engine, points: list[tuple[float, float]]
) -> tuple[np.ndarray, np.ndarray]:
    """(points, examples): the losses by an engine; and (points,) sums of a tile of all batches."""
    s = problem.setting
    with Evaluator(
        s.model, s.loss, s.layout, s.center, s.directions, device=CPU, dtype=problem.dtype, engine=engine
    ) as made:
        losses = [[made.example_losses(batch, point) for batch in problem.batches] for point in points]
        sums = made.tile([problem.batches], points)[:, 0]
    return np.array([np.concatenate(row) for row in losses]), sums


def difference(
    found: np.ndarray, wanted: np.ndarray, exact: np.ndarray, nudged: np.ndarray | None = None
) -> float:
    """The largest difference of an example's loss beyond four times the rounding of the oracle, relative to the loss.

    By chance an example that makes much of rounding may have little of it: that is what `nudged` parameters show.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        scale = np.maximum(np.abs(wanted), np.abs(wanted).mean(axis=1, keepdims=True))
        gap = np.abs(found - wanted) / scale
        rounding = np.abs(wanted - exact)
        if nudged is not None:
            rounding = np.maximum(rounding, np.abs(nudged - exact))
        near = np.abs(found - exact) <= 4 * rounding
    return float(np.where(np.isfinite(wanted) & ~near, gap, 0).max())


@dataclass(frozen=True)
class Finding:
    """What was found out about a problem.

    Attributes:
        engine: What was chosen; None where the network cannot be copied or run.
        dropped: Why steps were dropped.
        worst: Of `difference`, by that engine, per example and of the sums.
        plain: Likewise by no step at all.
    """

    engine: Engine
    dropped: list[str]
    worst: float
    plain: float


def tried(problem: Problem, seed: int) -> Finding:
    """Choose an engine for a problem, and compare it with the oracle."""
    setting, points = problem.setting, problem.points(seed)
    # Layers of these sizes are not worth packing, and are packed all the same.
    small = patch.object(packing, "LEAST_WEIGHT", 1)
    with small, exact_arithmetic(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        engine, dropped = choose_engine(
            setting, problem.batches[0], probe_points(RANGE), dtype=problem.dtype, steps=USUAL
        )
        wanted = oracle(problem, points, problem.dtype)
        exact = oracle(problem, points, torch.float64)
        nudged = (
            oracle(problem, points, torch.float64, nudged=True) if problem.dtype == torch.float32 else exact
        )
        worst = []
        for each in (engine, PLAIN):
            losses, sums = evaluated(problem, each, points)
            together = difference(sums[:, None], wanted.sum(1, keepdims=True), exact.sum(1, keepdims=True))
            worst.append(max(difference(losses, wanted, exact, nudged), together))
    return Finding(engine, dropped, *worst)


def main() -> None:
    """Try many, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--networks", type=int, default=200)
    parser.add_argument("--first", type=int, default=0, help="the first seed (default: %(default)s)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    taken: Counter[str] = Counter()
    worst, wrong, failed = 0.0, [], []
    for seed in range(options.first, options.first + options.networks):
        problem = problem_of(seed)
        try:
            finding = tried(problem, seed)
        except Exception as error:
            failed.append(f"seed {seed} ({problem.name}): {type(error).__name__}: {error}")
            continue
        taken.update(step.name for step, _ in finding.engine.taken)
        taken["none"] += finding.engine == PLAIN
        if finding.worst > TOLERANCE[problem.dtype]:
            wrong.append(
                f"seed {seed} ({problem.name}): {finding.worst:.1e} by {finding.engine.words()}; plain {finding.plain:.1e}"
            )
        else:
            worst = max(worst, finding.worst)
    print(f"networks         {options.networks}")  # noqa: T201
    for name in (*USUAL, "none"):
        print(f"{name:16} {taken[name]}")  # noqa: T201
    print(f"worst difference {worst:.1e}")  # noqa: T201
    print(f"wrong            {len(wrong)}", *wrong, sep="\n    ")  # noqa: T201
    print(f"failed           {len(failed)}", *failed, sep="\n    ")  # noqa: T201


if __name__ == "__main__":
    main()
