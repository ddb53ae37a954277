"""What a script sees of an error: its own line and one of ours."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import wraps
from typing import ParamSpec, TypeVar

from mpi_landscape.errors import LandscapeError

P = ParamSpec("P")
T = TypeVar("T")
_DEBUG = "MPI_LANDSCAPE_DEBUG"


def is_debugging(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether somebody wants to see where in this program an error was raised."""
    return environment.get(_DEBUG, "") not in ("", "0")


def in_one_line(function: Callable[P, T]) -> Callable[P, T]:
    """A function that scripts call, whose refusals come without the frames of this program.

    The text of a `LandscapeError` says all that a user can act on; thirty frames above it hide the one that is theirs. A frame
    that raises cannot leave itself out: it is this one, whose line says what to set.

    Example:
        >>> @in_one_line
        ... def refuse():
        ...     raise LandscapeError("output is 5; expected a path")
        >>> refuse()
        Traceback (most recent call last):
        ...
        mpi_landscape.errors.LandscapeError: output is 5; expected a path
    """

    @wraps(function)
    def called(*arguments: P.args, **options: P.kwargs) -> T:
        __tracebackhide__ = True
        try:
            return function(*arguments, **options)
        except LandscapeError as error:
            if is_debugging():
                raise
            raise error.with_traceback(None) from None  # MPI_LANDSCAPE_DEBUG=1 shows where

    return called
