"""The rules of operations that put the same numbers into another shape."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from mpi_landscape.evaluation.alignment.axes import SINGLE, free, joined, length, part, product
from mpi_landscape.evaluation.alignment.operation import Axes, Operation, Results


def view(op: Operation) -> Results:
    """Axes flattened into one, and one axis unfolded into several."""
    axes, old, new = op.known(op.first), list(op.first.shape), list(op.results[0].shape)
    found: Axes = []
    for left, right in _chunks(old, new):
        inside, sizes = axes[left], new[right]
        if len(sizes) == 1:
            found.append(product(*inside))
        else:
            unfolded = [free(size) for size in sizes]
            op.tie(product(*unfolded), product(*inside))
            found += unfolded
    return [found]


def _chunks(old: Sequence[int], new: Sequence[int]) -> list[tuple[slice, slice]]:
    """The smallest runs of sizes that have the same product, in their order.

    Example:
        >>> _chunks([2, 3, 4, 5], [6, 20])
        [(slice(0, 2, None), slice(0, 1, None)), (slice(2, 4, None), slice(1, 2, None))]
    """
    found, i, j = [], 0, 0
    while i < len(old) or j < len(new):
        first, second = i, j
        left, right = (old[i], new[j]) if i < len(old) and j < len(new) else (1, 1)
        i, j = min(i + 1, len(old)), min(j + 1, len(new))
        while left != right:
            if left < right:
                left, i = left * old[i], i + 1
            else:
                right, j = right * new[j], j + 1
        if i == len(old):  # sizes of 1 at the end
            j = len(new) if all(size == 1 for size in new[j:]) else j
        if j == len(new):
            i = len(old) if all(size == 1 for size in old[i:]) else i
        found.append((slice(first, i), slice(second, j)))
    return found


def permute(op: Operation) -> Results:
    """Axes in another order."""
    axes = op.known(op.first)
    return [[axes[at] for at in op.dims("dims", len(axes))]]


def transpose(op: Operation) -> Results:
    """Two axes in each other's place."""
    axes = list(op.known(op.first))
    if op.name == "t":
        return [axes[::-1]]
    one, other = op.arguments["dim0"] % len(axes), op.arguments["dim1"] % len(axes)
    axes[one], axes[other] = axes[other], axes[one]
    return [axes]


def strided(op: Operation) -> Results:
    """The same axes by another count of steps in memory; anything else is in order."""
    first, new = op.first, op.results[0]
    axes, found = list(zip(first.shape, first.stride(), op.known(first), strict=True)), []
    for size, step in zip(new.shape, new.stride(), strict=True):
        same = next((each for each in axes if size > 1 and each[:2] == (size, step)), None)
        if same is not None:
            axes.remove(same)
        elif size != 1:
            raise NotImplementedError
        found.append(SINGLE if same is None else same[2])
    if any(size != 1 for size, *_ in axes) or new.storage_offset() != first.storage_offset():
        raise NotImplementedError
    return [found]


def unsqueeze(op: Operation) -> Results:
    """A new axis of one position."""
    axes = list(op.known(op.first))
    axes.insert(op.arguments["dim"] % (len(axes) + 1), SINGLE)
    return [axes]


def squeeze(op: Operation) -> Results:
    """Fewer axes of one position."""
    axes = op.known(op.first)
    over = op.dims("dim", len(axes))
    shape = op.first.shape
    return [[axis for at, axis in enumerate(axes) if at not in over or shape[at] != 1]]


def expand(op: Operation) -> Results:
    """The same numbers at all positions of an axis, which has no order then."""
    axes, shape, new = op.known(op.first), op.first.shape, op.results[0].shape
    more = len(new) - len(shape)
    return [
        [
            free(size) if at < more or shape[at - more] != size else axes[at - more]
            for at, size in enumerate(new)
        ]
    ]


def repeat(op: Operation) -> Results:
    """An axis several times, one after the other."""
    axes, repeats = op.known(op.first), op.arguments["repeats"]
    axes = [SINGLE] * (len(repeats) - len(axes)) + list(axes)
    return [
        [
            axis if times == 1 else product(op.in_order(times), axis) if length(axis) != 1 else free(times)
            for times, axis in zip(repeats, axes, strict=True)
        ]
    ]


def cat(op: Operation) -> Results:
    """Tensors one after the other along an axis."""
    given = [each for each in op.tensors if not (each.ndim == 1 and each.shape[0] == 0)]
    every = [op.known(each) for each in given]
    dim = op.get("dim", 0) % len(every[0])
    found = list(every[0])
    for axes in every[1:]:
        for at, axis in enumerate(axes):
            if at != dim:
                op.tie(found[at], axis)
    found[dim] = joined(*(axes[dim] for axes in every))
    return [found]


def stack(op: Operation) -> Results:
    """Tensors beside each other along a new axis."""
    every = [op.known(each) for each in op.tensors]
    for axes in every[1:]:
        for one, other in zip(every[0], axes, strict=True):
            op.tie(one, other)
    found = list(every[0])
    found.insert(op.get("dim", 0) % (len(found) + 1), op.in_order(len(every)))
    return [found]


def slices(op: Operation) -> Results:
    """A part of an axis: its units change places among themselves then, and the others among themselves."""
    dim = op.get("dim", 0) % op.first.ndim
    size = op.first.shape[dim]
    start, stop = _bounds(op.get("start"), op.get("end"), size)
    axes = list(op.known(op.first))
    if op.get("step", 1) == 1:
        axes[dim] = part(axes[dim], start, max(start, stop), op.reason)
    else:
        op.fix(axes[dim])
        axes[dim] = op.in_order(op.results[0].shape[dim])
    return [axes]


def select(op: Operation) -> Results:
    """One position of an axis: its unit stays where it is."""
    axes = list(op.known(op.first))
    dim = op.get("dim", 0) % len(axes)
    index = op.arguments["index"] % op.first.shape[dim]
    part(axes[dim], index, index + 1, op.reason)
    del axes[dim]
    return [axes]


def split(op: Operation) -> Results:
    """Several parts of an axis, one after the other."""
    axes, dim = op.known(op.first), op.get("dim", 0) % op.first.ndim
    start, found = 0, []
    for each in op.results:
        stop = start + each.shape[dim]
        found.append([*axes[:dim], part(axes[dim], start, stop, op.reason), *axes[dim + 1 :]])
        start = stop
    return list(found)


def unbind(op: Operation) -> Results:
    """Every position of an axis by itself."""
    axes, dim = op.known(op.first), op.get("dim", 0) % op.first.ndim
    op.fix(axes[dim])
    return [[*axes[:dim], *axes[dim + 1 :]] for _ in op.results]


def pad(op: Operation) -> Results:
    """One number around an axis; a negative width cuts off."""
    axes, widths = list(op.known(op.first)), op.arguments["pad"]
    for number in range(len(widths) // 2):
        at, before, after = len(axes) - 1 - number, widths[2 * number], widths[2 * number + 1]
        size = length(axes[at])
        inside = part(axes[at], max(0, -before), size - max(0, -after), op.reason) if size > 1 else axes[at]
        axes[at] = joined(free(max(0, before)), inside, free(max(0, after)))
    return [axes]


def index(op: Operation) -> Results:
    """Positions by their numbers, of one axis or several next to each other; the other axes are as they were."""
    axes, given = op.known(op.first), op.arguments["indices"]
    at = [number for number, each in enumerate(given) if each is not None]
    numbers = [given[each] for each in at]
    if at != list(range(at[0], at[-1] + 1)) or any(each.dtype.itemsize == 1 for each in numbers):
        raise NotImplementedError
    op.fix(*axes[at[0] : at[-1] + 1], *(axis for each in numbers for axis in op.known(each)))
    new = op.results[0].shape[at[0] : at[0] + max(each.ndim for each in numbers)]
    return [[*axes[: at[0]], *(op.in_order(size) for size in new), *axes[at[-1] + 1 :]]]


def index_select(op: Operation) -> Results:
    """Positions of one axis by their numbers."""
    axes, dim = list(op.known(op.first)), op.arguments["dim"] % op.first.ndim
    numbers = op.arguments["index"]
    op.fix(axes[dim], *(op.known(numbers) if isinstance(numbers, Tensor) else ()))
    axes[dim] = op.in_order(op.results[0].shape[dim])
    return [axes]


def two_parts(op: Operation) -> Results:
    """A complex number as its two parts."""
    return [[*op.known(op.first), op.in_order(2)]]


def one_of_two_parts(op: Operation) -> Results:
    """A complex number of two."""
    *axes, parts = op.known(op.first)
    op.fix(parts)
    return [axes]


def _bounds(start: int | None, stop: int | None, size: int) -> tuple[int, int]:
    begin, end, _ = slice(start, stop).indices(size)
    return begin, end


# By rule, the operations that it holds for.
SHAPING: dict[Callable[[Operation], Results], str] = {
    view: "view _unsafe_view reshape _reshape_alias _reshape_copy view_copy",
    permute: "permute",
    transpose: "t transpose swapaxes",
    strided: "as_strided",
    unsqueeze: "unsqueeze",
    squeeze: "squeeze",
    expand: "expand",
    repeat: "repeat",
    cat: "cat concat",
    stack: "stack",
    slices: "slice",
    select: "select",
    split: "split split_with_sizes unsafe_split unsafe_split_with_sizes",
    unbind: "unbind",
    pad: "constant_pad_nd",
    index: "index _unsafe_index",
    index_select: "index_select",
    two_parts: "view_as_real _view_as_real",
    one_of_two_parts: "view_as_complex",
}
