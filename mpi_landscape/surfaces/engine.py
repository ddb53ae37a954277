"""What rank 0 finds out on a few real examples before the work begins: batch size, engine, the error of a precision.

None of it goes by the clock, so two runs of one configuration on one kind of machine decide the same.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Any

import numpy as np
import torch

from mpi_landscape.configuration.sections.work import ComputeConfiguration
from mpi_landscape.errors import LandscapeError
from mpi_landscape.evaluation import choosing, premises
from mpi_landscape.evaluation.engine.description import PLAIN, Engine
from mpi_landscape.evaluation.engine.steps import engine_of, steps_of
from mpi_landscape.evaluation.evaluator import Evaluator
from mpi_landscape.evaluation.precision import Precision, precision_of
from mpi_landscape.evaluation.probe import Point, Setting, fewer, probe_points
from mpi_landscape.evaluation.replica import own_copy
from mpi_landscape.loading.resident import Batch, Examples
from mpi_landscape.parallel.ranks import Ranks
from mpi_landscape.plan.grid import Grid
from mpi_landscape.plan.tiles import choose_batch_size
from mpi_landscape.problem.build import Problem
from mpi_landscape.surfaces.sampling import sampled_batch_size
from mpi_landscape.wording import one_line

# Tensors of the largest layer's size that are alive at once in a pass: its input, its output, a shortcut, scratch space.
ALIVE = 4
# Examples on which the error of a precision is measured.
MEASURED = 512


def choose_batch(
    problem: Problem,
    compute: ComputeConfiguration,
    device: torch.device,
    dtype: torch.dtype,
    free: int | None,
    *,
    sampled: bool = False,
) -> tuple[int, int]:
    """Examples per batch: as asked for, or by the size of the activations; halved while memory does not suffice.

    Args:
        problem: Network, loss and data.
        compute: What was asked for.
        device: Where the batches will go through the network.
        dtype: Of the computation.
        free: Bytes that are free there for this rank; None where nobody tells.
        sampled: Whether the plan is one of samples, whose first level must be small.

    Returns:
        The batch size, and the bytes of one batch's activations.

    Raises:
        LandscapeError: A batch of the size asked for, or of one example, does not fit; or two examples show that
            network, loss and data do not fit together.
    """
    network = own_copy(problem.model).to(device, dtype).eval()
    largest = max(
        premises.try_two_examples(problem.loss, network, split, dataset, device=device, dtype=dtype)
        for split, dataset in problem.splits.items()
    )
    num_examples = max(len(dataset) for dataset in problem.splits.values())  # type: ignore[arg-type]
    per_example = largest * dtype.itemsize * ALIVE
    if compute.batch_size != "auto":
        size = min(compute.batch_size, num_examples)
        if free is not None and per_example * size > free:
            raise LandscapeError(
                f"compute.batch_size is {compute.batch_size}: the activations of a batch would take "
                f"{per_example * size / 2**30:.3g} GiB, {free / 2**30:.3g} GiB are free on {device}; "
                f"valid is at most {max(1, free // per_example)}, or auto"
            )
        return compute.batch_size, per_example * size
    width = precision_of(compute.precision).computed.itemsize
    size = choose_batch_size(largest * width, num_examples, on_gpu=device.type == "cuda")
    if sampled:
        size = sampled_batch_size(size, problem.splits)
    while free is not None and per_example * size > free / 2:
        if size == 1:
            raise LandscapeError(
                f"compute.device: the activations of one example take {per_example / 2**30:.3g} GiB, and {free / 2**30:.3g} GiB "
                f"are free on {device}; start fewer ranks on a node, or take another device"
            )
        size //= 2
    return size, per_example * size


def agree_engine(
    setting: Setting,
    compute: ComputeConfiguration,
    grid: Grid,
    residents: Mapping[str, Examples],
    ranks: Ranks,
    stored: Mapping[str, Any] | None,
    *,
    dtype: torch.dtype,
) -> Engine:
    """Rank 0's choice of `decide_engine`, on every rank; what was dropped goes to the log. Collective."""
    before = (stored or {}).get("engine")
    decided = ranks.on_root(lambda: decide_engine(setting, compute, grid, residents, before, dtype=dtype))
    text, dropped = ranks.share((decided[0].text(), decided[1]) if decided else ("", []))
    for line in dropped:
        ranks.say(f"engine      {line}")
    return engine_of(text)


def decide_engine(
    setting: Setting,
    compute: ComputeConfiguration,
    grid: Grid,
    residents: Mapping[str, Examples],
    stored: str | None,
    *,
    dtype: torch.dtype,
) -> tuple[Engine, list[str]]:
    """The engine of a run: that of the file which is to be continued, otherwise what passes the trials.

    Args:
        setting: Network, loss and plane.
        compute: What was asked for.
        grid: The points.
        residents: The data.
        stored: The engine's text in the file; None without one.
        dtype: Of the data.

    Returns:
        The engine, and what to tell the user.
    """
    (batch,) = first_batches(next(iter(residents.values())), 1)
    points = probes(grid)
    if stored is not None and compute.engine == "auto":
        try:
            engine = engine_of(stored)
            setting.sums(engine, dtype, [fewer(batch, 1)], points[:1])
        except Exception:  # of another network or another version: the file's identity is checked later
            pass
        else:
            return engine, []
    return choosing.choose_engine(setting, batch, points, dtype=dtype, steps=steps_of(compute.engine))


def measure_error(
    setting: Setting,
    evaluator: Evaluator,
    precision: Precision,
    grid: Grid,
    resident: Examples,
    ranks: Ranks,
) -> dict[str, float]:
    """How far losses in an approximate precision are from those of the plain network in float32. Collective.

    Args:
        setting: Network, loss and plane.
        evaluator: The one that will compute.
        precision: The format.
        grid: The points.
        resident: The first split.
        ranks: Who share the points.

    Returns:
        Attributes of the file: the largest relative difference, at how many points and on how many examples.

    Raises:
        AgreedError: The network cannot be computed in this precision.
    """
    points = all_over(grid)
    mine = points[ranks.rank :: ranks.size]
    sample = first_batches(resident, max(1, min(resident.num_batches, MEASURED // resident.batch_size)))
    with ranks.together():
        worst = _worst(setting, evaluator, precision, sample, mine)
    return {
        "precision_error": float(np.nanmax(ranks.gather(worst))),
        "precision_error_points": float(len(points)),
        "precision_error_examples": float(sum(batch.valid for batch in sample)),
    }


def _worst(
    setting: Setting,
    evaluator: Evaluator,
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
            f"compute.precision: {precision.name}: the network raised {type(error).__name__}: {one_line(error)}; "
            f"valid for it is float32"
        ) from error
    plain = setting.sums(PLAIN, torch.float32, sample, points)
    finite = np.isfinite(plain[:, 0]) & (plain[:, 0] != 0)
    apart = np.abs(found - plain)[finite, 0] / np.abs(plain[finite, 0])
    return float(apart.max(initial=0.0))


def first_batches(examples: Examples, count: int) -> list[Batch]:
    """The first batches of a split, wherever it is held."""
    with closing(examples.pieces(0, count)) as pieces:
        return [batch for piece in pieces for batch in piece]


def all_over(grid: Grid) -> list[Point]:
    """Three places along each axis, the center taken for the middle one where the axis holds it."""
    axes = [axis for axis in (grid.alpha, grid.beta) if axis is not None]
    places = [
        (axis.min, 0.0 if axis.min < 0 < axis.max else (axis.min + axis.max) / 2, axis.max) for axis in axes
    ]
    return list(itertools.product(*places))


def probes(grid: Grid) -> list[Point]:
    """Where engines and precisions are compared."""
    return probe_points([(axis.min, axis.max) for axis in (grid.alpha, grid.beta) if axis is not None])


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory did not suffice, on a GPU or a CPU."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and "allocate memory" in str(error)
    )


def out_of_memory(error: BaseException, where: str, batch_size: int) -> LandscapeError:
    """What to tell the user of it."""
    return LandscapeError(
        f"{where}: out of memory ({one_line(error)[:120]}); what is done is kept, go on with a smaller "
        f"--set compute.batch_size=N (now {batch_size}) in a new file, with fewer ranks on a node, or fewer compute.threads"
    )
