"""The other processes of this node: one that is gone ends the job, whatever its launcher makes of it.

Launchers see a process that a signal killed; one that leaves with exit status 0 in the middle of the work, some do not.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

# Seconds between two looks.
TICK = 0.5
# The last ranks to leave a job that has ended in good order may see others gone before them.
GRACE = 2.0


@dataclass(frozen=True)
class Process:
    """A rank's process, told from any other that may get its number later.

    Attributes:
        rank: Of the job.
        host: The name of its node.
        number: Its process number.
        start: When it started, as the system counts; empty where the system does not tell.
        space: What its number counts in: a node, or a container of it.
    """

    rank: int
    host: str
    number: int
    start: str
    space: str


def this_process(rank: int, host: str) -> Process:
    """The process that calls."""
    try:
        space = str((Path("/proc/self/ns/pid")).readlink())
    except OSError:
        space = ""
    number = os.getpid()
    return Process(rank, host, number, start_of(number), f"{host} {space}")


def is_gone(process: Process) -> bool:
    """Whether it has ended, or is what is left of one that has ended."""
    fields = _fields(process.number)
    if fields:
        return fields[0] in "ZX" or fields[19] != process.start
    try:
        os.kill(process.number, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    # Where there is no /proc to look into, this must do.
    return bool(process.start)


def start_of(number: int) -> str:
    """When a process started, as the system counts; empty where it does not tell."""
    fields = _fields(number)
    return fields[19] if fields else ""


def words_of(number: int) -> tuple[str, int]:
    """A process's name, and the number of its parent; empty and 0 where the system does not tell."""
    fields = _fields(number)
    try:
        name = Path(f"/proc/{number}/comm").read_text(errors="replace").strip()
    except OSError:
        return "", 0
    return (name, int(fields[1])) if fields else ("", 0)


def _fields(number: int) -> list[str]:
    """State, and what follows it in /proc/N/stat; the program's name before it may hold any character."""
    try:
        return Path(f"/proc/{number}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return []


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
        self._processes, self._lost, self._stuck = processes, lost, stuck
        # When, in time awake, the main thread must have gone on; it may be in a call that never returns.
        self.due: float | None = None
        self._over = threading.Event()
        self._awake = 0.0
        self._thread = threading.Thread(target=self._look, name="neighbours", daemon=True)

    def __enter__(self) -> Neighbours:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
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
            gone = next(filter(is_gone, self._processes), None)
            if gone is None:
                continue
            missed = self._awake if missed is None else missed
            if self._awake - missed >= GRACE:
                self._lost(gone)
                return
