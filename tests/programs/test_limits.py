"""What the system has no more of: one line or a whole file, never a lie, and the same command goes on without the limit."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from mpi_landscape import surface
from tests.exhaustive import rows

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="needs Linux: limits that hold"),
]

# Where the MPI library cannot begin it ends the process itself, before anything is read or made, in words and with a status of
# its own.
OF_MPI = None
# Before the program, after it; the exit statuses that are honest; and words of the one line where it is none of 0.
LIMITS = {
    "100 MB of address space": ("ulimit -v 100000", "", (1,), "memory does not suffice"),
    "400 MB of address space": ("ulimit -v 400000", "", (1,), "memory does not suffice"),
    "1 GB of address space": ("ulimit -v 1000000", "", (0, 1, 2, OF_MPI), "memory"),
    "2 GB of address space": ("ulimit -v 2000000", "", (0, 1, 2, OF_MPI), "memory"),
    "3 GB of address space": ("ulimit -v 3000000", "", (0, 1, 2), "memory"),
    "4 GB of address space": ("ulimit -v 4000000", "", (0, 1, 2), "memory"),
    "files of 20 kB at most": ("ulimit -f 20", "", (2, OF_MPI), "File too large"),
    "12 open files": ("ulimit -n 12", "", (0, 1, 2, OF_MPI), "files"),
    "30 open files": ("ulimit -n 30", "", (0, 1, 2, OF_MPI), "files"),
    "a stack of 256 kB": ("ulimit -s 256", "", (0, 1, 2), ""),
    "no core file": ("ulimit -c 0", "", (0,), ""),
    "standard output full": ("true", ">/dev/full", (0,), ""),
    "standard output closed": ("true", ">&-", (0,), ""),
    "standard error closed": ("true", "2>&-", (0,), ""),
    "both full": ("true", ">/dev/full 2>/dev/full", (0,), ""),
    "all closed": ("true", "<&- >&- 2>&-", (0,), ""),
    "a reader that has enough": ("true", "| head -n 1", (0,), ""),
}


@pytest.mark.parametrize(
    ("before", "after", "statuses", "words"),
    rows(LIMITS, "400 MB of address space", "files of 20 kB at most", "standard output full"),
)
def test_a_limit_is_one_line_or_a_whole_file(
    study, contents, computed, record_property, before, after, statuses, words
):
    whole = study.folder / "reference.h5"
    computed("--output", str(whole))
    command = [sys.executable, "-m", "mpi_landscape.surface", str(study.configuration)]
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {before}; {shlex.join(command)} {after}"],
        cwd=study.folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(surface.__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=300,
    )
    said = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    record_property("exit status", str(done.returncode))
    ended_by_mpi = OF_MPI in statuses and done.returncode and not said
    assert done.returncode in statuses or ended_by_mpi, done.stderr
    assert "Traceback" not in done.stderr
    if ended_by_mpi:
        assert "MPI" in done.stderr
        assert not study.output.exists()
        record_property("", "ended by the MPI library as it began")
    elif done.returncode:
        (line,) = said
        record_property("", line.removeprefix("error: ")[:120].replace(str(study.folder), ""))
        assert words in line
    else:
        assert contents(study.output) == contents(whole), "it says that it is done"
    computed()
    assert contents(study.output) == contents(whole)
