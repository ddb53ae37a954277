"""What `doctor` finds against what is there."""

import os
from importlib import metadata

import h5py
import pytest

from mpi_landscape import doctor


def test_it_names_versions_writer_and_threads(here):
    ended = here(doctor.main)
    assert ended.status == 0, ended.out
    assert f"torch {metadata.version('torch')}" in ended.out
    assert f"h5py {h5py.__version__}" in ended.out
    assert f"may run on {len(os.sched_getaffinity(0))} cores" in ended.out
    assert "root (" in ended.out  # one rank
    assert "all is well" in ended.out


def test_a_folder_that_cannot_be_written_is_found(here):
    ended = here(doctor.main, "--output", "/proc")
    assert ended.status == 1
    assert "trouble" in ended.out
    assert "/proc" in ended.out


@pytest.mark.mpi
def test_it_shows_every_rank_and_the_writer_that_will_be_used(standing):
    done = standing(3, "-m", "mpi_landscape.doctor")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3: 3 on " in done.stdout
    assert all(f"rank {rank} on " in done.stdout for rank in range(3))
    assert ("parallel (" if h5py.get_config().mpi else "root (") in done.stdout
