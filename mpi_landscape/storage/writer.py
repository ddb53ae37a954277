"""Which of the two writers makes the file: every rank for itself through parallel HDF5, or rank 0 for all."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import h5py

from mpi_landscape.errors import LandscapeError
from mpi_landscape.vocabulary import Writer

CHOICES = ("auto", *get_args(Writer))


def has_parallel_hdf5() -> bool:
    """Whether this h5py was built against an MPI-enabled HDF5."""
    return bool(h5py.get_config().mpi)


def mapped_mpi_libraries(maps: Path = Path("/proc/self/maps")) -> list[str]:
    """The MPI libraries in this process's memory; more than one can only end in a crash."""
    try:
        lines = maps.read_text(errors="replace").splitlines()
    except OSError:
        return []
    files = {line.split(maxsplit=5)[5] for line in lines if len(line.split(maxsplit=5)) == 6}
    return sorted(
        name for name in files if Path(name).name.startswith(("libmpi.so", "libmpich.so", "libmpi_abi.so"))
    )


def choose_writer(request: str, size: int) -> tuple[Writer, str]:
    """The writer to use and why, in a few words.

    Args:
        request: `auto`, `parallel` or `root`.
        size: Number of ranks.

    Raises:
        LandscapeError: The parallel writer was asked for and cannot be used, or there is no such writer.
    """
    if request not in CHOICES:
        raise LandscapeError(f"--writer: {request!r} is unknown; valid are {', '.join(CHOICES)}")
    if request == "root":
        return "root", "asked for"
    libraries = mapped_mpi_libraries()
    if not has_parallel_hdf5():
        obstacle = "h5py is built without MPI"
    elif len(libraries) > 1:
        obstacle = f"h5py and mpi4py use different MPI libraries ({' and '.join(libraries)})"
    elif size == 1:
        obstacle = "there is one rank"
    else:
        return "parallel", "asked for" if request == "parallel" else "h5py has parallel HDF5"
    if request == "parallel":
        raise LandscapeError(f"--writer: parallel is not possible: {obstacle}; use auto or root")
    return "root", obstacle
