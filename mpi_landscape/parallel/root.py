"""Rank 0's side of the coordinator: which tiles are left, and the answers to the workers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import numpy as np

from mpi_landscape.parallel.ranks import Ranks
from mpi_landscape.parallel.roster import Roster
from mpi_landscape.parallel.stopping import Reason, Stopped
from mpi_landscape.parallel.watch import Silence
from mpi_landscape.parallel.worker import (
    ALIVE,
    CLOSE,
    LEAVING,
    NOTHING_LEFT,
    ORDER,
    REQUEST,
    RESULT,
    Between,
    Sums,
)

# What `tiles` may yield instead of a tile: nothing now, but results that are still to come may bring more.
WAIT = -2
# A blocking receive spins at 100 % of a core in most MPI libraries; a millisecond is far below any tile.
PAUSE = 0.001


def sleep() -> None:
    """Leave the core to others for a moment."""
    time.sleep(PAUSE)


class Coordinator:
    """Rank 0's side: the tiles that are left, and what each worker holds.

    Args:
        ranks: Rank 0 of the job.
        tiles: As for `run`, and so are the next ones.
        num_tiles: How many.
        sums_size: Size of the largest result.
        record: What to do with a result.
        stopping: A reason of this rank to stop.
        ahead: Whether tiles are alike, so that the next one can be given out early.
        silence: The account of who was heard of; None where nobody looks after the workers.
        clock: Seconds, to tell slow ranks from fast ones.
        pause: Called where there is nothing to do but to wait.
    """

    def __init__(
        self,
        ranks: Ranks,
        tiles: Iterator[int],
        num_tiles: int,
        sums_size: int,
        record: Callable[[int, Sums], None],
        stopping: Reason,
        *,
        ahead: bool = True,
        silence: Silence | None = None,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[], None] = sleep,
    ) -> None:
        self._ranks = ranks
        self._tiles = tiles
        self._left = self._missing = num_tiles
        self._record = record
        self._stopping = stopping
        self._silence = silence
        self._pause = pause
        held = None if ranks.watch is None else ranks.watch.tiles
        self._roster = Roster(ranks.size, ahead=ahead, clock=clock, held=held)
        self._stopped = False
        self._reason: str | None = None
        self._buffer = np.empty(1 + sums_size)
        # Workers whose request has no answer yet, in the order in which to look at them again.
        self._asking: dict[int, None] = {}
        self._waited = False
        self._open = set(range(1, ranks.size))
        self._closed: set[int] = set()
        self._sent: list[tuple[Any, Any]] = []

    def run(
        self, evaluate: Callable[[int, Between], Sums], keep: Callable[[int, Sums], None]
    ) -> tuple[bool, str | None]:
        """Returns whether every tile was recorded, and this rank's own reason to stop."""
        if self._open:
            # Everybody asks now; answered before the own first batch, nobody waits for it.
            self._pause()
            self._serve()
        while self._left or self._open:
            self._stop_if_asked()
            if self._left and self._roster.may_take(0, self._left):
                with suppress(Stopped):
                    self._evaluate(evaluate, keep)
                self._serve()
            else:
                self._serve()
                self._pause()
        for rank in self._roster.workers:
            self._close(rank)
        for request, _ in self._sent:
            request.Wait()
        return self._missing == 0, self._reason

    def _evaluate(self, evaluate: Callable[[int, Between], Sums], keep: Callable[[int, Sums], None]) -> None:
        tile = self._next()
        if tile < 0:
            if tile == WAIT:
                self._pause()
            return
        self._roster.begins()
        sums = evaluate(tile, self._between)
        keep(tile, sums)
        self._roster.ends()
        self._take(tile, sums)

    def _between(self) -> None:
        self._serve()
        self._stop_if_asked()
        if self._stopped:
            raise Stopped

    def _take(self, tile: int, sums: Sums) -> None:
        self._record(tile, sums)
        self._missing -= 1
        if self._waited:
            # A result may have brought tiles for those who found none.
            self._waited = False
            for worker in list(self._asking):
                self._answer(worker)

    def _stop_if_asked(self) -> None:
        if not self._stopped:
            self._reason = self._stopping.reason
            if self._reason is not None:
                self._stop()

    def _stop(self) -> None:
        self._stopped = True
        self._left = 0
        for rank in self._open:
            self._close(rank)
        self._answer_rest()

    def _next(self) -> int:
        """The next tile; WAIT, or NOTHING_LEFT where they end before their number."""
        tile = next(self._tiles, NOTHING_LEFT)
        if tile == NOTHING_LEFT:
            self._missing -= self._left
            self._left = 0
        elif tile != WAIT:
            self._left -= 1
        return tile

    def _serve(self) -> None:
        comm = self._ranks.comm
        if comm is None:
            return
        from mpi4py import MPI  # here, because a process alone needs no MPI at all

        status = MPI.Status()
        # Twice: MPICH looks first and lets messages in afterwards, so one probe would answer a batch too late.
        while comm.Iprobe(status=status) or comm.Iprobe(status=status):
            worker, tag = status.Get_source(), status.Get_tag()
            comm.Recv(self._buffer, source=worker, tag=tag, status=status)
            if self._silence is not None:
                self._silence.heard(worker)
            if tag == REQUEST:
                self._asking[worker] = None
                self._answer(worker)
            elif tag == RESULT:
                self._roster.finished(worker)
                # Before the result is written: the worker may be waiting.
                self._answer(worker)
                size = status.Get_count(MPI.DOUBLE)
                self._take(int(self._buffer[0]), self._buffer[1:size].copy())
            elif tag == LEAVING:
                self._open.discard(worker)
                if self._silence is not None:
                    self._silence.forget(worker)
                if self._buffer[0] and not self._stopped:
                    self._stop()
        if self._asking:
            # One at a time, or every look would cost as much as there are ranks.
            worker = next(iter(self._asking))
            del self._asking[worker]
            self._asking[worker] = None
            self._answer(worker)
        if self._left == 0:
            self._answer_rest()
        if self._silence is not None:
            self._look_after(self._silence)
        self._sent = [(request, kept) for request, kept in self._sent if not request.Test()]

    def _look_after(self, silence: Silence) -> None:
        """Let those who wait hear of rank 0, and see whether anybody has been silent for too long."""
        if silence.beat:
            # Whoever has got its last message would never take another.
            gone = self._roster.workers - self._open
            for worker in {*self._asking, *gone} - self._closed:
                self._send(worker, ALIVE, 0)
        silence.check()

    def _answer(self, worker: int) -> None:
        """Answer a worker's request, if it has one and can have an answer now."""
        if worker not in self._asking:
            return
        if self._left == 0:
            del self._asking[worker]
            self._send(worker, ORDER, NOTHING_LEFT)
        elif self._roster.may_take(worker, self._left):
            tile = self._next()
            if tile == WAIT:
                self._waited = True
                return
            del self._asking[worker]
            self._send(worker, ORDER, tile)
            if tile != NOTHING_LEFT:
                self._roster.gives(worker, tile)

    def _answer_rest(self) -> None:
        for worker in self._asking:
            self._send(worker, ORDER, NOTHING_LEFT)
        self._asking.clear()

    def _close(self, worker: int) -> None:
        if worker not in self._closed:
            self._closed.add(worker)
            self._send(worker, CLOSE, 0)

    def _send(self, worker: int, tag: int, value: int) -> None:
        message = np.array([value], dtype=np.int64)
        self._sent.append((self._ranks.comm.Isend(message, dest=worker, tag=tag), message))
