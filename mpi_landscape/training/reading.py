"""Items of a data set, with its exceptions put in words."""

from __future__ import annotations

from typing import Any

from torch.utils.data import Dataset, default_collate

from mpi_landscape.errors import LandscapeError


def read_item(split: str, dataset: Dataset[Any], index: int) -> Any:
    """One item.

    Raises:
        LandscapeError: The data set raised.
    """
    try:
        return dataset[index]
    except Exception as error:
        raise LandscapeError(
            f"data: item {index} of split {split!r} could not be read: {type(error).__name__}: {_one_line(error)}"
        ) from error


def collated(split: str, items: list[Any]) -> Any:
    """The default collation of items.

    Raises:
        LandscapeError: Items of different shapes, or that the default collation cannot take.
    """
    try:
        return default_collate(items)
    except Exception as error:  # of several kinds: ValueError for an array of negative strides, KeyError, ...
        raise LandscapeError(
            f"data: items of split {split!r} do not collate into a batch: {_one_line(error)}; "
            f"items must be (input, target) or mappings of tensors, arrays or numbers, all of one shape"
        ) from error


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
