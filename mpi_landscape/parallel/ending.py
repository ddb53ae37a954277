"""The end of a job whose launcher may be left waiting for a host that cannot be reached any more.

MPI_Abort ends the ranks here and asks the launcher to end the others. Where the network to their host is cut, MPICH's mpiexec
waits for its answer for ever, and so does whoever waits for mpiexec: a batch script, say, which would submit the job again.
"""

from __future__ import annotations

import os
import subprocess
from contextlib import suppress

from mpi_landscape.parallel.neighbours import start_of, words_of

# Seconds that a launcher has to end by itself.
TIME_TO_END = 10
_LAUNCHERS = ("mpiexec", "mpiexec.hydra", "mpirun", "orterun", "prterun")


def end_launcher_later() -> None:
    """End the launcher of this process, if it runs on this host, where it has not ended by itself some seconds from now."""
    launcher = _launcher()
    if launcher is None:
        return
    # By a process that outlives this one, and only the very process that was found.
    script = (
        f"sleep {TIME_TO_END}; "
        f'[ "$(cut -d " " -f 22 /proc/{launcher}/stat)" = {start_of(launcher)} ] && kill -KILL {launcher}'
    )
    with suppress(OSError):
        subprocess.Popen(
            ["sh", "-c", script],
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )


def _launcher() -> int | None:
    """The process number of the nearest ancestor that is a launcher; None where there is none to be seen."""
    number = os.getppid()
    while number > 1:
        name, parent = words_of(number)
        if name in _LAUNCHERS:
            return number
        number = parent
    return None
