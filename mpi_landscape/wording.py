"""The wording that all refusals of this room share: values, valid names, likely meanings, on one line."""

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
