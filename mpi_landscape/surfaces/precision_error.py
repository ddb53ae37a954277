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
from mpi_landscape.evaluation.sums import Floats
from mpi_landscape.evaluation.vectors import Point
from mpi_landscape.loading.batches import Batch, Examples
from mpi_landscape.parallel.ranks import Ranks
from mpi_landscape.plan.grid import Grid
from mpi_landscape.surfaces.engine import first_batches
from mpi_landscape.wording import reason, rounded

# Examples on which it is measured.
MEASURED = 512


def measure_error(
    setting: Setting,
    evaluator: Evaluator | Reference,
    precision: Precision,
    grid: Grid,
    examples: Examples,
    ranks: Ranks,
) -> tuple[dict[str, float], str]:
    """How far losses in an approximate precision are from those of the plain network in float32. Collective.

    Args:
        setting: Network, loss and plane.
        evaluator: The one that will compute.
        precision: The format.
        grid: The points.
        examples: The first split.
        ranks: Who share the points.

    Returns:
        Attributes of the file, and what a reader should know of them, in words, or "".

    Raises:
        AgreedError: The network cannot be computed in this precision.
    """
    points = all_over(grid)
    sample = first_batches(examples, max(1, min(examples.num_batches, MEASURED // examples.batch_size)))
    with ranks.together():
        mine = _sums(setting, evaluator, precision, sample, points[ranks.rank :: ranks.size])
    sums = np.empty((len(points), 2))
    for rank, rows in enumerate(ranks.gather(mine.tolist())):
        sums[rank :: ranks.size] = np.reshape(rows, (-1, 2))
    errors = errors_of(sums[:, 0], sums[:, 1])
    measured = errors[~np.isnan(errors)]
    finite = measured[np.isfinite(measured)]
    facts = {
        "precision_error": float(measured.max()) if measured.size else np.nan,
        "precision_error_finite": float(finite.max(initial=0.0)),
        "precision_error_points": float(measured.size),
        "precision_error_undefined": float(errors.size - measured.size),
        "precision_error_examples": float(sum(batch.valid for batch in sample)),
    }
    return facts, _warning(precision, points, sums / facts["precision_error_examples"], errors)


def errors_of(found: Floats, wanted: Floats) -> Floats:
    """The error of each point's loss, relative.

    It is infinite where one of the two is a number and the other is none, and NaN, which is to say that there is none, where
    neither is a number or the right loss alone is zero.

    Args:
        found: (N,) losses in fewer bits.
        wanted: (N,) the right ones.

    Example:
        >>> errors_of(np.array([1.5, np.inf, np.nan, 1.0, 0.1, 0.0]), np.array([1.0, 2.0, np.inf, np.nan, 0.0, 0.0]))
        array([0.5, inf, nan, inf, nan, 0. ])
    """
    numbers, right = np.isfinite(found), np.isfinite(wanted)
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        errors = np.abs(found - wanted) / np.abs(wanted)
    errors = np.where(numbers != right, np.inf, errors)
    errors = np.where((~numbers & ~right) | (numbers & (wanted == 0)), np.nan, errors)
    return np.where(numbers & (found == wanted), 0.0, errors)


def _sums(
    setting: Setting,
    evaluator: Evaluator | Reference,
    precision: Precision,
    sample: Sequence[Batch],
    points: Sequence[Point],
) -> Floats:
    """(len(points), 2) float64: the sum of losses in the format, and by the plain network in float32."""
    if not points:
        return np.empty((0, 2))
    try:
        with precision.computing():
            found = evaluator.tile([sample], points)
    except Exception as error:
        raise LandscapeError(
            f"compute.precision: {precision.name}: the network raised {reason(error)}; valid for it is float32"
        ) from error
    plain = setting.sums(PLAIN, torch.float32, sample, points)
    return np.stack([found[:, 0], plain[:, 0]], axis=1)


def _warning(precision: Precision, points: Sequence[Point], means: Floats, errors: Floats) -> str:
    """What is to be said of points at which the error is no number."""
    infinite = np.flatnonzero(np.isinf(errors))
    if infinite.size:
        place = int(infinite[0])
        return (
            f"in {precision.name} the loss at {rounded(points[place])} is {means[place, 0]:.6g} and in float32 "
            f"{means[place, 1]:.6g}, so that its error is infinite at {infinite.size} of {len(points)} points; valid there is "
            f"compute.precision: float32"
        )
    if np.isnan(errors).all():
        return f"the error of {precision.name} is not known: at none of {len(points)} points is there a loss to compare with"
    return ""


def all_over(grid: Grid) -> list[Point]:
    """Three places along each axis, or each line, the center taken for the middle one where the axis holds it."""
    axes = [axis for axis in (grid.alpha, grid.beta) if axis is not None]
    places = [
        (axis.min, 0.0 if axis.min < 0 < axis.max else (axis.min + axis.max) / 2, axis.max) for axis in axes
    ]
    if grid.seeds:
        found = [grid.along(line, place) for line in range(len(grid.seeds)) for place in places[0]]
        return list(dict.fromkeys(found))
    return list(itertools.product(*places))
