"""The engine of a run, which rank 0 finds out on a few real examples before the work begins.

None of it goes by the clock, so two runs of one configuration on one kind of machine decide the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing

import torch

from mpi_landscape.configuration.sections.work import ComputeConfiguration
from mpi_landscape.evaluation import choosing
from mpi_landscape.evaluation.engine.description import Engine
from mpi_landscape.evaluation.engine.steps import engine_of, steps_of
from mpi_landscape.evaluation.probe import Setting, fewer, probe_points
from mpi_landscape.evaluation.vectors import Point
from mpi_landscape.loading.batches import Batch, Examples
from mpi_landscape.parallel.ranks import Ranks
from mpi_landscape.plan.grid import Grid


def agree_engine(
    setting: Setting,
    compute: ComputeConfiguration,
    grid: Grid,
    residents: Mapping[str, Examples],
    ranks: Ranks,
    before: str | None,
    *,
    dtype: torch.dtype,
) -> Engine:
    """Rank 0's choice of `decide_engine`, on every rank; what was dropped goes to the log. Collective."""
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


def first_batches(examples: Examples, count: int) -> list[Batch]:
    """The first batches of a split, wherever it is held."""
    with closing(examples.pieces(0, count)) as pieces:
        return [batch for piece in pieces for batch in piece]


def probes(grid: Grid) -> list[Point]:
    """Where engines and precisions are compared."""
    return probe_points([(axis.min, axis.max) for axis in (grid.alpha, grid.beta) if axis is not None])
