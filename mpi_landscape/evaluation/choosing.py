"""Which engine a network gets: everything that is faster is compared with the network itself, and dropped where it fails.

The network itself, moved in place, is right by definition (`reference`). A copy of it is a step, threads are one, and so is
each way to rewrite a copy. Nothing is timed: an engine changes the last bits of a loss, so it follows from the network, the
data and the plane alone, and two runs of one configuration choose the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from mpi_landscape.errors import LandscapeError
from mpi_landscape.evaluation.calling import is_out_of_memory
from mpi_landscape.evaluation.engine.dataflow import observed
from mpi_landscape.evaluation.engine.description import PLAIN, Engine
from mpi_landscape.evaluation.engine.steps import STEPS
from mpi_landscape.evaluation.probe import NetworkProbe, Setting, fewer
from mpi_landscape.evaluation.reach import Reach, reach_of
from mpi_landscape.evaluation.vectors import Point
from mpi_landscape.loading.batches import Batch
from mpi_landscape.wording import one_line


@dataclass(frozen=True, kw_only=True)
class Choice:
    """How points are evaluated.

    Attributes:
        engine: How copies are rewritten.
        in_place: Whether the network itself is moved and nothing is copied.
        alone: Whether one copy works, and threads have nothing to do.
        dropped: A line for each thing that was tried and dropped, with the reason.
        rounding: By how much losses of the network itself differ by rounding alone, relative; 0 where that is as usual.
    """

    engine: Engine = PLAIN
    in_place: bool = False
    alone: bool = False
    dropped: tuple[str, ...] = ()
    rounding: float = 0.0


def choose(
    setting: Setting,
    batches: Sequence[Batch],
    points: Sequence[Point],
    *,
    dtype: torch.dtype,
    steps: Sequence[str],
    threads: int = 1,
    before: Engine | None = None,
    spare: bool = False,
) -> Choice:
    """Choose how to evaluate a network.

    Args:
        setting: Network, loss and plane.
        batches: Real examples from all of the data, on the device, of the type `dtype`.
        points: Where to compare; most far from the center, where a mistake shows.
        dtype: torch.float32 or torch.float64.
        steps: Names of `STEPS` that may be taken.
        threads: How many there are.
        before: The engine of a file that may be continued: taken where it is right, whatever else would be.
        spare: Whether a copy that nothing rewrites, in one thread, is to be spared: the network itself gives the same numbers.

    Raises:
        LandscapeError: The network itself cannot be moved in place, or it or the loss raises somewhere.
    """
    reach = reach_of(setting.model, setting.loss)
    if reach.network is not None:
        return _in_place(reach.network)
    probe = NetworkProbe(setting, batches, points, dtype)
    if spare and (threads == 1 or reach.shared) and (before is None or not before.taken):
        engine, dropped = PLAIN, list[str]()
        for name in steps:
            engine = _proposed(probe, engine, name, dropped)
        if not engine.taken:  # nothing is left that a trial could say
            dropped += [_threads_dropped(reach.shared)] if threads > 1 and reach.shared else []
            return Choice(in_place=True, alone=True, dropped=tuple(dropped))
    _ = probe.wanted  # what the network itself raises is no objection to an engine
    try:
        known = before is not None and _objection(probe, before) is None
        engine, dropped = (before, []) if known and before is not None else _steps(probe, steps)
    except _NoCopyError as error:
        return _in_place(str(error))
    if threads == 1:
        return Choice(engine=engine, dropped=tuple(dropped))
    alone = reach.shared or _drawn(probe) or _written(reach) or _objection(probe, engine, threads=threads)
    if alone is not None:
        dropped.append(_threads_dropped(alone))
    return Choice(engine=engine, alone=alone is not None, dropped=tuple(dropped))


def _threads_dropped(reason: str) -> str:
    return f"threads dropped: {reason}; more ranks, which share nothing, keep further cores busy"


def choose_engine(
    setting: Setting, batch: Batch, points: Sequence[Point], *, dtype: torch.dtype, steps: Sequence[str]
) -> tuple[Engine, list[str]]:
    """The engine of `choose` on the first examples of a batch, and what was dropped."""
    found = choose(setting, [fewer(batch)], points, dtype=dtype, steps=steps)
    return found.engine, list(found.dropped)


def _drawn(probe: NetworkProbe) -> str | None:
    """What draws random numbers, from a generator that all threads share."""
    random = observed(probe.network, probe.run).random
    return None if random is None else f"{random} draws random numbers"


def _written(reach: Reach) -> str | None:
    """What the passes until now have written to outside of the network."""
    written = reach.written()
    return None if written is None else f"{written}: a tensor outside of the network is written to"


class _NoCopyError(Exception):
    """A copy of the network is not the network."""


def _in_place(reason: str) -> Choice:
    return Choice(
        in_place=True,
        alone=True,
        dropped=(
            f"copies dropped: {reason}; the network itself is moved in place, in one thread of each rank",
        ),
    )


def _steps(probe: NetworkProbe, names: Sequence[str]) -> tuple[Engine, list[str]]:
    """All steps at once where they are right together; otherwise each on top of those that are."""
    engine, dropped = PLAIN, list[str]()
    for name in names:
        engine = _proposed(probe, engine, name, dropped)
    objection = _objection(probe, engine)
    if objection is None:
        return engine, dropped
    of_copy = _objection(probe, PLAIN) if engine.taken else objection
    if of_copy is not None:
        raise _NoCopyError(of_copy)
    engine, dropped = PLAIN, []
    for name in names:
        candidate = _proposed(probe, engine, name, dropped)
        objection = None if candidate is engine else _objection(probe, candidate)
        if objection is None:
            engine = candidate
        else:
            dropped.append(_line(name, objection))
    return engine, dropped


def _proposed(probe: NetworkProbe, engine: Engine, name: str, dropped: list[str]) -> Engine:
    """The engine with one more step, or as it is where there is nothing to do."""
    try:
        value = STEPS[name].proposal(engine, probe)
    except Exception as error:  # what a user's network, torch.fx or a kernel raises
        dropped.append(_line(name, _reason(error)))
        return engine
    return engine if value is None else engine.plus(STEPS[name], value)


def _objection(probe: NetworkProbe, engine: Engine, *, threads: int = 1) -> str | None:
    try:
        return probe.objection(engine, threads=threads)
    except Exception as error:
        if is_out_of_memory(error):  # which says nothing of the engine
            raise
        return _reason(error)


def _reason(error: Exception) -> str:
    if isinstance(error, LandscapeError):  # whose words are for people
        return one_line(error)
    return f"{type(error).__name__}: {one_line(error)[:120]}"


def _line(name: str, reason: str) -> str:
    return f"{name.replace('_', '-')} dropped: {reason}"
