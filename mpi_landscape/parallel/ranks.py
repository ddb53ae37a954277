"""The ranks of one job: who runs where, and how they fail and agree together."""

from __future__ import annotations

import faulthandler
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from mpi_landscape.errors import AgreedError, EchoedError, LandscapeError

if TYPE_CHECKING:
    from mpi_landscape.parallel.watch import Watch

T = TypeVar("T")

# Seconds between two looks at who has arrived.
_PAUSE = 0.001
# For so long it looks again at once: ranks that do the same work come together within microseconds, and three times in a product
# of a few milliseconds a pause would be a third of it.
_AT_ONCE = 0.0002
_TIME_TO_ABORT = 5.0


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """This process among the processes of the job.

    Attributes:
        comm: The communicator of all ranks; None when there is one rank and MPI is not in use.
        rank: 0 to size - 1; rank 0 coordinates.
        size: Number of ranks in the job.
        local_rank: 0 to local_size - 1, this process among those that share its node's memory.
        local_size: Number of ranks on this node.
        host: The node's name.
        watch: Who looks after the others while waiting for them; None where nobody does.
        is_part: Whether these are some of a job's ranks, such as those of a node, and not all of them.
    """

    comm: Any = None
    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1
    host: str = ""
    watch: Watch | None = None
    is_part: bool = False

    @property
    def is_root(self) -> bool:
        """Whether this is rank 0."""
        return self.rank == 0

    def meet(self) -> None:
        """Wait until every rank is here, without keeping a core busy.

        A blocking collective spins at 100 % of a core in most MPI libraries, and the core that it takes may be the
        one on which a slower rank is still reading data.
        """
        if self.comm is not None:
            look = self.watch.waiting() if self.watch is not None else None
            arrival, begun = self.comm.Ibarrier(), time.monotonic()
            while not arrival.Test():
                time.sleep(0 if time.monotonic() - begun < _AT_ONCE else _PAUSE)
                if look is not None:
                    look()

    def gather(self, value: T) -> list[T]:
        """One small value from every rank, in rank order, on every rank."""
        self.meet()
        return [value] if self.comm is None else list(self.comm.allgather(value))

    def share(self, value: T) -> T:
        """Rank 0's small value, on every rank."""
        self.meet()
        return value if self.comm is None else self.comm.bcast(value, root=0)

    @contextmanager
    def together(self) -> Iterator[None]:
        """Run the body of a `with` on every rank; where any rank refuses in it, every rank refuses with that rank's words.

        Raises:
            AgreedError: What the lowest failing rank raised; rank 0's as it is, another's with its name. In a part of a
                job every rank that refuses raises its own error and the others an `EchoedError`: the whole job agrees
                on them, and names the rank.
        """
        if self.comm is None:
            yield
            return
        refusal: LandscapeError | None = None
        try:
            yield
        except EchoedError as error:
            if self.is_part:
                refusal = error
            # Otherwise the rank that refused says it.
        except LandscapeError as error:
            refusal = error
        answers = self.gather((None if refusal is None else str(refusal), self.host))
        if self.is_part and refusal is not None:
            raise refusal
        for rank, (text, host) in enumerate(answers):
            if text is not None:
                named = text if rank == 0 else f"rank {rank} ({host}): {text}"
                raise EchoedError(text) if self.is_part else AgreedError(named)

    def on_root(self, work: Callable[[], T]) -> T | None:
        """Run `work` on rank 0 alone (None elsewhere); where it refuses, every rank refuses.

        Raises:
            AgreedError: What rank 0 raised.
        """
        result: T | None = None
        with self.together():
            if self.is_root:
                result = work()
        return result

    def say(self, text: str) -> None:
        """A line for the user, from rank 0."""
        if self.is_root and sys.stdout is not None:
            # A script's own stream may be full: a log that is lost ends no work.
            with suppress(OSError):
                sys.stdout.write(f"{text}\n")
                sys.stdout.flush()

    def abort(self, status: int) -> NoReturn:
        """End the whole job at once: nobody may wait for a rank that is gone."""
        for stream in filter(None, (sys.stdout, sys.stderr)):
            with suppress(OSError):
                stream.flush()
        if self.comm is not None and self.size > 1:
            # It may wait for ever for others that cannot be reached, and no other Python code runs meanwhile (mpi4py 4.1):
            # faulthandler's clock needs none, and ends the process.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            faulthandler.dump_traceback_later(_TIME_TO_ABORT, exit=True, file=nowhere)
            self.comm.Abort(status)
        os._exit(status)
