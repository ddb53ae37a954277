"""What the tests of faults share: both writers, and why a fault cannot be made here."""

import os
from pathlib import Path

import h5py
import pytest

from tests.faults import injection, jobs
from tests.faults.aftermath import contents


# The writer that this h5py is chosen for: CI has one environment for each, and a fault takes seconds.
@pytest.fixture(params=["parallel" if h5py.get_config().mpi else "root"])
def writer(request) -> str:
    """The writer; under mpiexec, so its tests are of MPI."""
    if jobs.launcher() is None:
        pytest.skip("no mpiexec: pip install mpich mpi4py, or the machine's MPI (apt install openmpi-bin)")
    return request.param


@pytest.fixture
def strace() -> None:
    """System calls can be made to fail."""
    if missing := injection.strace_is_missing():
        pytest.skip(missing)
    if not Path("/proc/self/status").exists() or os.geteuid() != 0:
        pytest.skip("strace may not be allowed to trace here: run as root")


@pytest.fixture
def undisturbed():
    """What a job computes when nothing happens to it."""

    def run(job: jobs.Job) -> dict[str, bytes]:
        job.clear()
        jobs.resume_as_started(job)
        found = contents(job.file)
        job.clear()
        return found

    return run
