"""How this process was started, and the job that it belongs to."""

from __future__ import annotations

import importlib
import os
import socket
from collections.abc import Mapping
from typing import Any

from mpi_landscape.errors import LandscapeError
from mpi_landscape.parallel.ranks import Ranks

# What each launcher tells its processes of their number and place. SLURM comes last: its variables
# also reach processes that another launcher started inside a SLURM step.
_LAUNCHERS = (
    ("Open MPI's mpiexec", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"),
    ("a PMI launcher (MPICH's or Intel's mpiexec)", "PMI_SIZE", "PMI_RANK"),
    ("MVAPICH's mpirun", "MV2_COMM_WORLD_SIZE", "MV2_COMM_WORLD_RANK"),
    ("srun", "SLURM_STEP_NUM_TASKS", "SLURM_PROCID"),
)


def open_ranks(environment: Mapping[str, str] = os.environ) -> Ranks:
    """Find this process's place in the job; a process alone where mpi4py is absent or nothing launched it.

    Returns:
        The ranks of MPI.COMM_WORLD (duplicated, so that no message of another library is mistaken for ours; `watched`
        frees the duplicate).

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
    if mpi is None or size == 1:
        return Ranks(host=socket.gethostname())
    comm = mpi.COMM_WORLD.Dup()
    node = comm.Split_type(mpi.COMM_TYPE_SHARED)
    try:
        return Ranks(
            comm=comm,
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
