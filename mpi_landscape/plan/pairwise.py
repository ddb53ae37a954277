"""Sums whose order is a fixed tree: the same bits, however the terms are spread over ranks."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

Sum = NDArray[np.float64]


class Pairwise:
    """The sum of numbered terms, neighbors first: (t0 + t1) + (t2 + t3) ...

    Terms come in any order. Neighbors are added as soon as both are known, so that of many terms in order only a few sums are
    held at a time.

    Args:
        num_terms: How many there will be.

    Example:
        Two ranks with three and two of five terms, and one rank with all:

        >>> terms = [np.array([1e16]), np.array([1.0]), np.array([-1e16]), np.array([1.0]), np.array([0.5])]
        >>> one, first, second = Pairwise(5), Pairwise(5), Pairwise(5)
        >>> for number, term in enumerate(terms):
        ...     one.add(number, term)
        ...     (first if number < 3 else second).add(number, term)
        >>> second.take(first.held)
        >>> one.total == second.total
        array([ True])
    """

    def __init__(self, num_terms: int) -> None:
        self._num_terms = num_terms
        self._held: dict[tuple[int, int], Sum] = {}

    def add(self, number: int, term: Sum) -> None:
        """Add a term, each once; its memory may be taken."""
        self._put(0, number, term)

    @property
    def held(self) -> list[tuple[int, int, Sum]]:
        """The sums that wait for others: level, number and value."""
        return [(level, number, value) for (level, number), value in sorted(self._held.items())]

    def take(self, held: Iterable[tuple[int, int, Sum]]) -> None:
        """Add what another one, of other terms, holds."""
        for level, number, value in held:
            self._put(level, number, value)

    @property
    def total(self) -> Sum:
        """The sum of all terms, which have all come."""
        ((_, value),) = self._held.items()
        return value

    def _put(self, level: int, number: int, value: Sum) -> None:
        count = -(-self._num_terms // 2**level)
        while count > 1:
            sibling = number ^ 1
            if sibling < count:
                other = self._held.pop((level, sibling), None)
                if other is None:
                    break
                value = other + value
            level, number, count = level + 1, number // 2, -(-count // 2)
        self._held[level, number] = value
