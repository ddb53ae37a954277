"""Nothing hangs: a rank that is gone, or silent for longer than the job's patience, ends the job and is named.

A process that ends is seen by the other ranks of its node (neighbours.py), or by the launcher. At a meeting of all ranks, who
waits tells rank 0, which says who has not come (`Watch.waiting`). While tiles are evaluated, every rank sends a message now
and then (`Watch.silence`, used by coordinator.py and worker.py). Calls that cannot be left, as into a library that closes a
file together, have their time (`Watch.in_time`).
"""

from __future__ import annotations

import faulthandler
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from mpi_landscape.errors import LostRankError
from mpi_landscape.parallel.neighbours import Neighbours

# Seconds. Reading a data set or compiling a network can take long on one rank; tiles are of a known size.
PATIENCE_BEFORE, PATIENCE_LEAST, PATIENCE_TILES = 3600.0, 300.0, 20.0
# After so long a wait rank 0 says for whom.
NOTICE = 60.0
# Rank 0 knows more than the others, who therefore wait a little longer before they speak.
LATER = 5.0
ADVICE = "what is done is kept, run the same command again to go on"


def in_tile(tiles: Mapping[int, Sequence[int]], rank: int) -> str:
    """Where a rank is at work, as far as rank 0 knows."""
    held = tiles.get(rank)
    return f" in the middle of tile {held[0]}" if held else ""


class Watch:
    """How long the ranks of a communicator wait for each other.

    Args:
        comm: Of these ranks, for its messages alone.
        names: Of these ranks, for people.
        clock: Whose `awake` is the time for which this process has run.
        patience: Seconds; None for what fits the work.
        tiles: By rank, the tiles that it holds; kept by the coordinator.
    """

    def __init__(
        self,
        comm: Any,
        names: Sequence[str],
        clock: Neighbours,
        patience: float | None,
        tiles: dict[int, list[int]],
    ) -> None:
        self._comm, self._names, self._clock, self._patience = comm, names, clock, patience
        self.tiles = tiles
        self._meetings = 0
        # By rank, the last meeting that it is known to have come to.
        self._came: dict[int, int] = {}
        self._sent: list[tuple[Any, Any]] = []
        self._received = 0

    def over(self, comm: Any, members: Sequence[int]) -> Watch:
        """The same for a part of the ranks. Collective among them.

        Args:
            comm: Of these ranks.
            members: Their places in this watch.
        """
        names = [self._names[member] for member in members]
        return Watch(comm.Dup(), names, self._clock, self._patience, {})

    def close(self) -> None:
        """Give the communicator back, when all is over. Collective.

        Every message is taken first: MPICH frees no communicator for which one is under way.
        """
        sent = sum(self._comm.allgather(len(self._sent)))
        while self._comm.Get_rank() == 0 and self._received < sent:
            self._take()
        for request, _ in self._sent:
            request.Wait()
        self._comm.Free()

    def awake(self) -> float:
        """Seconds for which this process has run."""
        return self._clock.awake

    def patience(self, tile_seconds: float | None = None) -> float:
        """Seconds of silence after which a rank counts as lost.

        Args:
            tile_seconds: What a tile is expected to take; None where nothing is known of the work.
        """
        if self._patience is not None:
            return self._patience
        return PATIENCE_BEFORE if tile_seconds is None else max(PATIENCE_LEAST, PATIENCE_TILES * tile_seconds)

    def goes_on(self, patience: float | None) -> None:
        """This rank is not stuck, and will say so again in time; None: nothing is expected of it from here on."""
        # Others that miss it speak first: they know what it was at work on.
        self._clock.due = None if patience is None else self.awake() + 2 * patience + LATER

    def waiting(self) -> Callable[[], None]:
        """A function to be called while this rank waits for all others at a meeting.

        Raises:
            LostRankError: By that function: they do not come.
        """
        self._meetings += 1
        number, since, limit = self._meetings, self.awake(), self.patience()
        notice = min(NOTICE, limit / 2)
        told = False

        def look() -> None:
            nonlocal told
            waited = self.awake() - since
            if waited < notice:
                return
            if self._comm.Get_rank() > 0:
                if not told:
                    self._tell(number)
                    told = True
                if waited > limit + LATER:
                    raise LostRankError(f"waited {waited:.0f} s in vain for {self._names[0]}; {ADVICE}")
                return
            missing = self._missing(number)
            # Who waits as long as we do needs a moment to say so.
            if not told and waited > notice + 1:
                sys.stderr.write(f"waiting for {_list(missing)}, {waited:.0f} s so far\n")
                told = True
            if waited > limit and missing:
                raise LostRankError(f"waited {waited:.0f} s in vain for {_list(missing)}; {ADVICE}")

        return look

    def _tell(self, number: int) -> None:
        message = np.array([number], dtype=np.int64)
        self._sent.append((self._comm.Isend(message, dest=0), message))

    def _missing(self, number: int) -> list[str]:
        """Who has not come to the meeting of this number, on rank 0."""
        while self._comm.Iprobe():
            self._take()
        return [name for place, name in enumerate(self._names) if place and self._came.get(place, 0) < number]

    def _take(self) -> None:
        """Receive one message, on rank 0."""
        from mpi4py import MPI

        message, status = np.empty(1, dtype=np.int64), MPI.Status()
        self._comm.Recv(message, status=status)
        self._came[status.Get_source()] = int(message[0])
        self._received += 1

    def silence(self, ranks: Sequence[int], patience: float) -> Silence:
        """An account of when some ranks were last heard of.

        Args:
            ranks: Their numbers.
            patience: Seconds.
        """
        return Silence(self, ranks, patience)

    def lost(self, rank: int, seconds: float) -> LostRankError:
        """What to raise of a rank that is silent."""
        return LostRankError(
            f"{self._names[rank]} has not been heard of for {seconds:.0f} s{in_tile(self.tiles, rank)}; {ADVICE}"
        )

    @contextmanager
    def in_time(self) -> Iterator[None]:
        """End this process where the block, a call into a library that may keep Python from running, takes too long."""
        faulthandler.dump_traceback_later(self.patience(), exit=True)
        try:
            yield
        finally:
            faulthandler.cancel_dump_traceback_later()


class Silence:
    """When some ranks were last heard of."""

    def __init__(self, watch: Watch, ranks: Sequence[int], patience: float) -> None:
        self._watch, self._patience = watch, patience
        self._heard = dict.fromkeys(ranks, watch.awake())
        self._looked = self._beaten = watch.awake()

    @property
    def beat(self) -> bool:
        """Whether it is time to let others hear of this rank; True once in a while. Whoever asks is not stuck."""
        self._watch.goes_on(self._patience)
        now = self._watch.awake()
        if now - self._beaten < min(10.0, self._patience / 5):
            return False
        self._beaten = now
        return True

    def heard(self, rank: int) -> None:
        """A message has come from it."""
        self._heard[rank] = self._watch.awake()

    def over(self) -> None:
        """The work is done."""
        self._watch.goes_on(None)

    def forget(self, rank: int) -> None:
        """Nothing more is expected of it."""
        self._heard.pop(rank, None)

    def check(self) -> None:
        """To be called when all messages that have come are taken.

        Raises:
            LostRankError: Somebody has been silent for too long.
        """
        now = self._watch.awake()
        if now == self._looked:
            return
        self._looked = now
        self._watch.goes_on(self._patience)
        rank, last = min(self._heard.items(), key=lambda item: item[1], default=(0, now))
        if now - last > self._patience:
            raise self._watch.lost(rank, now - last)


def _list(names: Sequence[str]) -> str:
    """Names for people, the first of them where they are many."""
    more = f" and {len(names) - 4} more" if len(names) > 5 else ""
    return ", ".join(names[: 4 if more else 5]) + more
