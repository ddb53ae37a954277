"""A worker's side of the coordinator: which message it sends when, and a loop that follows it under MPI.

The order of the messages is a generator that neither waits nor computes. The loop here drives it with real messages;
benchmarks/simulated_ranks.py drives thousands of it in one process, on a clock of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpi_landscape.parallel.ranks import Ranks
from mpi_landscape.parallel.stopping import Reason, Stopped
from mpi_landscape.parallel.watch import Silence

REQUEST, ORDER, RESULT, LEAVING, CLOSE, ALIVE = 1, 2, 3, 4, 5, 6
NOTHING_LEFT = -1

Sums = NDArray[np.float64]
Between = Callable[[], None]


@dataclass(frozen=True)
class Evaluate:
    """The worker evaluates a tile; to be answered by its sums, or by `Stopped` thrown in."""

    tile: int


@dataclass(frozen=True)
class Wait:
    """The worker waits for a message; to be answered when it has come, or by `Stopped` where that is allowed."""

    request: Any
    stoppable: bool


Step = Evaluate | Wait


def protocol(
    comm: Any, sums_size: int, keep: Callable[[int, Sums], None], asked: Callable[[], bool]
) -> Generator[Step, Sums | None, None]:
    """What a worker does, step by step; coordinator.py lists the messages.

    Args:
        comm: `Send` and `Irecv` of numpy buffers, as mpi4py has them.
        sums_size: The most float64 values of a result.
        keep: Called with every tile that was evaluated and its sums, before they are sent.
        asked: Whether this worker was the one to be told to stop; called at the end.
    """
    message = np.empty(1 + sums_size)
    order = np.empty(1, dtype=np.int64)

    def ask() -> Any:
        comm.Send(message[:0], dest=0, tag=REQUEST)
        return comm.Irecv(order, source=0, tag=ORDER)

    pending = ask()
    try:
        while True:
            yield Wait(pending, True)
            tile = int(order[0])
            if tile == NOTHING_LEFT:
                break
            pending = ask()
            sums = yield Evaluate(tile)
            assert sums is not None
            keep(tile, sums)
            values = sums.reshape(-1)
            message[0] = tile
            message[1 : 1 + values.size] = values
            comm.Send(message[: 1 + values.size], dest=0, tag=RESULT)
    except Stopped:
        pass
    message[0] = asked()
    comm.Send(message[:1], dest=0, tag=LEAVING)
    yield Wait(pending, False)
    yield Wait(comm.Irecv(order, source=0, tag=CLOSE), False)


def work(
    ranks: Ranks,
    sums_size: int,
    evaluate: Callable[[int, Between], Sums],
    keep: Callable[[int, Sums], None],
    stopping: Reason,
    pause: Callable[[], None],
    silence: Silence | None = None,
) -> str | None:
    """Be a worker until rank 0 closes; returns the own reason to stop, where this rank was the one to ask."""
    comm = ranks.comm
    reason: str | None = None
    nothing = np.empty(1, dtype=np.int64)

    def listen() -> None:
        while comm.Iprobe(source=0, tag=ALIVE):
            comm.Recv(nothing, source=0, tag=ALIVE)
            if silence is not None:
                silence.heard(0)

    def between() -> None:
        nonlocal reason
        if silence is not None and silence.beat:
            comm.Send(nothing[:0], dest=0, tag=ALIVE)
        if comm.Iprobe(source=0, tag=CLOSE):
            raise Stopped
        reason = stopping.reason
        if reason is not None:
            raise Stopped

    def do(step: Step) -> Sums | None:
        if isinstance(step, Evaluate):
            return evaluate(step.tile, between)
        if silence is not None:
            # While it evaluates, nothing is expected of rank 0.
            silence.heard(0)
        while not step.request.Test():
            if step.stoppable:
                between()
            if silence is not None:
                listen()
                silence.check()
            pause()
        # What rank 0 sent before its last message is here, too.
        listen()
        return None

    steps = protocol(comm, sums_size, keep, lambda: reason is not None)
    step: Step | None = next(steps)
    while step is not None:
        try:
            answer = do(step)
        except Stopped as stop:
            step = steps.throw(stop)
        else:
            step = _next(steps, answer)
    return reason


def _next(steps: Generator[Step, Sums | None, None], answer: Sums | None) -> Step | None:
    try:
        return steps.send(answer)
    except StopIteration:
        return None
