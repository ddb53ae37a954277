"""A launcher that does not end by itself is ended, and no other process is."""

import shutil
import subprocess
import sys
import time

import psutil
import pytest

PROGRAM = """
import os, sys, time
from mpi_landscape.parallel import ending
ending.TIME_TO_END = 1
ending.end_launcher_later()
print(os.getpid(), flush=True)
"""


@pytest.fixture
def launcher(tmp_path):
    """A shell under another name that starts a rank, and waits for ever when that has ended."""

    def start(name):
        path = tmp_path / name
        shutil.copy(shutil.which("sh"), path)
        process = subprocess.Popen(
            [path, "-c", f'"{sys.executable}" -c "$0"; while :; do sleep 1; done', PROGRAM],
            stdout=subprocess.PIPE,
            text=True,
        )
        process.stdout.readline()
        return process

    return start


@pytest.mark.parametrize("name", ["mpiexec", "mpirun"])
def test_a_launcher_that_does_not_end_by_itself_is_ended(launcher, name):
    assert launcher(name).wait(300) == -9


def test_another_parent_is_left_alone(launcher):
    process = launcher("bash")
    time.sleep(3)
    try:
        assert process.poll() is None
        assert psutil.pid_exists(process.pid)
    finally:
        process.kill()
        process.wait()
