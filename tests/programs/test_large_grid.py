"""A grid of 10^8 points: what its file takes is said, and refused where there is no room, before anything is written."""

import re
import shutil
import subprocess
import sys

import pytest

from mpi_landscape import surface
from tests.programs.conftest import FAR

LARGE = ["--alpha=-1:1:10000", "--beta=0:2:9999", "--set", "compute.points_per_tile=auto"]
# Two splits of 8 bytes for a loss and 32 for the sums of a point: 8.0 GB, or 7.45 GiB.
GIBIBYTES = 10_000 * 9_999 * 2 * (8 + 32) / 2**30


def test_the_size_of_the_file_is_said_beforehand(study, here):
    ended = here(surface.main, study.configuration, *LARGE, "--dry-run")
    assert ended.status == 0, ended.err
    (line,) = [line for line in ended.out.splitlines() if line.startswith("file ")]
    assert line.split()[2] == "GiB,"
    # The marks and checksums of the tiles come to it.
    assert GIBIBYTES <= float(line.split()[1]) < 1.01 * GIBIBYTES
    # Which keeps the job waiting before its first tile. How many tiles there are goes by the clock, and with it the last digit.
    words = (
        r"written before the first tile: (8(?:\.0\d)?) s to (80(?:\.\d)?) s on a disk of 1 GB/s to 100 MB/s"
    )
    assert re.search(words, line), line
    assert not study.output.exists()


def test_too_small_a_disk_is_refused_in_a_line(study):
    disk = study.folder / "disk"
    disk.mkdir()
    words = [
        "unshare",
        "--mount",
        "sh",
        "-c",
        'mount -t tmpfs -o size=50m tmpfs "$0" && exec "$@"',
        str(disk),
    ]
    if not shutil.which("unshare") or subprocess.run([*words, "true"], capture_output=True).returncode != 0:
        pytest.skip("mounting is not permitted here: run the tests as root (apt install util-linux)")
    output = disk / "surface.h5"
    program = [sys.executable, "-m", "mpi_landscape.surface", str(study.configuration)]
    ls = ["sh", "-c", '"$@"; status=$?; ls -A "$0"; exit $status', str(disk)]
    done = subprocess.run(
        [*words, *ls, *program, *LARGE, "--output", str(output)], capture_output=True, text=True, timeout=FAR
    )
    assert done.returncode == 2, done.stdout + done.stderr
    (line,) = done.stderr.splitlines()
    # How many tiles there are goes with what a point costs now, and so does the last digit.
    assert re.match(
        rf"error: {re.escape(str(output))}: cannot be written: takes 8(\.0\d)? GB, and its disk has 5", line
    )
    assert "--output" in line
    assert done.stdout.splitlines()[-1].startswith("expected "), "something is left on the disk"
