"""Batches as the default collation makes them: nested lists and mappings of tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
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


def tensors(batch: Any, path: str = "") -> Iterator[tuple[str, Tensor]]:
    """Every tensor of a nest, with its place in it: `/0`, `/target`."""
    if isinstance(batch, Tensor):
        yield path, batch
    elif isinstance(batch, Mapping):
        for key, value in batch.items():
            yield from tensors(value, f"{path}/{key}")
    elif isinstance(batch, list | tuple):
        for index, value in enumerate(batch):
            yield from tensors(value, f"{path}/{index}")


def rows(batch: Any, start: int, stop: int) -> Any:
    """The examples [start, stop) of a batch."""
    if isinstance(batch, list | tuple) and batch and all(isinstance(value, str | bytes) for value in batch):
        return batch[start:stop]  # strings are collated into a list of one per example
    if isinstance(batch, Tensor):
        return batch[start:stop]
    if isinstance(batch, Mapping):
        return {key: rows(value, start, stop) for key, value in batch.items()}
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(rows(value, start, stop) for value in batch))
    if isinstance(batch, list | tuple):
        return type(batch)(rows(value, start, stop) for value in batch)
    return batch


def equal(first: Any, second: Any) -> bool:
    """Whether two nests hold the same tensors, bit for bit (NaN equal to itself)."""
    left, right = dict(tensors(first)), dict(tensors(second))
    return left.keys() == right.keys() and all(_same(left[place], right[place]) for place in left)


def _same(first: Tensor, second: Tensor) -> bool:
    if first.shape != second.shape or first.dtype != second.dtype:
        return False
    if torch.equal(first, second):
        return True
    return first.is_floating_point() and torch.equal(first.isnan(), second.isnan()) and torch.equal(
        first.nan_to_num(), second.nan_to_num()
    )
