"""Will it run here, and how: Python, MPI and launcher, HDF5, devices, threads, locks, free space.

mpiexec -n 4 python -m mpi_landscape.doctor
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import NoReturn

from mpi_landscape.command import execution as program
from mpi_landscape.command import parser as command_line
from mpi_landscape.errors import LandscapeError
from mpi_landscape.parallel.launcher import launcher_name, library_name
from mpi_landscape.parallel.ranks import Ranks


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run `python -m mpi_landscape.doctor`."""
    parser = command_line.parser(
        "doctor", "Show what a job would find here; start it as you would start the job."
    )
    parser.add_argument("--output", metavar="FOLDER", default=".", help="where surfaces shall be written")
    program.execute(parser, run, argv, tells=True)


def run(options: argparse.Namespace, ranks: Ranks) -> int:
    """Print the findings; returns the exit status: 1 when something will go wrong. Collective."""
    findings: list[tuple[str, str]] = [
        ("python", f"{platform.python_version()} ({sys.executable})"),
        (
            "packages",
            ", ".join(
                f"{name} {_version(name)}" for name in ("torch", "torchvision", "numpy", "h5py", "mpi4py")
            ),
        ),
        ("mpi library", library_name() or "none: one process only (pip install 'mpi_landscape[mpich]')"),
        (
            "launcher",
            f"{launcher_name() or 'none'}; mpiexec on the path: {shutil.which('mpiexec') or 'none'}",
        ),
    ]
    trouble: list[str] = []
    findings.append(("ranks", _places(ranks)))
    findings += _devices(ranks, trouble)
    findings += _storage(Path(options.output), ranks, trouble)
    for name, text in findings:
        ranks.say(f"{name:<12} {text}")
    for text in trouble:
        ranks.say(f"trouble      {text}")
    ranks.say("all is well" if not trouble else f"{len(trouble)} found that will go wrong")
    return program.FAILED if trouble else program.DONE


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "absent"


def _places(ranks: Ranks) -> str:
    hosts = ranks.gather(ranks.host)
    return f"{ranks.size}: " + ", ".join(f"{hosts.count(host)} on {host}" for host in dict.fromkeys(hosts))


def _devices(ranks: Ranks, trouble: list[str]) -> list[tuple[str, str]]:
    from mpi_landscape.parallel.devices import (
        available_cores,
        choose_device,
        device_name,
        shared_device_warning,
        thread_share,
    )

    device = choose_device("auto", ranks)
    threads = thread_share(ranks)
    warning = shared_device_warning(device, ranks)
    if warning:
        trouble.append(warning)
    places = ranks.gather(
        (ranks.host, ranks.rank, f"{device} ({device_name(device)})", threads, len(available_cores()))
    )
    rows = [
        f"rank {rank} on {host}: {name}, {threads} threads (may run on {cores} cores)"
        for host, rank, name, threads, cores in places
    ]
    return [("devices" if index == 0 else "", row) for index, row in enumerate(rows)]


def _storage(folder: Path, ranks: Ranks, trouble: list[str]) -> list[tuple[str, str]]:
    import h5py

    from mpi_landscape.storage.writer import choose_writer, has_parallel_hdf5, mapped_mpi_libraries

    writer, reason = choose_writer("auto", ranks.size)
    libraries = mapped_mpi_libraries()
    if len(libraries) > 1:
        trouble.append(f"two MPI libraries in one process: {' and '.join(libraries)}; keep one of them")
    locking = os.environ.get("HDF5_USE_FILE_LOCKING", "not set")
    found = [
        (
            "hdf5",
            f"{h5py.version.hdf5_version}, {'parallel' if has_parallel_hdf5() else 'serial'}; HDF5_USE_FILE_LOCKING {locking}",
        ),
        ("writer", f"{writer} ({reason})"),
    ]
    try:
        found.append(("output", ranks.on_root(lambda: _try_folder(folder)) or ""))
    except LandscapeError as error:
        trouble.append(str(error))
    return found


def _try_folder(folder: Path) -> str:
    """Free space, and whether files can be written and locked there.

    Raises:
        LandscapeError: They cannot be written.
    """
    import fcntl  # which is not on every system

    try:
        with tempfile.NamedTemporaryFile(dir=folder) as probe:
            try:
                fcntl.flock(probe.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
                locks = "file locks work"
            except OSError as error:
                locks = (
                    f"file locks do not work ({error.strerror}): take care that no two jobs write one file"
                )
        free = shutil.disk_usage(folder).free / 1e9
    except OSError as error:
        raise LandscapeError(f"{folder}: cannot be written: {error.strerror}") from error
    return f"{folder.resolve()}: {free:.0f} GB free, {locks}"


if __name__ == "__main__":
    main()
