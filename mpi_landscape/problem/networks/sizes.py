"""What the named networks check of the sizes that they are given."""

from collections.abc import Sequence

from mpi_landscape.errors import LandscapeError
from mpi_landscape.wording import shown


def checked_count(value: int, name: str) -> int:
    """Refuse what is not a whole number of at least 1.

    Args:
        value: What was given.
        name: Of the argument, for messages.

    Returns:
        The value.

    Raises:
        LandscapeError: It is of another type or below 1.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise LandscapeError(f"{name} is {shown(value)}; expected a whole number of at least 1")
    return value


def checked_counts(values: Sequence[int], name: str) -> tuple[int, ...]:
    """Refuse what is not a list of whole numbers of at least 1.

    Args:
        values: What was given.
        name: Of the argument, for messages.

    Returns:
        The values.

    Raises:
        LandscapeError: It is not a list or an element is not valid.
    """
    if not isinstance(values, (list, tuple)):
        raise LandscapeError(f"{name} is {shown(values)}; expected a list of whole numbers")
    return tuple(checked_count(value, f"{name}[{index}]") for index, value in enumerate(values))


def checked_size(input_size: Sequence[int]) -> tuple[int, int, int]:
    """Refuse what is not the size of an image.

    Args:
        input_size: What was given.

    Returns:
        (channels, height, width).

    Raises:
        LandscapeError: It is not three whole numbers of at least 1.
    """
    size = checked_counts(input_size, "input_size")
    if len(size) != 3:
        raise LandscapeError(f"input_size is {shown(list(size))}; expected [channels, height, width]")
    return size[0], size[1], size[2]


def halved(length: int, times: int) -> int:
    """Halve a number of pixels several times, rounding up each time, as pooling with ceil_mode does.

    Args:
        length: Pixels in one direction.
        times: How often.

    Returns:
        At least 1 for a length of at least 1.
    """
    return -(-length // (1 << times))
