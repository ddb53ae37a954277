"""Rank 0 hands out tiles, every rank (rank 0 too) evaluates them, nobody waits for anybody.

Plain two-sided messages of fixed size. A worker asks for its next tile before it starts on the current one, so that no
round trip is ever waited for; rank 0 answers between its own batches. Four kinds of message:

    REQUEST  worker -> 0   "I can take one more tile"; answered by exactly one ORDER
    ORDER    0 -> worker   the number of a tile, or NOTHING_LEFT
    RESULT   worker -> 0   the number of a tile and its sums
    LEAVING  worker -> 0   the worker takes no more: 1 when it was told to stop from outside, 0 when all is done
    CLOSE    0 -> worker   exactly once: at the end, or in the middle of the work when the job stops
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import numpy as np

from mpi_landscape.parallel.pace import Pace
from mpi_landscape.parallel.ranks import Ranks
from mpi_landscape.parallel.stopping import Reason, Stopped
from mpi_landscape.parallel.worker import (
    CLOSE,
    LEAVING,
    NOTHING_LEFT,
    ORDER,
    REQUEST,
    RESULT,
    Between,
    Sums,
    work,
)

# What `tiles` may yield instead of a tile: nothing now, but results that are still to come may bring more.
WAIT = -2
# A blocking receive spins at 100 % of a core in most MPI libraries; a millisecond is far below any tile.
PAUSE = 0.001


def sleep() -> None:
    """Leave the core to others for a moment."""
    time.sleep(PAUSE)


def run(
    ranks: Ranks,
    *,
    tiles: Iterator[int],
    num_tiles: int,
    sums_size: int,
    evaluate: Callable[[int, Between], Sums],
    keep: Callable[[int, Sums], None],
    record: Callable[[int, Sums], None],
    stopping: Reason,
    ahead: bool = True,
) -> str | None:
    """Evaluate every tile exactly once, on whichever rank is free. Collective.

    Args:
        ranks: The job.
        tiles: On rank 0, the tiles to do, in the order in which to begin them; not used elsewhere. WAIT among them, only
            while a result is still to come, lets whoever asks wait for the next result.
        num_tiles: How many they are, at most: the job is complete when they end, too.
        sums_size: The most float64 values that a tile can have as its result.
        evaluate: Tile number and a function to call between batches -> the tile's sums, any shape.
        keep: Called on the rank that evaluated a tile, with its number and sums.
        record: Called on rank 0, for every tile, after `keep`.
        stopping: Asked between batches on every rank; a reason on any of them stops all.
        ahead: Whether a rank gets its next tile while it is still busy with one, so that it never waits. Not for tiles
            of very different cost: one would wait behind a long one while other ranks are idle.

    Returns:
        None when every tile is done; otherwise why the job stopped, the same words on every rank.
    """
    complete = True
    if ranks.is_root:
        coordinator = Coordinator(ranks, tiles, num_tiles, sums_size, record, stopping, ahead=ahead)
        complete, own = coordinator.run(evaluate, keep)
    else:
        own = work(ranks, sums_size, evaluate, keep, stopping, sleep)
    if ranks.share(complete):
        # A reason that came after the last tile stops nothing.
        return None
    rank, reason = next((rank, text) for rank, text in enumerate(ranks.gather(own)) if text is not None)
    return reason if rank == 0 else f"{reason} on rank {rank}"


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
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[], None] = sleep,
    ) -> None:
        self._ranks = ranks
        self._tiles = tiles
        self._left = self._missing = num_tiles
        self._record = record
        self._stopping = stopping
        self._ahead = ahead
        self._clock = clock
        self._pause = pause
        self._pace = Pace(ranks.size)
        self._stopped = False
        self._reason: str | None = None
        self._buffer = np.empty(1 + sums_size)
        self._in_hand = dict.fromkeys(range(1, ranks.size), 0)
        self._num_in_hands = 0
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
            if self._left and self._may_take(0, 0):
                with suppress(Stopped):
                    self._evaluate(evaluate, keep)
                self._serve()
            else:
                self._serve()
                self._pause()
        for rank in self._in_hand:
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
        self._pace.begins(0, self._clock())
        sums = evaluate(tile, self._between)
        keep(tile, sums)
        self._pace.ends(0, self._clock())
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
            if tag == REQUEST:
                self._asking[worker] = None
                self._answer(worker)
            elif tag == RESULT:
                self._finished(worker)
                # Before the result is written: the worker may be waiting.
                self._answer(worker)
                size = status.Get_count(MPI.DOUBLE)
                self._take(int(self._buffer[0]), self._buffer[1:size].copy())
            elif tag == LEAVING:
                self._open.discard(worker)
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
        self._sent = [(request, kept) for request, kept in self._sent if not request.Test()]

    def _finished(self, worker: int) -> None:
        now = self._clock()
        self._pace.ends(worker, now)
        self._in_hand[worker] -= 1
        self._num_in_hands -= 1
        if self._in_hand[worker]:
            self._pace.begins(worker, now)

    def _answer(self, worker: int) -> None:
        """Answer a worker's request, if it has one and can have an answer now."""
        if worker not in self._asking:
            return
        if self._left == 0:
            del self._asking[worker]
            self._send(worker, ORDER, NOTHING_LEFT)
        elif self._may_take(worker, self._in_hand[worker]):
            tile = self._next()
            if tile == WAIT:
                self._waited = True
                return
            del self._asking[worker]
            self._send(worker, ORDER, tile)
            if tile == NOTHING_LEFT:
                return
            if self._in_hand[worker] == 0:
                self._pace.begins(worker, self._clock())
            self._in_hand[worker] += 1
            self._num_in_hands += 1

    def _answer_rest(self) -> None:
        for worker in self._asking:
            self._send(worker, ORDER, NOTHING_LEFT)
        self._asking.clear()

    def _may_take(self, rank: int, in_hand: int) -> bool:
        """Near the end a tile goes to whoever will have finished it first, and nobody holds a second one."""
        if not self._ahead:
            return in_hand == 0
        return self._num_in_hands == 0 or self._pace.may_take(rank, in_hand, self._left)

    def _close(self, worker: int) -> None:
        if worker not in self._closed:
            self._closed.add(worker)
            self._send(worker, CLOSE, 0)

    def _send(self, worker: int, tag: int, value: int) -> None:
        message = np.array([value], dtype=np.int64)
        self._sent.append((self._ranks.comm.Isend(message, dest=worker, tag=tag), message))
