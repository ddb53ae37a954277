"""A job from the moment that its ranks watch over each other to its end."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from mpi_landscape.parallel.ending import end_launcher_later
from mpi_landscape.parallel.neighbours import Neighbours, Process, this_process
from mpi_landscape.parallel.ranks import Ranks
from mpi_landscape.parallel.watch import ADVICE, Watch, in_tile

# Seconds between two looks at who has come.
_PAUSE = 0.01


def all_here(ranks: Ranks, what: str, *, said_after: float = 30.0, limit: float = 1800.0) -> None:
    """Wait until every rank of a job is here; a script may have sent one alone. Collective.

    Before the ranks watch over each other nobody else would end the waiting.

    Args:
        ranks: The job's.
        what: What they do here, for messages.
        said_after: Seconds until it is said that others are waited for.
        limit: Seconds until the job is ended.
    """
    if ranks.comm is None:
        return
    start, said = time.monotonic(), False
    arrival = ranks.comm.Ibarrier()
    while not arrival.Test():
        time.sleep(_PAUSE)
        waited = time.monotonic() - start
        if waited > said_after and not said:
            said = True
            sys.stderr.write(
                f"rank {ranks.rank} waits for others of the {ranks.size} ranks: {what} is for all of them together\n"
            )
            sys.stderr.flush()
        if waited > limit:
            _end(
                ranks,
                f"rank {ranks.rank} has waited {limit:g} s for other ranks: {what} must be called by all {ranks.size} ranks, and "
                f"not under `if rank == 0`; or start one process without mpiexec",
            )


@contextmanager
def watched(ranks: Ranks, patience: float | None = None) -> Iterator[Ranks]:
    """The same ranks, watching over each other. Collective; a process alone has nobody to wait for.

    At a good end the communicators are freed: MPICH has 2,048 in a process, and a script may compute many surfaces.

    Args:
        ranks: The job's; of no more use afterwards.
        patience: Seconds of silence after which a rank counts as lost; None for what fits the work.
    """
    if ranks.comm is None:
        yield ranks
        return
    processes = ranks.gather(this_process(ranks.rank, ranks.host))
    own = processes[ranks.rank]
    near = [each for each in processes if each.space == own.space and each.rank != ranks.rank]
    tiles: dict[int, list[int]] = {}

    def lost(process: Process) -> None:
        # The first of those who see it speaks; the others come in where that one cannot.
        time.sleep(sum(each.rank < own.rank for each in near if each is not process))
        _end(ranks, f"{_name(process, len(processes))} is gone{in_tile(tiles, process.rank)}; {ADVICE}")

    def stuck() -> None:
        _end(ranks, f"{_name(own, len(processes))} hangs in the middle of its work; {ADVICE}")

    with Neighbours(near, lost, stuck) as neighbours:
        names = [_name(process, len(processes)) for process in processes]
        watch = Watch(ranks.comm.Dup(), names, neighbours, patience, tiles)
        yield replace(ranks, watch=watch)
        watch.close()
        ranks.comm.Free()


def _name(process: Process, size: int) -> str:
    return f"rank {process.rank} of {size} ({process.host}, process {process.number})"


def _end(ranks: Ranks, text: str) -> None:
    sys.stderr.write(f"error: {text}\n")
    sys.stderr.flush()
    end_launcher_later()
    ranks.abort(1)
