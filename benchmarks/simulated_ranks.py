"""Many ranks in one process, on a clock of their own: the real coordinator and the real protocol of its workers.

Rank 0 is the program's `Coordinator`, run as it is: its evaluation of a tile, its pauses and every message that it handles
advance the clock. Workers are the program's generator `protocol`, resumed by events: a tile's end, a message's arrival.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from mpi4py import MPI

from mpi_landscape.parallel.ranks import Ranks
from mpi_landscape.parallel.root import PAUSE, Coordinator
from mpi_landscape.parallel.stopping import Stopped
from mpi_landscape.parallel.worker import CLOSE, ORDER, RESULT, Evaluate, Step, protocol


@dataclass(frozen=True, kw_only=True)
class Costs:
    """Times in seconds.

    Attributes:
        latency: From a message's start to its arrival.
        request: Of rank 0's processor, for a request and its answer.
        result: The same for a tile's result, without writing it.
        write: To write a tile.
        root_writes: Whether rank 0 writes all tiles, or each rank its own.
    """

    latency: float = 2e-6
    request: float = 5e-6
    result: float = 5e-6
    write: float = 2e-4
    root_writes: bool = True


@dataclass(kw_only=True)
class Outcome:
    """What happened.

    Attributes:
        seconds: Until the last result was recorded.
        evaluated: (rank, tile) in the order in which they ended.
        recorded: Tiles in the order in which rank 0 recorded them.
        messages: How many rank 0 received.
        busy: Seconds of evaluating and writing, per rank.
        ended: When each rank finished its last tile.
        complete: Whether the coordinator says that all is done.
        reasons: Who gave a reason to stop.
        stray: Messages that nobody took, and workers that never ended.
    """

    seconds: float = 0.0
    evaluated: list[tuple[int, int]] = field(default_factory=list)
    recorded: list[int] = field(default_factory=list)
    messages: int = 0
    busy: list[float] = field(default_factory=list)
    ended: list[float] = field(default_factory=list)
    complete: bool = False
    reasons: dict[int, str] = field(default_factory=dict)
    stray: int = 0


def simulate(
    tiles: Sequence[int],
    speeds: Sequence[float],
    *,
    batches: Callable[[int], int],
    batch_seconds: float,
    costs: Costs | None = None,
    jitter: float = 0.0,
    seed: int = 0,
    ahead: bool = True,
    stops: Mapping[int, float] | None = None,
) -> Outcome:
    """Play a job.

    Args:
        tiles: Numbers of the tiles, in their order.
        speeds: Of every rank, rank 0 first; 1 needs `batch_seconds` for a batch.
        batches: A tile's number to how many batches it has.
        batch_seconds: Seconds of a batch at speed 1.
        costs: Of messages and writes.
        jitter: Standard deviation of a tile's time, as a share of it.
        seed: Of the jitter.
        ahead: As for `coordinator.run`.
        stops: Ranks that are told to stop, and when.
    """
    return _World(
        tiles,
        speeds,
        batches=batches,
        batch_seconds=batch_seconds,
        costs=costs or Costs(),
        jitter=jitter,
        seed=seed,
        ahead=ahead,
        stops=stops or {},
    ).play()


class _World:
    """The clock, the events to come, and what the ranks share."""

    def __init__(
        self,
        tiles: Sequence[int],
        speeds: Sequence[float],
        *,
        batches: Callable[[int], int],
        batch_seconds: float,
        costs: Costs,
        jitter: float,
        seed: int,
        ahead: bool,
        stops: Mapping[int, float],
    ) -> None:
        # Rank 0's time; the workers' events lie before it or are still to come.
        self.now = 0.0
        self.tiles, self.speeds, self.costs, self.ahead, self.stops = tiles, speeds, costs, ahead, stops
        self.batches, self.batch_seconds, self.jitter = batches, batch_seconds, jitter
        self.random = random.Random(seed)
        self.inbox: deque[tuple[int, int, Any]] = deque()
        self.outcome = Outcome(busy=[0.0] * len(speeds), ended=[0.0] * len(speeds))
        self._events: list[tuple[float, int, Callable[[float], None]]] = []
        self._count = 0

    def play(self) -> Outcome:
        size, outcome = len(self.speeds), self.outcome
        self.workers: list[Any] = [None, *(_Worker(self, rank) for rank in range(1, size))]
        for worker in self.workers[1:]:
            self.at(0.0, worker.start)
            if worker.rank in self.stops:
                self.at(self.stops[worker.rank], worker.told)
        coordinator = Coordinator(
            Ranks(comm=_Root(self) if size > 1 else None, size=size),
            iter(self.tiles),
            len(self.tiles),
            1,
            self._record,
            self,
            ahead=self.ahead,
            clock=lambda: self.now,
            pause=self._pause,
        )
        outcome.complete, reason = coordinator.run(self._evaluate, self._keep)
        if reason is not None:
            outcome.reasons[0] = reason
        while self._events:
            self.run_until(self._events[0][0])
        outcome.stray = len(self.inbox) + sum(not worker.over for worker in self.workers[1:])
        return outcome

    @property
    def reason(self) -> str | None:
        """Rank 0's own."""
        return "told" if self.now >= self.stops.get(0, np.inf) else None

    def at(self, time: float, act: Callable[[float], None]) -> None:
        self._count += 1
        heapq.heappush(self._events, (time, self._count, act))

    def run_until(self, time: float) -> None:
        while self._events and self._events[0][0] <= time:
            when, _, act = heapq.heappop(self._events)
            act(when)

    def seconds(self, rank: int, tile: int) -> tuple[float, int]:
        """How long a batch of this tile takes this rank, and how many there are."""
        factor = max(0.1, self.random.gauss(1.0, self.jitter)) if self.jitter else 1.0
        return self.batch_seconds / self.speeds[rank] * factor, self.batches(tile)

    def note(self, rank: int, tile: int, busy: float, time: float) -> None:
        self.outcome.evaluated.append((rank, tile))
        self.outcome.busy[rank] += busy
        self.outcome.ended[rank] = time

    def _pause(self) -> None:
        self.now += PAUSE
        if not self.inbox and self._events and self._events[0][0] > self.now:
            # Looks that find nothing need not be played.
            self.now += PAUSE * np.ceil((self._events[0][0] - self.now) / PAUSE)

    def _evaluate(self, tile: int, between: Callable[[], None]) -> Any:
        batch, count = self.seconds(0, tile)
        for _ in range(count):
            self.now += batch
            between()
        self.note(0, tile, batch * count, self.now)
        return np.full(1, tile, dtype=np.float64)

    def _keep(self, _tile: int, _sums: Any) -> None:
        if not self.costs.root_writes:
            self.now += self.costs.write

    def _record(self, tile: int, sums: Any) -> None:
        assert sums == tile
        if self.costs.root_writes:
            self.now += self.costs.write
        self.outcome.recorded.append(tile)
        self.outcome.seconds = self.now


class _Request:
    """A receive that a worker has posted."""

    __slots__ = ("buffer", "done", "tag")

    def __init__(self, buffer: Any, tag: int) -> None:
        self.buffer, self.tag, self.done = buffer, tag, False


class _Sent:
    """A small message: gone as soon as it is sent."""

    def Test(self) -> bool:  # noqa: N802 - mpi4py's name
        return True

    def Wait(self) -> None:  # noqa: N802
        pass


class _Root:
    """Rank 0's end of the communicator."""

    def __init__(self, world: _World) -> None:
        self._world = world

    def Iprobe(self, status: Any) -> bool:  # noqa: N802
        world = self._world
        world.run_until(world.now)
        if not world.inbox:
            return False
        source, tag, values = world.inbox[0]
        status.Set_source(source)
        status.Set_tag(tag)
        status.Set_elements(MPI.DOUBLE, len(values))
        return True

    def Recv(self, buffer: Any, source: int, tag: int, **_: Any) -> None:  # noqa: N802
        world = self._world
        found, kind, values = world.inbox.popleft()
        assert (found, kind) == (source, tag)
        buffer[: len(values)] = values
        world.now += world.costs.result if tag == RESULT else world.costs.request
        world.outcome.messages += 1

    def Isend(self, message: Any, dest: int, tag: int) -> _Sent:  # noqa: N802
        value, worker = int(message[0]), self._world.workers[dest]
        self._world.at(
            self._world.now + self._world.costs.latency, lambda now: worker.arrived(now, tag, value)
        )
        return _Sent()


class _Worker:
    """A worker, and its end of the communicator."""

    __slots__ = ("_asked", "_close", "_now", "_posted", "_step", "_steps", "_tile", "_told", "_world")
    __slots__ += ("over", "rank")

    def __init__(self, world: _World, rank: int) -> None:
        self._world, self.rank = world, rank
        self._now = 0.0
        self._posted: list[_Request] = []
        # Told to stop is not yet asking to stop: the worker looks between batches only.
        self._close = self._told = self._asked = self.over = False
        # When the tile in work began, the seconds of a batch and how many there are.
        self._tile: tuple[float, float, int] | None = None
        self._steps = protocol(self, 1, lambda *_: None, lambda: self._asked)
        self._step: Step | None = None

    def Send(self, buffer: Any, *, tag: int, **_: Any) -> None:  # noqa: N802
        message = (self.rank, tag, tuple(buffer))
        self._world.at(self._now + self._world.costs.latency, lambda _: self._world.inbox.append(message))

    def Irecv(self, buffer: Any, *, tag: int, **_: Any) -> _Request:  # noqa: N802
        request = _Request(buffer, tag)
        if tag == ORDER:
            self._posted.append(request)
        else:
            request.done = self._close
        return request

    def start(self, now: float) -> None:
        self._now = now
        self._follow(next(self._steps))

    def told(self, now: float) -> None:
        """A signal has come."""
        self._told = True
        self._stop(now)

    def arrived(self, now: float, tag: int, value: int) -> None:
        """A message from rank 0."""
        if tag == CLOSE:
            assert not self._close, "closed twice"
            self._close = True
            self._stop(now)
            return
        request = self._posted.pop(0)
        request.buffer[0], request.done = value, True
        if isinstance(self._step, Evaluate) or self._step is None or self._step.request is not request:
            return
        # A waiting worker looks once in a while.
        self.at(now + self._world.random.uniform(0, PAUSE), self._step)

    def at(self, time: float, step: Step) -> None:
        """Go on with this step then, if it is still the one."""
        self._world.at(time, lambda now: self._advance(now) if self._step is step else None)

    def _stop(self, now: float) -> None:
        """Stop at the next look: after the batch in work, or between two looks for a message."""
        step = self._step
        if isinstance(step, Evaluate):
            assert self._tile is not None
            began, batch, count = self._tile
            done = int((now - began) / batch) + 1
            if done <= count:
                self._world.at(began + done * batch, lambda then: self._interrupt(then, step))
        elif step is not None and (step.stoppable or self._close):
            self._world.at(
                now + self._world.random.uniform(0, PAUSE),
                lambda then: self._interrupt(then, step) if step.stoppable else self._look(then, step),
            )

    def _interrupt(self, now: float, step: Step) -> None:
        if self._step is not step or (not isinstance(step, Evaluate) and step.request.done):
            return
        self._now = now
        self._asked = self._told and not self._close
        self._follow(self._steps.throw(Stopped()))

    def _look(self, now: float, step: Step) -> None:
        if self._step is step and not isinstance(step, Evaluate):
            step.request.done |= step.request.tag == CLOSE
            if step.request.done:
                self._advance(now)

    def _advance(self, now: float) -> None:
        self._now = now
        sums = None
        if isinstance(self._step, Evaluate):
            assert self._tile is not None
            _, batch, count = self._tile
            self._world.note(self.rank, self._step.tile, batch * count, now)
            sums = np.full(1, self._step.tile, dtype=np.float64)
        try:
            step = self._steps.send(sums)
        except StopIteration:
            self._step, self.over = None, True
            return
        self._follow(step)

    def _follow(self, step: Step) -> None:
        self._step = step
        if isinstance(step, Evaluate):
            batch, count = self._world.seconds(self.rank, step.tile)
            self._tile = (self._now, batch, count)
            write = 0.0 if self._world.costs.root_writes else self._world.costs.write
            self.at(self._now + batch * count + write, step)
            if self._close or self._told:
                self._world.at(self._now + batch, lambda then: self._interrupt(then, step))
        elif step.request.done:
            self._advance(self._now)
        elif self._close or self._told:
            self._stop(self._now)
