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
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpi_landscape.parallel.ranks import Ranks
from mpi_landscape.parallel.stopping import Reason, Stopped

REQUEST, ORDER, RESULT, LEAVING, CLOSE = 1, 2, 3, 4, 5
NOTHING_LEFT = -1
# What `tiles` may yield instead of a tile: nothing now, but results that are still to come may bring more.
WAIT = -2
# A blocking receive spins at 100 % of a core in most MPI libraries; a millisecond is far below any tile.
PAUSE = 0.001

Sums = NDArray[np.float64]
Between = Callable[[], None]


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
        complete, own = _Coordinator(ranks, tiles, num_tiles, sums_size, record, stopping, ahead).run(
            evaluate, keep
        )
    else:
        own = _work(ranks, sums_size, evaluate, keep, stopping)
    if ranks.share(complete):
        # A reason that came after the last tile stops nothing.
        return None
    rank, reason = next((rank, text) for rank, text in enumerate(ranks.gather(own)) if text is not None)
    return reason if rank == 0 else f"{reason} on rank {rank}"


class _Coordinator:
    """Rank 0's side: the tiles that are left, and what each worker holds."""

    def __init__(
        self,
        ranks: Ranks,
        tiles: Iterator[int],
        num_tiles: int,
        sums_size: int,
        record: Callable[[int, Sums], None],
        stopping: Reason,
        ahead: bool,
    ) -> None:
        self._ranks = ranks
        self._tiles = tiles
        self._left = self._missing = num_tiles
        self._record = record
        self._stopping = stopping
        self._ahead = ahead
        self._stopped = False
        self._reason: str | None = None
        self._buffer = np.empty(1 + sums_size)
        self._in_hand = dict.fromkeys(range(1, ranks.size), 0)
        self._asking: deque[int] = deque()
        self._open = set(range(1, ranks.size))
        self._closed: set[int] = set()
        self._sent: list[tuple[Any, Any]] = []

    def run(
        self, evaluate: Callable[[int, Between], Sums], keep: Callable[[int, Sums], None]
    ) -> tuple[bool, str | None]:
        """Returns whether every tile was recorded, and this rank's own reason to stop."""
        try:
            while (tile := self._next()) != NOTHING_LEFT:
                if tile == WAIT:
                    self._serve()
                    time.sleep(PAUSE)
                    continue
                sums = evaluate(tile, self._between)
                keep(tile, sums)
                self._take(tile, sums)
                self._serve()
        except Stopped:
            pass
        while self._open:
            self._serve()
            self._stop_if_asked()
            time.sleep(PAUSE)
        for rank in self._in_hand:
            self._close(rank)
        for request, _ in self._sent:
            request.Wait()
        return self._missing == 0, self._reason

    def _between(self) -> None:
        self._serve()
        self._stop_if_asked()
        if self._stopped:
            raise Stopped

    def _take(self, tile: int, sums: Sums) -> None:
        self._record(tile, sums)
        self._missing -= 1

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
        self._answer()

    def _next(self) -> int:
        self._stop_if_asked()
        if self._left == 0:
            return NOTHING_LEFT
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
                self._asking.append(worker)
            elif tag == RESULT:
                self._in_hand[worker] -= 1
                size = status.Get_count(MPI.DOUBLE)
                self._take(int(self._buffer[0]), self._buffer[1:size].copy())
            elif tag == LEAVING:
                self._open.discard(worker)
                if self._buffer[0] and not self._stopped:
                    self._stop()
        self._answer()
        self._sent = [(request, kept) for request, kept in self._sent if not request.Test()]

    def _answer(self) -> None:
        """Give out orders, as many as can be given now.

        Near the end nobody gets a second tile while still busy with a first: whoever is free first takes it.
        """
        waiting: deque[int] = deque()
        while self._asking:
            worker = self._asking.popleft()
            early = self._ahead and self._left > self._ranks.size
            if early or self._in_hand[worker] == 0 or self._left == 0:
                tile = self._next()
                if tile == WAIT:
                    waiting.append(worker)
                    continue
                self._in_hand[worker] += tile != NOTHING_LEFT
                self._send(worker, ORDER, tile)
            else:
                waiting.append(worker)
        self._asking = waiting

    def _close(self, worker: int) -> None:
        if worker not in self._closed:
            self._closed.add(worker)
            self._send(worker, CLOSE, 0)

    def _send(self, worker: int, tag: int, value: int) -> None:
        message = np.array([value], dtype=np.int64)
        self._sent.append((self._ranks.comm.Isend(message, dest=worker, tag=tag), message))


def _work(
    ranks: Ranks,
    sums_size: int,
    evaluate: Callable[[int, Between], Sums],
    keep: Callable[[int, Sums], None],
    stopping: Reason,
) -> str | None:
    """A worker's side; returns its own reason to stop, where it was the one to ask."""
    comm = ranks.comm
    message = np.empty(1 + sums_size)
    order = np.empty(1, dtype=np.int64)
    reason: str | None = None

    def between() -> None:
        nonlocal reason
        if comm.Iprobe(source=0, tag=CLOSE):
            raise Stopped
        reason = stopping.reason
        if reason is not None:
            raise Stopped

    def ask() -> Any:
        comm.Send(np.empty(0), dest=0, tag=REQUEST)
        return comm.Irecv(order, source=0, tag=ORDER)

    def wait(request: Any, check: Between | None) -> int:
        while not request.Test():
            if check is not None:
                check()
            time.sleep(PAUSE)
        return int(order[0])

    pending = ask()
    try:
        while (tile := wait(pending, between)) != NOTHING_LEFT:
            pending = ask()
            sums = evaluate(tile, between)
            keep(tile, sums)
            values = sums.reshape(-1)
            message[0] = tile
            message[1 : 1 + values.size] = values
            comm.Send(message[: 1 + values.size], dest=0, tag=RESULT)
    except Stopped:
        pass
    message[0] = reason is not None
    comm.Send(message[:1], dest=0, tag=LEAVING)
    wait(pending, None)
    wait(comm.Irecv(order, source=0, tag=CLOSE), None)
    return reason
