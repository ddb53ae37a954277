"""The engine of a run, which rank 0 finds out on a few real examples before the work begins.

None of it goes by the clock, so two runs of one configuration on one kind of machine decide the same.
"""

from __future__ import annotations

from contextlib import closing

from mpi_landscape.evaluation import choosing
from mpi_landscape.evaluation.engine.description import Engine
from mpi_landscape.evaluation.engine.steps import engine_of, steps_of
from mpi_landscape.evaluation.probe import Setting, fewer, probe_points
from mpi_landscape.loading.batches import Batch, Examples
from mpi_landscape.parallel.ranks import Ranks
from mpi_landscape.placement.placing import Placed
from mpi_landscape.surfaces.request import Request


def agree_engine(
    setting: Setting, request: Request, placed: Placed, ranks: Ranks, before: str | None
) -> Engine:
    """The engine of a run, on every rank; what was dropped goes to the log. Collective.

    Args:
        setting: Network, loss and plane.
        request: What was asked for.
        placed: The data.
        ranks: Who computes.
        before: The engine's text in the file that may be continued; None without one.
    """
    decided = ranks.on_root(lambda: _decided(setting, request, placed, before))
    text, dropped = ranks.share((decided[0].text(), decided[1]) if decided else ("", []))
    for line in dropped:
        ranks.say(f"engine      {line}")
    return engine_of(text)


def _decided(
    setting: Setting, request: Request, placed: Placed, before: str | None
) -> tuple[Engine, list[str]]:
    """That of the file which may be continued, otherwise what passes the trials; and what to tell the user."""
    asked, dtype = request.compute.engine, placed.precision.data
    (batch,) = first_batches(next(iter(placed.splits.values())), 1)
    axes = [axis for axis in (request.grid.alpha, request.grid.beta) if axis is not None]
    points = probe_points([(axis.min, axis.max) for axis in axes])
    if before is not None and asked == "auto":
        try:
            engine = engine_of(before)
            setting.sums(engine, dtype, [fewer(batch, 1)], points[:1])
        except Exception:  # of another network or another version: the file's identity is checked later
            pass
        else:
            return engine, []
    return choosing.choose_engine(setting, batch, points, dtype=dtype, steps=steps_of(asked))


def first_batches(examples: Examples, count: int) -> list[Batch]:
    """The first batches of a split, wherever it is held."""
    with closing(examples.pieces(0, count)) as pieces:
        return [batch for piece in pieces for batch in piece]
