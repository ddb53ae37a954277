"""Items of a data set, read and collated, with its exceptions put in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, default_collate

from mpi_landscape.errors import LandscapeError
from mpi_landscape.loading import nests
from mpi_landscape.loading.collated import Collated, collation_of
from mpi_landscape.wording import one_line


def read_item(split: str, dataset: Dataset[Any], index: int, *, stored: bool = False) -> Any:
    """One item of a data set, or one as it is stored; what the data set raises becomes a LandscapeError."""
    try:
        return dataset.stored_item(index) if stored else dataset[index]  # type: ignore[attr-defined]
    except Exception as error:
        index = dataset.number(index) if isinstance(dataset, Collated) else index
        raise LandscapeError(
            f"data: item {index} of split {split!r} could not be read: {type(error).__name__}: {one_line(error)}"
        ) from error


def read_items(split: str, dataset: Dataset[Any], indices: Sequence[int]) -> list[Any]:
    """Several items; see `read_item`."""
    return [read_item(split, dataset, index) for index in indices]


def collate(
    split: str, items: list[Any], *, dtype: torch.dtype | None, dataset: Dataset[Any] | None = None
) -> Any:
    """The collation of items, that of their data set or the default one, floating-point tensors as `dtype`, or as they are.

    Raises:
        LandscapeError: Items have different shapes, the collation cannot take them, or a batch has not one row per item.
    """
    own = collation_of(dataset)
    try:
        batch = default_collate(items) if own is None else _plain(own(items))
    except Exception as error:  # of several kinds: ValueError for an array of negative strides, KeyError, ...
        if own is not None:
            raise LandscapeError(
                f"data: the collate_fn of split {split!r} raised {type(error).__name__} for {len(items)} items: "
                f"{one_line(error)}"
            ) from error
        raise LandscapeError(
            f"data: items of split {split!r} do not collate into a batch: {one_line(error)}; "
            f"items must be (input, target) or mappings of tensors, arrays or numbers, all of one shape; items of several "
            f"sizes need a collate_fn that pads them, as that of a DataLoader"
        ) from error
    if own is not None:
        _check_rows(split, batch, len(items))
    return nests.in_precision(batch, dtype)


def _plain(batch: Any) -> Any:
    """A batch in plain containers: a library's own mapping may do more than hold (move, convert, warn)."""
    if isinstance(batch, Mapping):
        return {key: _plain(value) for key, value in batch.items()}
    if isinstance(batch, list | tuple) and not hasattr(batch, "_fields"):
        return type(batch)(map(_plain, batch)) if type(batch) in (list, tuple) else list(map(_plain, batch))
    return torch.as_tensor(batch) if isinstance(batch, np.ndarray) else batch


def _check_rows(split: str, batch: Any, number: int) -> None:
    """Refuse a batch of which a tensor has not one row per item: nobody knows then which numbers are an example's."""
    for place, leaf in nests.tensors(batch):
        if leaf.shape[:1] != (number,):
            raise LandscapeError(
                f"data: the collate_fn of split {split!r} makes {place[1:] or 'a tensor'} of shape {tuple(leaf.shape)} of "
                f"{number} items; valid are tensors of one row per item, padded where items have several sizes"
            )
    if not any(True for _ in nests.tensors(batch)):
        raise LandscapeError(
            f"data: the collate_fn of split {split!r} makes a {type(batch).__name__} without tensors; valid are tensors in a "
            f"tuple, a list or a mapping"
        )
