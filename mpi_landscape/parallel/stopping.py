"""A clean stop between batches: on a signal from a scheduler or a person, or when the time is up."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn, Protocol

# Exit statuses: "try again" (EX_TEMPFAIL of sysexits.h), and what shells give a program that Ctrl-C has ended.
STOPPED, INTERRUPTED = 75, 130
# A scheduler's signal can reach a process twice, from its launcher and by itself: that is not a second one.
_AGAIN = 1.0
# SLURM warns with USR1 or USR2 when asked (--signal), and sends TERM at preemption; INT is Ctrl-C.
_OF_SCHEDULERS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
SIGNALS = (*_OF_SCHEDULERS, signal.SIGINT)


class Stopped(Exception):  # noqa: N818 - a request that was granted, not an error
    """Raised between batches when the computation must end now; the file already holds all that is done."""


class Interrupted(KeyboardInterrupt):
    """Raised by a signal that ends the job at once, as there is nothing to finish."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.reason = signal.Signals(number).name


def answer_from_the_start() -> None:
    """Let the signals of a scheduler end the program from its first moment as they do later: with a status to go on by.

    Without a handler the system ends the process, and a batch script would take it for a failure. Ctrl-C is Python's own.
    """
    for number in _OF_SCHEDULERS:
        signal.signal(number, _interrupt)


def answer_no_more() -> None:
    """All is done and said; a signal that comes while the process is leaving changes nothing."""
    for number in _OF_SCHEDULERS:
        signal.signal(number, signal.SIG_IGN)


def _interrupt(number: int, _frame: FrameType | None) -> NoReturn:
    raise Interrupted(number)


def exit_status(reason: str) -> int:
    """Of a job that stopped early.

    Args:
        reason: A signal's name, perhaps with the rank that got it, or that the time is up.
    """
    return INTERRUPTED if reason.startswith("SIGINT") else STOPPED


def _leave(number: int) -> NoReturn:
    """End this process in the middle of whatever it does; what is committed is in the file.

    Not by an exception: on its way up it would wait for threads that are in the middle of a long batch. The launcher,
    or another rank, sees that this one is gone.
    """
    name = signal.Signals(number).name
    # Written straight through: a print could interrupt another one.
    os.write(2, f"ended at once by a second signal, {name}; run the same command again to go on\n".encode())
    os._exit(exit_status(name))


class Reason(Protocol):
    """Something that knows whether to stop now."""

    @property
    def reason(self) -> str | None:
        """Why to stop, None to go on."""


class Stopping:
    """Watches for a reason to stop while it is open (`with`).

    The handlers only set a flag: a print in a signal handler can interrupt another print and raise. A second signal, a
    second or more after the first, ends the process; within `at_once` the first one raises `Interrupted`. Python lets
    only the main thread handle signals: in another one, only the time limit counts.

    Args:
        time_limit: Seconds from now after which to stop; None for no limit.
    """

    def __init__(self, time_limit: float | None = None) -> None:
        self._deadline = None if time_limit is None else time.monotonic() + time_limit
        self._limit = time_limit
        self._signal: int | None = None
        self._since = 0.0
        self._at_once = False
        self._previous: dict[int, object] = {}

    def __enter__(self) -> Stopping:
        for number in SIGNALS if threading.current_thread() is threading.main_thread() else ():
            self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            # None stands for a handler that is not Python's: it cannot be put back from here.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)  # type: ignore[arg-type]

    def _note(self, number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._signal is None:
            self._signal, self._since = number, now
            if self._at_once:
                raise Interrupted(number)
        elif now - self._since >= _AGAIN:
            _leave(number)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """While nothing is under way that a stop would lose: a signal ends the block.

        Raises:
            Interrupted: By a signal, also by one that came before.
        """
        if self._signal is not None:
            raise Interrupted(self._signal)
        self._at_once = True
        try:
            yield
        finally:
            self._at_once = False

    @property
    def limit(self) -> float | None:
        """Seconds that there are in all, None for any number."""
        return self._limit

    @property
    def reason(self) -> str | None:
        """Why to stop, in a few words; None when there is no reason."""
        if self._signal is not None:
            return signal.Signals(self._signal).name
        if self._deadline is not None and time.monotonic() >= self._deadline:
            return f"the time limit of {self._limit:g} s"
        return None
