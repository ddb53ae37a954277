"""In which order the positions along an axis of a tensor may stand: an algebra of unknown permutations.

Along an axis stand blocks, one after the other; a block is a product of sets of units, the outermost first. After the flattening
of an image of 8 channels and 4 by 4 pixels there is one block, (8 channels, 16 pixels): the 16 columns of a channel move
together. After a concatenation there are two blocks or more. Sets of units that an operation ties together become one set, or
fall into smaller ones until they fit each other; where that cannot be, they stay in order, which is right always.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import accumulate, pairwise

# Blocks along one axis: what falls into more stays in order.
_MOST_BLOCKS = 4096


class Units:
    """A set of units that change places together wherever they stand, as far as is known by now.

    Attributes:
        size: How many.
        reason: Why they stay in order; None while they may move.
        bound: What has been found out about them: the axis that they are.
    """

    __slots__ = ("bound", "reason", "size")

    def __init__(self, size: int, reason: str | None = None) -> None:
        self.size, self.reason = size, reason
        self.bound: Axis | None = None


Block = tuple[Units, ...]
Axis = tuple[Block, ...]

SINGLE: Axis = ((),)


def free(size: int) -> Axis:
    """An axis of which nothing is known yet."""
    return _axis(Units(size))


def fixed(size: int, reason: str) -> Axis:
    """An axis whose positions stay in order, and why."""
    return _axis(Units(size, reason))


def length(axis: Axis) -> int:
    """How many positions there are along an axis."""
    return sum(_size(block) for block in axis)


def resolved(axis: Axis) -> Axis:
    """The axis with all that has been found out since; what stays in order is one set, as far as it lies together."""
    found: list[Block] = []
    for block in axis:
        parts = [_axis(each) if each.bound is None else resolved(each.bound) for each in block]
        for new in _product(parts):
            if found and _is_fixed(new) and _is_fixed(found[-1]):
                last = found.pop()
                new = (Units(_size(last) + _size(new), _reason((*last, *new))),)
            found.append(new)
    return tuple(found)


def moving(axes: Iterable[Axis]) -> set[Units]:
    """The sets that may move along some axes, after all that is to be said of them together."""
    every, found = list(axes), set[Units]()
    while True:
        before, found = found, {
            units for axis in every for block in resolved(axis) for units in block if units.reason is None
        }  # fmt: skip
        if (
            found == before
        ):  # What falls into blocks within units stays in order, and others may have held it.
            return found


def product(*axes: Axis) -> Axis:
    """The axis that several become where they are flattened into one, the outermost first."""
    return _product([resolved(axis) for axis in axes])


def joined(*axes: Axis) -> Axis:
    """The axis that several become one after the other."""
    return resolved(tuple(block for axis in axes for block in axis))


def freeze(axis: Axis, reason: str) -> None:
    """Leave all positions in order from now on."""
    for block in resolved(axis):
        for units in block:
            units.reason = units.reason or reason


def part(axis: Axis, start: int, stop: int, reason: str) -> Axis:
    """The positions from `start` until `stop`: the units on either side move among themselves from now on."""
    pieces = [(start, free), (stop - start, free), (length(axis) - stop, free)]
    cut = [make(size) if size else () for size, make in pieces]
    unify(joined(*cut), axis, reason)
    return resolved(cut[1])


def unify(one: Axis, other: Axis, reason: str) -> None:
    """Let two axes of one length have one order; where no order but their own fits both, they stay in order.

    Example:
        >>> channels, columns = free(3), free(12)
        >>> unify(columns, product(channels, fixed(4, "pixels")), "a linear layer")
        >>> [[units.size for units in block] for block in resolved(columns)]
        [[3, 4]]
    """
    while True:
        first, second = resolved(one), resolved(other)
        if length(first) != length(second):
            freeze(first, reason)
            freeze(second, reason)
            return
        if _bound(first, second) or _bound(second, first):
            return
        cuts = sorted({*_ends(first), *_ends(second)})
        sides = _cut(first, cuts, reason), _cut(second, cuts, reason)
        if None in sides:
            continue
        if not any(_tie(*pair, reason) for pair in zip(*sides, strict=True)):  # type: ignore[arg-type]
            return


def _bound(axis: Axis, to: Axis) -> bool:
    """Whether an axis was one set that may move, and is now another axis."""
    if len(axis) != 1 or len(axis[0]) != 1 or axis[0][0].reason is not None:
        return False
    (units,) = axis[0]
    if any(units in block for block in to):
        return len(to) == 1
    units.bound = to
    if all(map(_is_fixed, to)):
        units.reason = _reason(each for block in to for each in block)
    return True


def _cut(axis: Axis, cuts: Sequence[int], reason: str) -> list[Block] | None:
    """The pieces of an axis between some cuts; None where sets fell into smaller ones, and it has to be asked for again."""
    pieces: list[Block] = []
    start = 0
    for block in axis:
        inside = [cut - start for cut in cuts if start <= cut <= start + _size(block)]
        start += _size(block)
        if len(inside) == 2:
            pieces.append(block)
            continue
        sizes = [stop - begin for begin, stop in pairwise(inside)]
        outer, inner = block[0], block[1:]
        width = _size(inner)
        if any(size % width for size in sizes) or len(sizes) > _MOST_BLOCKS:
            freeze((block,), reason)
            return None
        if outer.reason is None:
            outer.bound = tuple((Units(size // width),) for size in sizes)
            return None
        pieces += [(Units(size // width, outer.reason), *inner) for size in sizes]
    return pieces


def _tie(one: Block, other: Block, reason: str) -> bool:
    """Let two blocks of one size have one order; whether anything was found out, so that they have to be asked for again."""
    first, second = ([each for each in side if each.size > 1] for side in (one, other))
    while first and second:
        large, small = first[0], second[0]
        if large.size < small.size:
            first, second, large, small = second, first, small, large
        if large is small or (large.size == small.size and large.reason and small.reason):
            first.pop(0)
            second.pop(0)
        elif large.size == small.size:
            moving, partner = (large, small) if large.reason is None else (small, large)
            moving.bound, moving.reason = _axis(partner), partner.reason
            return True
        elif large.size % small.size:
            break
        elif large.reason is None:
            large.bound = ((Units(small.size), Units(large.size // small.size)),)
            return True
        else:
            first[:1] = [Units(small.size, large.reason), Units(large.size // small.size, large.reason)]
        first, second = ([each for each in side if each.size > 1] for side in (first, second))
    rest = [units for units in (*first, *second) if units.reason is None]
    freeze((tuple(rest),), reason)
    return bool(rest)


def _product(axes: Sequence[Axis]) -> Axis:
    result = SINGLE
    for axis in axes:
        result = _times(result, axis)
    return result


def _times(outer: Axis, inner: Axis) -> Axis:
    if not outer or not inner:
        return ()
    if outer == SINGLE:
        return inner
    if len(inner) > 1:
        times = length(outer)
        if all(map(_is_fixed, outer)) and times * len(inner) <= _MOST_BLOCKS:
            return inner * times
        reason = _reason(each for block in inner for each in block) or "blocks within units"
        freeze(inner, reason)
        inner = fixed(length(inner), reason)
    return tuple(_merged((*block, *inner[0])) for block in outer)


def _merged(block: Block) -> Block:
    """A block in which what stays in order and lies together is one set."""
    found: list[Units] = []
    for units in block:
        if found and found[-1].reason is not None and units.reason is not None:
            last = found.pop()
            units = Units(last.size * units.size, last.reason)
        found.append(units)
    return tuple(found)


def _axis(units: Units) -> Axis:
    return ((units,),) if units.size > 1 else SINGLE if units.size else ()


def _size(block: Block) -> int:
    return math.prod(units.size for units in block)


def _ends(axis: Axis) -> Iterable[int]:
    return (0, *accumulate(_size(block) for block in axis))


def _is_fixed(block: Block) -> bool:
    return all(units.reason is not None for units in block)


def _reason(units: Iterable[Units]) -> str:
    return next((each.reason for each in units if each.reason), "a single unit")
