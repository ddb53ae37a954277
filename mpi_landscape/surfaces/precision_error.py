"""How far the losses of an approximate precision are from float32. Collective."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import torch

from mpi_landscape.errors import LandscapeError
from mpi_landscape.evaluation.engine.description import PLAIN
from mpi_landscape.evaluation.evaluator import Evaluator
from mpi_landscape.evaluation.precision import Precision
from mpi_landscape.evaluation.probe import Setting
from mpi_landscape.evaluation.reference import Reference
from mpi_landscape.evaluation.vectors import Point
from mpi_landscape.loading.batches import Batch, Examples
from mpi_landscape.parallel.ranks import Ranks
from mpi_landscape.plan.grid import Grid
from mpi_landscape.surfaces.engine import first_batches
from mpi_landscape.wording import reason

# Examples on which it is measured.
MEASURED = 512


def measure_error(
    setting: Setting,
    evaluator: Evaluator | Reference,
    precision: Precision,
    grid: Grid,
    examples: Examples,
    ranks: Ranks,
) -> dict[str, float]:
    """How far losses in an approximate precision are from those of the plain network in float32. Collective.

    Args:
        setting: Network, loss and plane.
        evaluator: The one that will compute.
        precision: The format.
        grid: The points.
        examples: The first split.
        ranks: Who share the points.

    Returns:
        Attributes of the file: the largest relative difference, at how many points and on how many examples.

    Raises:
        AgreedError: The network cannot be computed in this precision.
    """
    points = all_over(grid)
    mine = points[ranks.rank :: ranks.size]
    sample = first_batches(examples, max(1, min(examples.num_batches, MEASURED // examples.batch_size)))
    with ranks.together():
        worst = _worst(setting, evaluator, precision, sample, mine)
    return {
        "precision_error": float(np.nanmax(ranks.gather(worst))),
        "precision_error_points": float(len(points)),
        "precision_error_examples": float(sum(batch.valid for batch in sample)),
    }


def _worst(
    setting: Setting,
    evaluator: Evaluator | Reference,
    precision: Precision,
    sample: Sequence[Batch],
    points: Sequence[Point],
) -> float:
    """Largest relative difference of the loss at some points; 0 without points."""
    if not points:
        return 0.0
    try:
        with precision.computing():
            found = evaluator.tile([sample], points)
    except Exception as error:
        raise LandscapeError(
            f"compute.precision: {precision.name}: the network raised {reason(error)}; valid for it is float32"
        ) from error
    plain = setting.sums(PLAIN, torch.float32, sample, points)
    finite = np.isfinite(plain[:, 0]) & (plain[:, 0] != 0)
    apart = np.abs(found - plain)[finite, 0] / np.abs(plain[finite, 0])
    return float(apart.max(initial=0.0))


def all_over(grid: Grid) -> list[Point]:
    """Three places along each axis, the center taken for the middle one where the axis holds it."""
    axes = [axis for axis in (grid.alpha, grid.beta) if axis is not None]
    places = [
        (axis.min, 0.0 if axis.min < 0 < axis.max else (axis.min + axis.max) / 2, axis.max) for axis in axes
    ]
    return list(itertools.product(*places))
