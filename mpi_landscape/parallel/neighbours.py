"""The other processes of this node: one that is gone ends the job, even where its launcher does not.

Launchers see a process that a signal killed; some do not see one that leaves with exit status 0 in the middle of the work.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

# Seconds between two looks.
TICK = 0.5
# The last ranks to leave a job that has ended in good order may see others gone before them.
GRACE = 2.0


@dataclass(frozen=True)
class Process:
    """A rank's process.

    Attributes:
        rank: Its rank in the job.
        host: The name of its node.
        number: Its process number.
        space: What its number counts in: a node, or a container of it.
    """

    rank: int
    host: str
    number: int
    space: str


def this_process(rank: int, host: str) -> Process:
    """The process that calls."""
    try:
        space = str((Path("/proc/self/ns/pid")).readlink())
    except OSError:
        space = ""
    return Process(rank, host, os.getpid(), f"{host} {space}")


def seen(number: int) -> psutil.Process | None:
    """The process that has a number now, told by its start from any that may get it later; None where there is none."""
    try:
        return psutil.Process(number)
    except psutil.NoSuchProcess:
        return None


def is_gone(process: psutil.Process | None) -> bool:
    """Whether it has ended, or is what is left of one that has ended."""
    try:
        return (
            process is None
            or not process.is_running()
            or process.status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
        )
    except psutil.NoSuchProcess:
        return True
    except psutil.AccessDenied:
        return False


class Neighbours:
    """Looks after some processes in a thread of its own while it is open (`with`), and counts the time meanwhile.

    Args:
        processes: Those to look after.
        lost: Called once, in the thread, with one that is gone.
        stuck: Called once, in the thread, when this process itself has not gone on in time (see `due`).
    """

    def __init__(
        self,
        processes: Sequence[Process],
        lost: Callable[[Process], None],
        stuck: Callable[[], None] = lambda: None,
    ) -> None:
        self._processes = [(process, seen(process.number)) for process in processes]
        self._lost, self._stuck = lost, stuck
        # When, in time awake, the main thread must have gone on; it may be in a call that never returns.
        self.due: float | None = None
        self._over = threading.Event()
        self._awake = 0.0
        self._thread = threading.Thread(target=self._look, name="neighbours", daemon=True)

    def __enter__(self) -> Neighbours:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    @property
    def awake(self) -> float:
        """Seconds for which this process has run: a suspended job has not been waiting."""
        return self._awake

    def _look(self) -> None:
        last = time.monotonic()
        missed: float | None = None
        while not self._over.wait(TICK):
            now = time.monotonic()
            self._awake += min(now - last, 4 * TICK)
            last = now
            if self.due is not None and self._awake > self.due:
                self._stuck()
                return
            gone = next((process for process, known in self._processes if is_gone(known)), None)
            if gone is None:
                continue
            missed = self._awake if missed is None else missed
            if self._awake - missed >= GRACE:
                self._lost(gone)
                return
