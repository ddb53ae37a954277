"""Batches as the default collation makes them: nested lists and mappings of tensors, and lists of strings."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor


def mapped(function: Callable[[Any], Any], nest: Any) -> Any:
    """The same nest with a function applied to every leaf: tensors, lists of one string per example, anything else.

    Sequences become lists and mappings dictionaries, as in the default collation; named tuples stay.
    """
    if isinstance(nest, Mapping):
        return {key: mapped(function, value) for key, value in nest.items()}
    if isinstance(nest, tuple) and hasattr(nest, "_fields"):
        return type(nest)(*(mapped(function, value) for value in nest))
    if isinstance(nest, list | tuple) and not is_strings(nest):
        return [mapped(function, value) for value in nest]
    return function(nest)


def is_strings(nest: Any) -> bool:
    """Whether this is what strings are collated into: a sequence of one per example."""
    return (
        isinstance(nest, list | tuple) and bool(nest) and all(isinstance(each, str | bytes) for each in nest)
    )


def leaves(nest: Any) -> Iterator[Any]:
    """Every leaf of a nest, in order."""
    found: list[Any] = []
    mapped(found.append, nest)
    return iter(found)


def tensors(nest: Any) -> Iterator[Tensor]:
    """The leaves that are tensors."""
    return (leaf for leaf in leaves(nest) if isinstance(leaf, Tensor))


def moved(batch: Any, device: torch.device, dtype: torch.dtype = torch.float32) -> Any:
    """A collated batch on a device, floating-point tensors in the network's precision.

    The default collation makes float64 of Python's floats and keeps that of numpy's.
    """

    def move(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor):
            return leaf
        # From pinned memory this does not wait; from any other it does by itself.
        return leaf.to(device, dtype if leaf.is_floating_point() else leaf.dtype, non_blocking=True)

    return mapped(move, batch)


def selected(nest: Any, indices: Tensor) -> Any:
    """Some examples of a nest.

    Args:
        nest: Leaves of N examples.
        indices: (n,) int64, on the device of the tensors.

    Returns:
        Leaves of n examples, in the order of `indices`; new memory.
    """

    def select(leaf: Any) -> Any:
        if isinstance(leaf, Tensor):
            return leaf.index_select(0, indices)
        return [leaf[index] for index in indices.tolist()] if is_strings(leaf) else leaf

    return mapped(select, nest)


def cut(order: Tensor, size: int | Sequence[int]) -> tuple[Tensor, ...]:
    """Parts of (n,) indices: each of one size, the last may be smaller; or of given sizes, n in all."""
    parts: tuple[Tensor, ...] = order.split(size if isinstance(size, int) else list(size))  # type: ignore[no-untyped-call]
    return parts


def with_images(function: Callable[[Tensor], Tensor], nest: Any) -> Any:
    """A nest with a function applied to its images, the first tensor of four dimensions; as it is without any."""
    first = next((tensor for tensor in tensors(nest) if tensor.ndim == 4), None)
    return nest if first is None else mapped(lambda leaf: function(leaf) if leaf is first else leaf, nest)


def num_bytes(nest: Any) -> int:
    """Memory of the tensors of a nest."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors(nest))


def equal(first: Any, second: Any) -> bool:
    """Whether two nests have the same values and strings in the same order (NaN equal to itself)."""
    left, right = list(leaves(first)), list(leaves(second))
    return len(left) == len(right) and all(map(_same, left, right))


def _same(first: Any, second: Any) -> bool:
    if not isinstance(first, Tensor) or not isinstance(second, Tensor):
        return type(first) is type(second) and bool(first == second)
    if first.shape != second.shape or first.dtype != second.dtype:
        return False
    return bool(((first == second) | ((first != first) & (second != second))).all())
