"""Numbered items: how one is evaluated, what it makes known, and which are left."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mpi_landscape.storage.cells import Published

Row = NDArray[np.float64]
Between = Callable[[], None]


class Account(Protocol):
    """What rank 0 knows of the items: which are in, which to begin next, and what they make known."""

    @property
    def num_left(self) -> int:
        """How many items are left, at most."""

    @property
    def num_done(self) -> int:
        """How many items are done."""

    @property
    def summary(self) -> str:
        """What is known at the end, in words."""

    def take_over(self, item: int, row: Row) -> None:
        """Note an item that was done before; all of them before `begin`."""

    def begin(self) -> Iterable[Published]:
        """What is known from the items that were taken over.

        Raises:
            LandscapeError: They cannot be gone on with.
        """

    def add(self, item: int, row: Row) -> Published | None:
        """Take note of a result; what has become known with it."""

    def __iter__(self) -> Iterator[int]:
        """The items to do, in the order in which to begin them; `parallel.root.WAIT` where only results to come can tell."""


def _nothing(_item: int, _row: Row, _num_done: int) -> None:
    """Nothing is said of a result."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """Items to be evaluated exactly once, each on any rank; the same on every rank.

    Attributes:
        num_items: How many there are.
        row_size: The most float64 values of a result.
        evaluate: An item's number, and a function to call between batches -> its row, of any shape.
        account: Makes the account; called on rank 0 alone.
        seconds: What an item is expected to take; None where nothing is known.
        alike: Whether items cost about the same, so that the next one may be handed out ahead.
        at_most: Whether the account may do with fewer.
        units: What the items are, for people.
        points: What the rate of progress counts, for people.
        num_points: How many of these all items hold; None where an item is one.
        is_shown: Whether progress is shown.
        together: Whether all ranks evaluate an item together: `evaluate` is collective then, and rank 0's row counts.
        line: What to tell the user of a result, if anything; given its number, its row and how many are in.
    """

    num_items: int
    row_size: int
    evaluate: Callable[[int, Between], Row]
    account: Callable[[], Account]
    seconds: float | None = None
    alike: bool = True
    at_most: bool = False
    units: str = "tiles"
    points: str = "points"
    num_points: int | None = None
    is_shown: bool = True
    together: bool = False
    line: Callable[[int, Row, int], str | None] = _nothing
