"""Which engine a network gets: every step is tried on real data against the plain network, and dropped where it fails.

Nothing is timed: an engine changes the last bits of a loss, so it follows from the network, the data and the plane alone,
and two runs of one configuration choose the same.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from mpi_landscape.evaluation.engine.description import PLAIN, Engine
from mpi_landscape.evaluation.engine.steps import STEPS
from mpi_landscape.evaluation.probe import NetworkProbe, Setting, fewer
from mpi_landscape.evaluation.vectors import Point
from mpi_landscape.loading.batches import Batch
from mpi_landscape.wording import one_line


def choose_engine(
    setting: Setting, batch: Batch, points: Sequence[Point], *, dtype: torch.dtype, steps: Sequence[str]
) -> tuple[Engine, list[str]]:
    """Try steps of these names in their order, each on top of those that passed.

    Args:
        setting: Network, loss and plane.
        batch: Real examples, on the device, of the type `dtype`.
        points: Where to compare; some far from the center, where a mistake shows.
        dtype: torch.float32 or torch.float64.
        steps: Names of `STEPS`.

    Returns:
        The engine, and a line for each step that was dropped, with the reason.
    """
    probe = NetworkProbe(setting, fewer(batch), points, dtype)
    engine, dropped = PLAIN, []
    for name in steps:
        try:
            value = STEPS[name].proposal(engine, probe)
            candidate = engine if value is None else engine.plus(STEPS[name], value)
            reason = None if value is None else probe.objection(candidate)
        except Exception as error:  # what a user's network, torch.fx or a kernel raises
            reason = f"{type(error).__name__}: {one_line(error)[:120]}"
        if reason is None:
            engine = candidate
        else:
            dropped.append(f"{name.replace('_', '-')} dropped: {reason}")
    return engine, dropped
