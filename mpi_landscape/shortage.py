"""What the system had no more of, in plain words: memory, threads and processes, open files. Imports next to nothing."""

from __future__ import annotations

import errno
import sys
from types import TracebackType

_MEMORY = (
    "failed to map segment",
    "allocate memory",
    "not enough memory",
    "std::bad_alloc",
    "Out of memory",
    "failed to allocate",
)
_THREADS = ("can't start new thread", "Resource temporarily unavailable")
_FILES = ("Too many open files",)
_ADVICE = {
    "memory does not suffice": (
        "valid are a higher limit (ulimit -v), fewer ranks on a node, or a smaller compute.batch_size"
    ),
    "no further thread or process can be started": (
        "valid are a higher limit (ulimit -u), fewer ranks on a node, or fewer compute.threads"
    ),
    "no further file can be opened": "valid is a higher limit (ulimit -n)",
}


def shortage(error: BaseException) -> str | None:
    """A line about what was short; None where an error is another one.

    Example:
        >>> shortage(RuntimeError("can't start new thread")).partition(" (")[0]
        'no further thread or process can be started'
        >>> shortage(ValueError("no")) is None
        True
    """
    seen: set[int] = set()
    found: str | None = None
    each: BaseException | None = error
    while each is not None and id(each) not in seen:
        seen.add(id(each))
        what = _what(each)
        if what is not None:
            text = " ".join(f"{type(each).__name__}: {each}".rstrip(": ").split())[:200]
            found = f"{what} ({text}); {_ADVICE[what]}"
        each = each.__cause__ or each.__context__
    return found  # what came first


def _what(error: BaseException) -> str | None:
    memory, threads, files = _ADVICE
    if isinstance(error, MemoryError):
        return memory
    if not isinstance(error, ImportError | OSError | RuntimeError):
        return None
    number, text = getattr(error, "errno", None), str(error)
    if number == errno.ENOMEM or any(word in text for word in _MEMORY):
        return memory
    if number == errno.EAGAIN or any(word in text for word in _THREADS):
        return threads
    if number in (errno.EMFILE, errno.ENFILE) or any(word in text for word in _FILES):
        return files
    return None


def say_shortages() -> None:
    """Let an import that fails for one end a program with its line and status 1; other errors show themselves as ever."""

    def said(kind: type[BaseException], error: BaseException, place: TracebackType | None) -> None:
        words = shortage(error)
        if words is None or "--debug" in sys.argv or sys.stderr is None:
            sys.__excepthook__(kind, error, place)
        else:
            sys.stderr.write(f"error: {words}\n")

    sys.excepthook = said
