"""Batches as the default collation makes them: nested sequences and mappings of leaves.

A leaf is a tensor whose first dimension counts the examples, or a sequence of one string per example.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor


def mapped(function: Callable[[Any], Any], nest: Any, *, lists: bool = False) -> Any:
    """The same nest with a function applied to every leaf; anything that is neither nest nor leaf stays as it is.

    Args:
        function: Gives the new leaf.
        nest: Sequences keep their type, mappings become dictionaries.
        lists: Whether sequences become lists, as in the default collation; named tuples stay even then.
    """
    if _is_leaf(nest):
        return function(nest)
    if isinstance(nest, Mapping):
        return {key: mapped(function, value, lists=lists) for key, value in nest.items()}
    if isinstance(nest, list | tuple):
        inner = [mapped(function, value, lists=lists) for value in nest]
        return inner if lists and not hasattr(nest, "_fields") else _alike(nest, inner)
    return nest


def map_tensors(function: Callable[[Tensor], Tensor], nest: Any) -> Any:
    """The same nest with a function applied to every tensor."""
    return mapped(lambda leaf: function(leaf) if isinstance(leaf, Tensor) else leaf, nest)


def fresh(nest: Any) -> Any:
    """The same leaves in containers of their own, so that what is taken out of these is gone from these alone.

    Tensors are shared; mappings become dictionaries.

    Example:
        >>> batch = {"input": torch.zeros(2), "names": ["a", "b"]}
        >>> taken = fresh(batch)
        >>> taken.pop("names"), sorted(batch)
        (['a', 'b'], ['input', 'names'])
    """
    return mapped(lambda leaf: leaf if isinstance(leaf, Tensor) else _alike(leaf, list(leaf)), nest)


def leaves(nest: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every leaf of a nest with its place in it: `/0`, `/target`."""
    if _is_leaf(nest):
        yield path, nest
    elif isinstance(nest, Mapping):
        for key, value in nest.items():
            yield from leaves(value, f"{path}/{key}")
    elif isinstance(nest, list | tuple):
        for index, value in enumerate(nest):
            yield from leaves(value, f"{path}/{index}")


def tensors(nest: Any) -> Iterator[tuple[str, Tensor]]:
    """The leaves that are tensors."""
    return ((place, leaf) for place, leaf in leaves(nest) if isinstance(leaf, Tensor))


def _is_strings(nest: Any) -> bool:
    """Whether this is what strings are collated into: a sequence of one per example."""
    return (
        isinstance(nest, list | tuple) and bool(nest) and all(isinstance(each, str | bytes) for each in nest)
    )


def _is_leaf(nest: Any) -> bool:
    return isinstance(nest, Tensor) or _is_strings(nest)


def _alike(nest: Any, inner: list[Any]) -> Any:
    """A sequence of the type of another."""
    return type(nest)(*inner) if hasattr(nest, "_fields") else type(nest)(inner)


def moved(nest: Any, device: torch.device) -> Any:
    """A nest on a device."""
    # From pinned memory to a GPU this does not wait; from any other it does by itself. On its way back it must.
    return map_tensors(lambda tensor: tensor.to(device, non_blocking=device.type != "cpu"), nest)


def in_precision(nest: Any, dtype: torch.dtype | None) -> Any:
    """A nest with its floating-point tensors in the precision of the computation; as it is where that is None.

    The default collation makes float64 of Python's floats and keeps that of numpy's.
    """
    if dtype is None:
        return nest
    return map_tensors(lambda tensor: tensor.to(dtype) if tensor.is_floating_point() else tensor, nest)


def rows(nest: Any, start: int, stop: int) -> Any:
    """The examples [start, stop) of a nest, as views."""
    return mapped(lambda leaf: leaf[start:stop], nest)


def taken(nest: Any, chosen: Tensor) -> Any:
    """Examples of a nest, in new memory; `chosen` is (n,) int64, on the device of the tensors."""

    def take(leaf: Any) -> Any:
        if isinstance(leaf, Tensor):
            return leaf.index_select(0, chosen)
        return [leaf[index] for index in chosen.tolist()]

    return mapped(take, nest)


def joined(parts: Sequence[Any]) -> Any:
    """One nest of all examples from those of several batches."""
    first = parts[0]
    if isinstance(first, Tensor):
        return torch.cat(list(parts))
    if _is_strings(first):
        return [each for part in parts for each in part]
    if isinstance(first, Mapping):
        return {key: joined([part[key] for part in parts]) for key in first}
    if isinstance(first, list | tuple):
        return _alike(first, [joined([part[place] for part in parts]) for place in range(len(first))])
    return first


def filled(template: Any, values: Sequence[Tensor]) -> Any:
    """The nest of `template` with other tensors, in the order of `tensors`."""
    remaining = iter(values)
    return map_tensors(lambda _: next(remaining), template)


def equal(first: Any, second: Any) -> bool:
    """Whether two nests hold the same values and strings at the same places (NaN is equal to itself)."""
    left, right = dict(leaves(first)), dict(leaves(second))
    return left.keys() == right.keys() and all(_same(left[place], right[place]) for place in left)


def _same(first: Any, second: Any) -> bool:
    if not isinstance(first, Tensor) or not isinstance(second, Tensor):
        return not isinstance(second, Tensor) and list(first) == list(second)
    if first.shape != second.shape or first.dtype != second.dtype:
        return False
    both_nan = (first != first) & (second != second)
    return bool(((first == second) | both_nan).all())


def num_bytes(nest: Any) -> int:
    """Memory of the tensors of a nest."""
    return sum(tensor.nbytes for _, tensor in tensors(nest))


def evenly_spaced(num_examples: int, most: int) -> list[int]:
    """At most so many examples, from the first to the last.

    Example:
        >>> evenly_spaced(101, 5)
        [0, 25, 50, 75, 100]
        >>> evenly_spaced(3, 5)
        [0, 1, 2]
    """
    return np.unique(np.linspace(0, num_examples - 1, most).astype(int)).tolist()  # type: ignore[no-any-return]


class Digest:
    """What tells one data set from another: SHA-256 of its examples as collated.

    There is one running hash per place in the nest, so that batch boundaries leave no trace.
    """

    def __init__(self) -> None:
        self._places: dict[str, hashlib._Hash] = {}

    def update(self, batch: Any) -> None:
        """Take more examples, in the order of the data set."""
        for place, leaf in leaves(batch):
            if place not in self._places:
                kind = f"{leaf.dtype} {tuple(leaf.shape[1:])}" if isinstance(leaf, Tensor) else "strings"
                self._places[place] = hashlib.sha256(kind.encode())
            if isinstance(leaf, Tensor):
                self._places[place].update(tensor_bytes(leaf))
            else:
                self._places[place].update("".join(f"{each!r} " for each in leaf).encode())

    def text(self) -> str:
        """64 hexadecimal digits."""
        whole = hashlib.sha256()
        for place, partial in sorted(self._places.items()):
            whole.update(f"{place} {partial.hexdigest()} ".encode())
        return whole.hexdigest()


def tensor_bytes(tensor: Tensor) -> memoryview:
    """The values of a tensor as bytes, in C order."""
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().data
