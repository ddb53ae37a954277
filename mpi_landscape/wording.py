"""Words that messages share: values, valid names, likely meanings, errors, times and amounts, each on one line."""

import difflib
from collections.abc import Iterable, Sequence
from pathlib import PurePath

_LONGEST_VALUE = 80
_LONGEST_REASON = 300


def shown(value: object) -> str:
    """A value as the user wrote it in YAML (null, true), on one line of at most about 80 characters."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    return shortened(one_line(repr(value), None), _LONGEST_VALUE)


def one_line(said: object, longest: int | None = _LONGEST_REASON) -> str:
    """What an exception says, or any text, on one line; only its beginning where it is longer than that."""
    return " ".join(str(said).split())[:longest]


def reason(error: BaseException) -> str:
    """An exception as "Type: text", on one line of at most about 300 characters."""
    text = one_line(error, None)
    kind = type(error).__name__
    return shortened(f"{kind}: {text}" if text else kind)


def listed(names: Iterable[object]) -> str:
    """Names with commas between them, such as "min, max, num"; "none" without any."""
    return ", ".join(str(name) for name in names) or "none"


def ranges(numbers: Sequence[int]) -> str:
    """Whole numbers in their order, neighbors together.

    Example:
        >>> ranges([1, 2, 3, 7, 9, 10])
        '1 to 3, 7, 9, 10'
    """
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    words = [f"{run[0]} to {run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs]
    return ", ".join(words)


def coordinates(point: Iterable[float]) -> str:
    """A point for people: coordinates, and whole numbers such as seeds to the last digit.

    Example:
        >>> coordinates((0.25, 12345678))
        '0.25, 12345678'
    """
    return ", ".join(str(each) if isinstance(each, int) else f"{each:g}" for each in point)


def telling_parts(paths: Sequence[str]) -> tuple[str, ...]:
    """What differs in paths, without their last suffixes; empty where nothing does.

    Example:
        >>> telling_parts(["runs/seed=1/final.pt", "runs/seed=2/final.pt"]), telling_parts(["runs/seed=1/final.pt"])
        (('seed=1', 'seed=2'), ('',))
    """
    parts = [(*path.parts[:-1], path.stem) for path in map(PurePath, paths)]
    first = _agreeing(parts)
    last = _agreeing([part[first:][::-1] for part in parts])
    return tuple("/".join(part[first : len(part) - last]) for part in parts)


def _agreeing(parts: Sequence[Sequence[str]]) -> int:
    """How many steps from the start are the same in all."""
    count = 0
    for steps in zip(*parts, strict=False):
        if len(set(steps)) > 1:
            break
        count += 1
    return count


def either(names: Sequence[str]) -> str:
    """Names to choose from, such as "auto, resident or streamed"."""
    return " or ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def suggestion(given: object, valid: Sequence[str]) -> str:
    """What was probably meant, such as " (did you mean 'num'?)"; nothing where no valid name is close."""
    close = difflib.get_close_matches(str(given), valid, n=1, cutoff=0.6)
    return f" (did you mean {close[0]!r}?)" if close else ""


def shortened(text: str, longest: int = _LONGEST_REASON) -> str:
    """A text, which may be as long as a file, or its beginning and an ellipsis."""
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def duration(seconds: float) -> str:
    """A time for people."""
    if seconds < 120:
        return f"about {seconds:.3g} s"
    return f"about {seconds / 60:.3g} min" if seconds < 7200 else f"about {seconds / 3600:.3g} h"


def amount(num_bytes: float) -> str:
    """An amount of memory for people, in powers of 1024."""
    for unit, size in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if num_bytes >= size:
            return f"{num_bytes / size:.3g} {unit}"
    return f"{num_bytes:.0f} bytes"


def volume(num_bytes: float) -> str:
    """What data take, or a disk has, for people: in powers of 1000, as disks are sold."""
    for unit in ("B", "kB", "MB"):
        if num_bytes < 1000:
            return f"{num_bytes:.3g} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:.3g} GB"


def rounded(point: Sequence[float], digits: int = 4) -> tuple[float, ...]:
    """A point as messages show it."""
    return tuple(round(each, digits) for each in point)
