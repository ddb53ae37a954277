"""Memory that the ranks of a node share, through MPI's shared-memory windows."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from mpi_landscape.errors import AgreedError
from mpi_landscape.parallel.ranks import Ranks
from mpi_landscape.parallel.watch import Watch

T = TypeVar("T")

# Of the address; a rank's own arrays have the same alignment, so that kernels take the same way.
_ALIGNMENT = 64
# What an MPI library keeps beside the block that is asked for, generously.
_SLACK = 2**24
# Bytes that are never taken of the file system's: others on the node use it, too.
_RESERVE = 2**26


class Node:
    """The ranks of a node and the memory that they share. A resource: `with Node(ranks) as node`, on every rank.

    A process alone, or one without MPI, has plain memory.

    Args:
        ranks: The job.
        environment: Variables of the process.
    """

    def __init__(self, ranks: Ranks, environment: Mapping[str, str] = os.environ) -> None:
        self._environment = environment
        self._windows: dict[int, Any] = {}
        self._comm: Any = None
        if ranks.comm is not None and ranks.local_size > 1:
            # As in open_ranks; the number only says that all ranks of a node are of one kind.
            self._comm = ranks.comm.Split_type(_mpi().COMM_TYPE_SHARED)
        self._ranks = Ranks(
            comm=self._comm,
            rank=ranks.local_rank if self._comm is not None else 0,
            size=ranks.local_size if self._comm is not None else 1,
            host=ranks.host,
            watch=_watch(ranks, self._comm),
            is_part=True,
        )

    def __enter__(self) -> Node:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Freeing waits for every rank of the node. After an error that this rank alone has met, the others may be
        # anywhere, and the job is about to be ended.
        if kind is None or issubclass(kind, AgreedError):
            for address in list(self._windows):
                self._free(address)
            if self._comm is not None:
                self._ranks.meet()
                if self._ranks.watch is not None:
                    self._ranks.watch.close()
                self._comm.Free()
                self._comm = None

    @property
    def rank(self) -> int:
        """This process among those of the node."""
        return self._ranks.rank

    @property
    def size(self) -> int:
        """Number of ranks on this node."""
        return self._ranks.size

    def share(self, value: T) -> T:
        """The small value of the node's first rank, on every rank of the node. Collective."""
        return self._ranks.share(value)

    def gather(self, value: T) -> list[T]:
        """One small value of every rank of the node, on every rank of it; what they wrote is there for all. Collective."""
        self._sync()
        values = self._ranks.gather(value)
        self._sync()
        return values

    @contextmanager
    def together(self) -> Iterator[None]:
        """Run the body of a `with` on every rank of the node; where one refuses, all do, with its words. Collective.

        Raises:
            LandscapeError: What this rank raised; EchoedError where only others did.
        """
        try:
            with self._ranks.together():
                try:
                    yield
                finally:
                    self._sync()
        finally:
            # Now what the others wrote is there.
            self._sync()

    def has_room(self, num_bytes: int) -> bool:
        """Whether so many bytes can be shared. Collective.

        MPI backs shared memory by a file in memory, whose size is granted at once and whose pages are found when they are
        written: where there are too few of them, the process is killed by SIGBUS. So it is asked beforehand.
        """
        if self._comm is None:
            return True  # of its own, and how much there is has been asked before
        return bool(self.share(room(self._environment) >= num_bytes + _SLACK if self.rank == 0 else None))

    def allocate(self, num_bytes: int) -> NDArray[np.uint8]:
        """The same bytes on every rank of the node. Collective; ask `has_room` before."""
        if self._comm is None:
            return _aligned(np.empty(num_bytes + _ALIGNMENT, dtype=np.uint8), None)[:num_bytes]
        mpi = _mpi()
        own = num_bytes + _ALIGNMENT if self.rank == 0 else 0
        window = mpi.Win.Allocate_shared(own, 1, comm=self._comm)
        # A passive epoch for as long as it lives: plain loads and stores, ordered by Sync and a barrier.
        window.Lock_all(mpi.MODE_NOCHECK)
        buffer, _ = window.Shared_query(0)
        whole = np.ndarray(buffer=buffer, dtype=np.uint8, shape=(num_bytes + _ALIGNMENT,))
        # Ranks see it at different addresses, which differ by whole pages.
        offset = self.share(-whole.ctypes.data % _ALIGNMENT)
        memory = _aligned(whole, offset)[:num_bytes]
        self._windows[memory.ctypes.data] = window
        return memory

    def release(self, memory: NDArray[np.uint8]) -> None:
        """Give back what `allocate` gave, which nobody uses any more. Collective."""
        if memory.ctypes.data in self._windows:
            self._free(memory.ctypes.data)

    def _free(self, address: int) -> None:
        self._ranks.meet()
        window = self._windows.pop(address)
        window.Unlock_all()
        window.Free()

    def _sync(self) -> None:
        for window in self._windows.values():
            window.Sync()


def _watch(ranks: Ranks, comm: Any) -> Watch | None:
    """For those of a node: one that reads data for ever keeps the others of its node first."""
    if comm is None or ranks.watch is None:
        return None
    return ranks.watch.over(comm, comm.allgather(ranks.rank))


def room(environment: Mapping[str, str] = os.environ) -> int:
    """Bytes that are free where this machine's MPI puts shared memory."""
    # MPICH and Intel's MPI: POSIX shared memory. Open MPI since version 4: the same folder unless told otherwise, before
    # that its session's folder.
    named = environment.get("OMPI_MCA_osc_sm_backing_directory")
    folders = [Path(named)] if named else []
    folders += [Path("/dev/shm")] if Path("/dev/shm").is_dir() else [Path(tempfile.gettempdir())]
    return min(shutil.disk_usage(folder).free for folder in folders if folder.is_dir()) - _RESERVE


def _aligned(whole: NDArray[np.uint8], offset: int | None) -> NDArray[np.uint8]:
    return whole[-whole.ctypes.data % _ALIGNMENT if offset is None else offset :]


def _mpi() -> Any:
    from mpi4py import MPI

    return MPI
