"""Standard output and standard error that may be full, closed or a broken pipe: a log that is lost ends no work."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO


class Written:
    """A stream of text that takes everything, and remembers what it could not write.

    Args:
        stream: Where it goes; None where the stream was closed before the program began.

    Attributes:
        lost: Why something could not be written, in words; None while all was.
        has_enough: Whether that is because nobody reads it any more (`| head`).
    """

    def __init__(self, stream: TextIO | None) -> None:
        # No exception, whose frames would keep what they hold.
        self.lost: str | None = "is closed" if stream is None else None
        self.has_enough = False
        # For those that ask a closed stream what it is.
        self._stream = io.StringIO() if stream is None else stream
        with suppress(AttributeError, OSError, ValueError):
            self._stream.reconfigure(errors="backslashreplace")  # type: ignore[attr-defined]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._stream)

    def write(self, text: str) -> int:
        """Write a text, or lose it."""
        if self.lost is None:
            try:
                return self._stream.write(text)
            except UnicodeEncodeError:
                return self.write(text.encode("ascii", "backslashreplace").decode())
            except (OSError, ValueError) as error:
                self._lose(error)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write several."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Write what was held back, or lose it."""
        if self.lost is None:
            try:
                self._stream.flush()
            except (OSError, ValueError) as error:
                self._lose(error)

    def _lose(self, error: Exception) -> None:
        self.lost = getattr(error, "strerror", None) or str(error)
        self.has_enough = isinstance(error, BrokenPipeError)
        # What is held back goes nowhere, or the interpreter tries once more at its end, and fails.
        with suppress(OSError, ValueError, AttributeError):
            number = self._stream.fileno()
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, number)
            os.close(nowhere)


@contextmanager
def written() -> Iterator[tuple[Written, Written]]:
    """Put standard output and standard error into such streams, until the end of the `with`."""
    # What is opened next, a surface file for one, must not be taken for a stream that was closed.
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            with suppress(OSError):
                os.open(os.devnull, os.O_RDWR)
    before = sys.stdout, sys.stderr
    streams = Written(before[0]), Written(before[1])
    sys.stdout, sys.stderr = streams
    try:
        yield streams
    finally:
        for each in streams:
            each.flush()
        sys.stdout, sys.stderr = before
