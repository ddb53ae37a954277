"""Words that messages share: values, valid names, likely meanings, times and amounts, each on one line."""

import difflib
from collections.abc import Iterable, Sequence

_LONGEST_VALUE = 80
_LONGEST_REASON = 300


def shown(value: object) -> str:
    """Write a value as the user wrote it in YAML (null, true), shortened, on one line.

    Args:
        value: Anything.

    Returns:
        At most about 80 characters without a line break.
    """
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    return shortened(" ".join(repr(value).split()), _LONGEST_VALUE)


def reason(error: BaseException) -> str:
    """Write an exception as "Type: text", shortened, on one line.

    Args:
        error: The exception that stopped something.

    Returns:
        At most about 300 characters without a line break.
    """
    text = " ".join(str(error).split())
    kind = type(error).__name__
    return shortened(f"{kind}: {text}" if text else kind, _LONGEST_REASON)


def listed(names: Iterable[object]) -> str:
    """Join names with commas.

    Args:
        names: Names in the order in which they should be read.

    Returns:
        For example "min, max, num"; "none" if there are none.
    """
    return ", ".join(str(name) for name in names) or "none"


def suggestion(given: object, valid: Sequence[str]) -> str:
    """Guess what was meant.

    Args:
        given: What the user wrote.
        valid: What could have been written.

    Returns:
        For example " (did you mean 'num'?)", or nothing if no valid name is close.
    """
    close = difflib.get_close_matches(str(given), valid, n=1, cutoff=0.6)
    return f" (did you mean {close[0]!r}?)" if close else ""


def shortened(text: str, longest: int = _LONGEST_REASON) -> str:
    """Cut a text that may be as long as a file.

    Args:
        text: One line.
        longest: Characters that are kept.

    Returns:
        The text, or its beginning and an ellipsis.
    """
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def one_line(error: BaseException) -> str:
    """What an exception says, as one line of at most 300 characters."""
    return " ".join(str(error).split())[:_LONGEST_REASON]


def duration(seconds: float) -> str:
    """A time for people."""
    if seconds < 120:
        return f"about {seconds:.3g} s"
    return f"about {seconds / 60:.3g} min" if seconds < 7200 else f"about {seconds / 3600:.3g} h"


def amount(num_bytes: int) -> str:
    """An amount of memory for people."""
    for unit, size in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if num_bytes >= size:
            return f"{num_bytes / size:.3g} {unit}"
    return f"{num_bytes} bytes"
