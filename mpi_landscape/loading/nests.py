"""Batches as the default collation makes them: nested lists and mappings of tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def map_tensors(function: Callable[[Tensor], Tensor], batch: Any) -> Any:
    """The same nest with `function` applied to every tensor; anything else stays as it is."""
    if isinstance(batch, Tensor):
        return function(batch)
    if isinstance(batch, Mapping):
        return {key: map_tensors(function, value) for key, value in batch.items()}
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(map_tensors(function, value) for value in batch))
    if isinstance(batch, list | tuple):
        return type(batch)(map_tensors(function, value) for value in batch)
    return batch


def leaves(batch: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every tensor and every sequence of strings of a nest, with its place in it: `/0`, `/target`."""
    if isinstance(batch, Tensor) or is_strings(batch):
        yield path, batch
    elif isinstance(batch, Mapping):
        for key, value in batch.items():
            yield from leaves(value, f"{path}/{key}")
    elif isinstance(batch, list | tuple):
        for index, value in enumerate(batch):
            yield from leaves(value, f"{path}/{index}")


def tensors(batch: Any) -> Iterator[tuple[str, Tensor]]:
    """The leaves that are tensors."""
    return ((place, leaf) for place, leaf in leaves(batch) if isinstance(leaf, Tensor))


def is_strings(batch: Any) -> bool:
    """Whether this is what strings are collated into: a sequence of one per example."""
    return (
        isinstance(batch, list | tuple)
        and bool(batch)
        and all(isinstance(each, str | bytes) for each in batch)
    )


def rows(batch: Any, start: int, stop: int) -> Any:
    """The examples [start, stop) of a batch."""
    if isinstance(batch, Tensor) or is_strings(batch):
        return batch[start:stop]
    if isinstance(batch, Mapping):
        return {key: rows(value, start, stop) for key, value in batch.items()}
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(rows(value, start, stop) for value in batch))
    if isinstance(batch, list | tuple):
        return type(batch)(rows(value, start, stop) for value in batch)
    return batch


def equal(first: Any, second: Any) -> bool:
    """Whether two nests hold the same values and strings (NaN equal to itself)."""
    left, right = dict(leaves(first)), dict(leaves(second))
    return left.keys() == right.keys() and all(_same(left[place], right[place]) for place in left)


def _same(first: Any, second: Any) -> bool:
    if not isinstance(first, Tensor) or not isinstance(second, Tensor):
        return not isinstance(second, Tensor) and list(first) == list(second)
    if first.shape != second.shape or first.dtype != second.dtype:
        return False
    both_nan = (first != first) & (second != second)
    return bool(((first == second) | both_nan).all())


def filled(template: Any, values: Sequence[Tensor]) -> Any:
    """The nest of `template` with other tensors, in the order of `tensors`."""
    remaining = iter(values)
    return map_tensors(lambda _: next(remaining), template)


def num_bytes(batch: Any) -> int:
    """Memory of the tensors of a nest."""
    return sum(tensor.numel() * tensor.element_size() for _, tensor in tensors(batch))


def evenly_spaced(num_examples: int, most: int) -> list[int]:
    """At most so many examples, from the first to the last."""
    return np.unique(np.linspace(0, num_examples - 1, most).astype(int)).tolist()  # type: ignore[no-any-return]


def joined(parts: Sequence[Any]) -> Any:
    """One nest of all examples from those of several batches."""
    first = parts[0]
    if isinstance(first, Tensor):
        return torch.cat(list(parts))
    if is_strings(first):
        return [each for part in parts for each in part]
    if isinstance(first, Mapping):
        return {key: joined([part[key] for part in parts]) for key in first}
    if isinstance(first, list | tuple):
        inner = [joined([part[place] for part in parts]) for place in range(len(first))]
        return type(first)(*inner) if hasattr(first, "_fields") else type(first)(inner)
    return first


def taken(whole: Any, chosen: NDArray[np.int64]) -> Any:
    """The chosen examples of a nest."""
    if isinstance(whole, Tensor):
        return whole[torch.from_numpy(chosen).to(whole.device)]
    if is_strings(whole):
        return [whole[index] for index in chosen]
    if isinstance(whole, Mapping):
        return {key: taken(value, chosen) for key, value in whole.items()}
    if isinstance(whole, list | tuple):
        inner = [taken(value, chosen) for value in whole]
        return type(whole)(*inner) if hasattr(whole, "_fields") else type(whole)(inner)
    return whole
