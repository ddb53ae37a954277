"""A tensor in blocks of neighbors, so that what is made of one takes little memory, and filters that reach over blocks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

_Number = TypeVar("_Number", bound=np.generic)

# Numbers in a block: 2 MiB in float64, which stay in the cache from one operation to the next.
BLOCK = 2**18


@dataclass(frozen=True, kw_only=True)
class Block:
    """A run of a tensor's numbers, in C order of the view in which its filters lie.

    Attributes:
        start: Its first number in the tensor.
        stop: One past its last.
        shape: Of it, as a part of the view.
        index: Where that part is: numbers of single places along the first axes, then perhaps a slice.
    """

    start: int
    stop: int
    shape: tuple[int, ...]
    index: tuple[int | slice, ...] = ()

    def filters(self, of_tensor: NDArray[_Number]) -> tuple[int | slice, ...]:
        """Where the filters of the block are in an array with a number per filter, of which other axes have length 1."""
        return tuple(
            (each if length > 1 else slice(None)) if isinstance(each, slice) else each % length
            for each, length in zip(self.index, of_tensor.shape, strict=False)
        )

    def over(self, axes: tuple[int, ...]) -> tuple[int, ...]:
        """The axes of the block that lie within filters, of those of the view that enumerate them."""
        gone = sum(not isinstance(each, slice) for each in self.index)
        return tuple(axis for axis in range(len(self.shape)) if axis + gone not in axes)


def blocks(shape: tuple[int, ...], *, most: int = BLOCK) -> Iterator[Block]:
    """The blocks of a tensor of this shape, in their order, of `most` numbers at most.

    Example:
        >>> [(each.start, each.stop, each.index) for each in blocks((3, 2), most=4)]
        [(0, 4, (slice(0, 2, None),)), (4, 6, (slice(2, 3, None),))]
    """
    size = prod(shape)
    if size <= most:
        yield Block(start=0, stop=size, shape=shape)
        return
    row = size // shape[0]
    if row > most:
        for number in range(shape[0]):
            for each in blocks(shape[1:], most=most):
                yield Block(
                    start=number * row + each.start,
                    stop=number * row + each.stop,
                    shape=each.shape,
                    index=(number, *each.index),
                )
        return
    rows = most // row
    for first in range(0, shape[0], rows):
        last = min(first + rows, shape[0])
        yield Block(
            start=first * row,
            stop=last * row,
            shape=(last - first, *shape[1:]),
            index=(slice(first, last),),
        )


def per_filter(shape: tuple[int, ...], axes: tuple[int, ...], dtype: Any = np.float64) -> NDArray[Any]:
    """Zeros, one for each filter of a tensor: axes that enumerate none have length 1."""
    return np.zeros([length if axis in axes else 1 for axis, length in enumerate(shape)], dtype=dtype)


def add_squares(
    into: NDArray[np.float64], block: Block, numbers: NDArray[np.floating], axes: tuple[int, ...]
) -> None:
    """Add the squares of a block's numbers to the sum of each filter."""
    squares = np.square(numbers.reshape(block.shape), dtype=np.float64)
    into[block.filters(into)] += np.sum(squares, axis=block.over(axes), keepdims=True).reshape(
        into[block.filters(into)].shape
    )
