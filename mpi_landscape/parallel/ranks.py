"""The ranks of one job: who runs where, and how they fail and agree together."""

from __future__ import annotations

import faulthandler
import importlib
import os
import socket
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from mpi_landscape.errors import AgreedError, EchoedError, LandscapeError

if TYPE_CHECKING:
    from mpi_landscape.parallel.watch import Watch

T = TypeVar("T")

# What each launcher tells its processes of their number and place. SLURM comes last: its variables
# also reach processes that another launcher started inside a SLURM step.
_LAUNCHERS = (
    ("Open MPI's mpiexec", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"),
    ("a PMI launcher (MPICH's or Intel's mpiexec)", "PMI_SIZE", "PMI_RANK"),
    ("MVAPICH's mpirun", "MV2_COMM_WORLD_SIZE", "MV2_COMM_WORLD_RANK"),
    ("srun", "SLURM_STEP_NUM_TASKS", "SLURM_PROCID"),
)

# Seconds between two looks at who has arrived.
_PAUSE = 0.001
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
    """

    comm: Any = None
    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1
    host: str = ""
    watch: Watch | None = None

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
            arrival = self.comm.Ibarrier()
            while not arrival.Test():
                time.sleep(_PAUSE)
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

    def together(self, work: Callable[[], T]) -> T:
        """Run `work` on every rank; where any rank refuses, every rank refuses with that rank's words.

        Raises:
            AgreedError: What the lowest failing rank raised; rank 0's as it is, another's with its name.
        """
        if self.comm is None:
            return work()
        result: T | None = None
        refusal: str | None = None
        try:
            result = work()
        except EchoedError:
            pass  # the rank that refused says it
        except LandscapeError as error:
            refusal = str(error)
        for rank, (text, host) in enumerate(self.gather((refusal, self.host))):
            if text is not None:
                raise AgreedError(text if rank == 0 else f"rank {rank} ({host}): {text}")
        return result  # type: ignore[return-value]

    def on_root(self, work: Callable[[], T]) -> T | None:
        """Run `work` on rank 0 alone (None elsewhere); where it refuses, every rank refuses.

        Raises:
            AgreedError: What rank 0 raised.
        """
        return self.together(lambda: work() if self.is_root else None)

    def abort(self, status: int) -> NoReturn:
        """End the whole job at once: nobody may wait for a rank that is gone."""
        sys.stdout.flush()
        sys.stderr.flush()
        if self.comm is not None and self.size > 1:
            # It may wait for ever for others that cannot be reached, and no other Python code runs meanwhile (mpi4py 4.1):
            # faulthandler's clock needs none, and ends the process.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            faulthandler.dump_traceback_later(_TIME_TO_ABORT, exit=True, file=nowhere)
            self.comm.Abort(status)
        os._exit(status)


def open_ranks(environment: Mapping[str, str] = os.environ) -> Ranks:
    """Find this process's place in the job; a process alone where mpi4py is absent or nothing launched it.

    Returns:
        The ranks of MPI.COMM_WORLD (duplicated, so that no message of another library is mistaken for ours).

    Raises:
        LandscapeError: A launcher started several processes but they are not one job: each would compute everything
            and write the same file.
    """
    mpi, missing = _import_mpi()
    launcher, launched, launch_rank = _launched(environment)
    size = 1 if mpi is None else mpi.COMM_WORLD.Get_size()
    if launched > 1 and size == 1:
        if launch_rank > 0:
            # Every process finds the same thing: one line is enough.
            raise SystemExit(2)
        cause = (
            missing
            if mpi is None
            else f"mpi4py is bound to {_library(mpi)}, which that launcher does not serve"
        )
        raise LandscapeError(
            f"{launcher} started {launched} processes, but each of them is alone: {cause}; "
            f"use the launcher that belongs to the MPI library (python -m mpi_landscape.doctor shows both)"
        )
    if mpi is None:
        return Ranks(host=socket.gethostname())
    comm = mpi.COMM_WORLD.Dup()
    node = comm.Split_type(mpi.COMM_TYPE_SHARED)
    try:
        return Ranks(
            comm=comm if size > 1 else None,
            rank=comm.Get_rank(),
            size=size,
            local_rank=node.Get_rank(),
            local_size=node.Get_size(),
            host=socket.gethostname(),
        )
    finally:
        node.Free()


def library_name() -> str | None:
    """The MPI library in use, in one line; None without one."""
    mpi, _ = _import_mpi()
    return None if mpi is None else _library(mpi)


def launcher_name(environment: Mapping[str, str] = os.environ) -> str | None:
    """The launcher that started this process; None when nothing did."""
    name, launched, _ = _launched(environment)
    return name if launched else None


def is_first_process(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether this process speaks for all that the launcher started; known before MPI starts."""
    return _launched(environment)[2] == 0


def _import_mpi() -> tuple[Any, str]:
    """The mpi4py.MPI module, or None and the reason; importing it starts MPI."""
    try:
        mpi4py = importlib.import_module("mpi4py")
        # Only the main thread talks to MPI; a higher level makes every call take a lock.
        mpi4py.rc.thread_level = "funneled"
        return importlib.import_module("mpi4py.MPI"), ""
    except ImportError as error:
        return None, f"mpi4py is not usable ({str(error).splitlines()[0]})"
    except RuntimeError as error:
        return None, f"mpi4py found no MPI library ({str(error).splitlines()[0]})"


def _launched(environment: Mapping[str, str]) -> tuple[str, int, int]:
    """Name, size and rank as the launcher tells them; size 0 when there was none."""
    for name, size, rank in _LAUNCHERS:
        if environment.get(size, "").isdigit():
            place = environment.get(rank, "0")
            return name, int(environment[size]), int(place) if place.isdigit() else 0
    return "", 0, 0


def _library(mpi: Any) -> str:
    return " ".join(mpi.Get_library_version().replace("\0", "").splitlines()[0].split())
