"""What the tests of faults share: both writers, and why a fault cannot be made here."""

import os
from pathlib import Path

import h5py
import pytest

from tests.faults import injection, jobs
from tests.faults.aftermath import contents


@pytest.fixture(params=["root", "parallel"])
def writer(request) -> str:
    """Each writer that there is; under mpiexec, so its tests are of MPI."""
    if request.param == "parallel" and not h5py.get_config().mpi:
        pytest.skip("h5py is built without MPI; .ci/run shows how to build it with parallel HDF5")
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
