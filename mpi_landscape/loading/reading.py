"""Items of a data set, read and collated, with its exceptions put in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.data import Dataset, default_collate

from mpi_landscape.errors import LandscapeError
from mpi_landscape.loading import nests
from mpi_landscape.wording import one_line


def read_item(split: str, dataset: Dataset[Any], index: int, *, stored: bool = False) -> Any:
    """One item of a data set, or one as it is stored; what the data set raises becomes a LandscapeError."""
    try:
        return dataset.stored_item(index) if stored else dataset[index]  # type: ignore[attr-defined]
    except Exception as error:
        raise LandscapeError(
            f"data: item {index} of split {split!r} could not be read: {type(error).__name__}: {one_line(error)}"
        ) from error


def read_items(split: str, dataset: Dataset[Any], indices: Sequence[int]) -> list[Any]:
    """Several items; see `read_item`."""
    return [read_item(split, dataset, index) for index in indices]


def collate(split: str, items: list[Any], *, dtype: torch.dtype | None) -> Any:
    """The default collation of items, floating-point tensors as `dtype`, or as they are where it is None.

    Raises:
        LandscapeError: Items have different shapes, or the default collation cannot take them.
    """
    try:
        batch = default_collate(items)
    except Exception as error:  # of several kinds: ValueError for an array of negative strides, KeyError, ...
        raise LandscapeError(
            f"data: items of split {split!r} do not collate into a batch: {one_line(error)}; "
            f"items must be (input, target) or mappings of tensors, arrays or numbers, all of one shape"
        ) from error
    return nests.in_precision(batch, dtype)
