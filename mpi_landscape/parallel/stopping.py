"""A clean stop between batches: on a signal from a scheduler or a person, or when the time is up."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Protocol

# SLURM warns with USR1 or USR2 when asked (--signal), and sends TERM at preemption; INT is Ctrl-C.
SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT)


class Stopped(Exception):  # noqa: N818 - a request that was granted, not an error
    """Raised between batches when the computation must end now; the file already holds all that is done."""


class Reason(Protocol):
    """Something that knows whether to stop now."""

    @property
    def reason(self) -> str | None:
        """Why to stop, None to go on."""


class Stopping:
    """Watches for a reason to stop while it is open (`with`).

    The handlers only set a flag: a print in a signal handler can interrupt another print and raise.
    A second Ctrl-C ends the process in the usual way. Python lets only the main thread handle signals: in
    another one, only the time limit counts.

    Args:
        time_limit: Seconds from now after which to stop; None for no limit.
    """

    def __init__(self, time_limit: float | None = None) -> None:
        self._deadline = None if time_limit is None else time.monotonic() + time_limit
        self._limit = time_limit
        self._signal: int | None = None
        self._previous: dict[int, object] = {}

    def __enter__(self) -> Stopping:
        for number in SIGNALS if threading.current_thread() is threading.main_thread() else ():
            self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            # None stands for a handler that is not Python's: it cannot be put back from here.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)  # type: ignore[arg-type]

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self._signal = number
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.default_int_handler)

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
