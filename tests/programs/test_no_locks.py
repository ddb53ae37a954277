"""File systems that know no locks, as NFS and Lustre mounts often do: the programs work, and say what it means."""

import os
import subprocess
import sys
from pathlib import Path

import h5py
import pytest

from tests.programs.conftest import FAR

WITHOUT = str(Path(__file__).with_name("without_locks.py"))
WARNING = "its file system has no locks; make sure that no other job writes it"

# What each system call fails with: NFS without a lock service, NFS and Lustre mounted without flock, ...
ERRORS = ["ENOLCK", "EOPNOTSUPP", "ENOSYS"]


def _without_locks(error, *argv, launcher=()):
    words = [*launcher, sys.executable, WITHOUT, error, sys.executable, *map(str, argv)]
    # Without what an Open MPI in this very process has left for its children.
    return subprocess.run(words, capture_output=True, text=True, timeout=FAR, env=dict(os.environ))


@pytest.fixture(autouse=True)
def _unset(monkeypatch):
    """What a user sees who has not read about HDF5 and locks."""
    monkeypatch.delenv("HDF5_USE_FILE_LOCKING", raising=False)


@pytest.mark.parametrize("error", ERRORS)
def test_no_lock_can_be_had_in_these_tests(tmp_path, error):
    # The premise: HDF5 with locks, as other programs open files, would meet it.
    program = f"""
import errno, fcntl
number = errno.{error}
for take in (lambda file: fcntl.flock(file, fcntl.LOCK_EX), lambda file: fcntl.lockf(file, fcntl.LOCK_EX)):
    with open({str(tmp_path / "file")!r}, "w") as file:
        try:
            take(file)
        except OSError as error:
            assert error.errno == number, error
        else:
            raise SystemExit("it was locked")
"""
    done = _without_locks(error, "-c", program)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_surface_is_computed_and_resumed_without_locks(study, contents, computed):
    computed("--output", str(study.folder / "reference.h5"))
    program = ("-m", "mpi_landscape.surface", study.configuration)
    first = _without_locks("ENOLCK", *program)
    assert first.returncode == 0, first.stderr
    assert first.stderr.count(WARNING) == 1
    with h5py.File(study.output, "r+") as file:
        file["tiles/status"][3] = 0
    again = _without_locks("ENOLCK", *program)
    assert again.returncode == 0, again.stderr
    assert "19 of them done before" in again.stdout
    assert contents(study.output) == contents(study.folder / "reference.h5")
    shown = _without_locks("ENOLCK", "-m", "mpi_landscape.inspect", study.output)
    assert (shown.returncode, shown.stderr) == (0, "")
    drawn = _without_locks("ENOLCK", "-m", "plotting", study.output, "--kind", "heatmap")
    assert (drawn.returncode, drawn.stderr) == (0, "")


@pytest.mark.mpi
@pytest.mark.slow
def test_every_rank_writes_without_locks(study, contents, computed, launcher):
    if not h5py.get_config().mpi:
        pytest.skip("h5py is built without MPI; .ci/run shows how to build it with parallel HDF5")
    computed("--output", str(study.folder / "reference.h5"))
    program = ("-m", "mpi_landscape.surface", study.configuration, "--writer", "parallel")
    done = _without_locks("ENOLCK", *program, launcher=launcher(2))
    assert done.returncode == 0, done.stderr
    assert "parallel writer" in done.stdout
    assert done.stderr.count(WARNING) == 1
    assert contents(study.output) == contents(study.folder / "reference.h5")
