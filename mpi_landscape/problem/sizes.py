"""What named networks and data sets check of the numbers that they are given."""

from collections.abc import Sequence
from typing import Any

from mpi_landscape.errors import LandscapeError
from mpi_landscape.wording import shown


def is_count(value: Any) -> bool:
    """Whether a value is a whole number of at least 1."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def is_number(value: Any) -> bool:
    """Whether a value is a number; true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def checked_count(value: int, name: str) -> int:
    """A value that is a whole number of at least 1; anything else is refused under its name."""
    if not is_count(value):
        raise LandscapeError(f"{name} is {shown(value)}; expected a whole number of at least 1")
    return value


def checked_counts(values: Sequence[int], name: str) -> tuple[int, ...]:
    """Values that are a list of whole numbers of at least 1; anything else is refused under its name."""
    if not isinstance(values, (list, tuple)):
        raise LandscapeError(f"{name} is {shown(values)}; expected a list of whole numbers")
    return tuple(checked_count(value, f"{name}[{index}]") for index, value in enumerate(values))


def checked_size(input_size: Sequence[int]) -> tuple[int, int, int]:
    """An image's (channels, height, width), whole numbers of at least 1; anything else is refused."""
    size = checked_counts(input_size, "input_size")
    if len(size) != 3:
        raise LandscapeError(f"input_size is {shown(list(size))}; expected [channels, height, width]")
    return size[0], size[1], size[2]


def halved(length: int, times: int) -> int:
    """A number of pixels halved several times, rounded up each time, as pooling with ceil_mode does.

    Example:
        >>> halved(28, 3)  # 14, 7, 4
        4
    """
    return -(-length // (1 << times))
