"""Cheap tiles on every rank, case by case. Run by test_coordinator.py; rank 0 prints what every rank did."""

import json
import sys
import time

import numpy as np

from mpi_landscape.parallel import coordinator, root
from mpi_landscape.parallel.launcher import open_ranks
from mpi_landscape.parallel.stopping import Stopping

ranks = open_ranks()


class Told:
    """A reason to stop that comes with this rank's n-th batch."""

    def __init__(self, batches):
        self.left = batches

    @property
    def reason(self):
        return f"told rank {ranks.rank}" if self.left <= 0 else None


def sums_of(tile, width):
    """Of the tile alone, of a size that differs from tile to tile."""
    return np.arange(3.0 * (1 + tile % width)).reshape(-1, 3) + 1000 * tile


def play(case):
    size = ranks.size
    todo, width = case.get("order", list(range(case.get("tiles", 0)))), case.get("width", 2)
    pauses = case.get("pause", [0.0])
    pause = pauses[ranks.rank % len(pauses)]
    stops = {rank % size: batches for rank, batches in case.get("stop", [])}
    stopping = Stopping(case["limit"]) if "limit" in case else Told(stops.get(ranks.rank, 10**9))
    begun, evaluated, kept, recorded = [], [], [], []

    def evaluate(tile, between):
        begun.append(tile)
        for _ in range(case.get("batches", 3)):
            time.sleep(pause)
            if isinstance(stopping, Told):
                stopping.left -= 1
            between()
        evaluated.append(tile)
        return sums_of(tile, width)

    def keep(tile, sums):
        kept.append([tile, sums.tobytes() == sums_of(tile, width).tobytes()])

    # With "grows": each tile below it is followed by another one, known only when its result is in.
    grows, todo_now, outstanding = case.get("grows", 0), list(todo), set()

    def growing():
        while todo_now or outstanding:
            if todo_now:
                outstanding.add(todo_now[0])
                yield todo_now.pop(0)
            else:
                yield root.WAIT

    def record(tile, sums):
        recorded.append([tile, sums.tobytes() == sums_of(tile, width).tobytes()])
        outstanding.discard(tile)
        if tile < grows:
            todo_now.append(tile + 100)

    start = time.monotonic()
    reason = coordinator.run(
        ranks,
        tiles=(growing() if grows else iter(todo)) if ranks.is_root else iter([]),
        # With tiles that may come, an upper bound.
        num_tiles=len(todo) + 2 * grows if ranks.is_root else 0,
        sums_size=3 * width,
        evaluate=evaluate,
        keep=keep,
        record=record,
        stopping=stopping,
        ahead=case.get("ahead", True),
    )
    took = time.monotonic() - start
    stray = False
    if ranks.comm is not None:
        from mpi4py import MPI

        # A message that nobody took would meet the next case, or MPI_Finalize.
        ranks.comm.Barrier()
        time.sleep(0.01)
        stray = ranks.comm.Iprobe(source=MPI.ANY_SOURCE, tag=MPI.ANY_TAG)
        ranks.comm.Barrier()
    return ranks.gather(
        {
            "reason": reason,
            "begun": begun,
            "evaluated": evaluated,
            "kept": kept,
            "recorded": recorded,
            "stray": stray,
            "seconds": took,
        }
    )


outcomes = {name: play(case) for name, case in json.loads(sys.argv[1]).items()}
if ranks.is_root:
    json.dump(outcomes, sys.stdout)
