"""The end of a job whose launcher may be left waiting for a host that cannot be reached any more.

MPI_Abort ends the ranks here and asks the launcher to end the others. Where the network to their host is cut, MPICH's mpiexec
waits for its answer for ever, and so does a batch script that waits for mpiexec and would submit the job again.
"""

from __future__ import annotations

import subprocess
from contextlib import suppress

import psutil

# Seconds that a launcher has to end by itself.
TIME_TO_END = 10
_LAUNCHERS = ("mpiexec", "mpiexec.hydra", "mpirun", "orterun", "prterun")


def end_launcher_later() -> None:
    """End the launcher of this process, if it runs on this host, where it has not ended by itself some seconds from now."""
    launcher = _launcher()
    if launcher is None:
        return
    # By a process that outlives this one, and only the very process that was found: field 22 is when it started. By a
    # shell, as Python may lie on a disk that cannot be reached any more either.
    script = (
        f'start() {{ cut -d " " -f 22 /proc/{launcher}/stat; }}; found=$(start); sleep {TIME_TO_END}; '
        f'[ -n "$found" ] && [ "$(start)" = "$found" ] && kill -KILL {launcher}'
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
    with suppress(psutil.Error):
        for parent in psutil.Process().parents():
            if parent.pid > 1 and parent.name() in _LAUNCHERS:
                return int(parent.pid)
    return None
