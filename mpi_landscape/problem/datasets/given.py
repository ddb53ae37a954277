"""What has been given as data: tensors of one row per example, data sets of Hugging Face, iterables that are read once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import psutil
import torch
from torch import Tensor
from torch.utils.data import Dataset

from mpi_landscape.errors import LandscapeError
from mpi_landscape.loading import nests
from mpi_landscape.wording import amount, listed, one_line, shown

EXPECTED = (
    "expected a data set with __len__ and __getitem__, a DataLoader, tensors or arrays (x, y), a dict of tensors, or several "
    "of these by name"
)
# Share of the free memory that what can be read only once may take.
_SHARE = 0.5


@dataclass(frozen=True, kw_only=True)
class Given:
    """Data sets by split.

    Attributes:
        splits: Map-style; of a padding `collate_fn` a `Collated`.
        batch_size: The size of the batches in which the first split came; None where it came without.
        notes: What was taken of a loader or an iterable, and what not, in lines for people.
    """

    splits: Mapping[str, Any]
    batch_size: int | None = None
    notes: Sequence[str] = ()


class Rows(Dataset[Any]):
    """Tensors of one row per example, in a tuple or a mapping; they are not copied."""

    def __init__(self, nest: Any) -> None:
        self._nest = nest
        self._length = len(next(leaf for _, leaf in nests.leaves(nest)))

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Any:
        if not -self._length <= index < self._length:
            raise IndexError(index)
        return nests.mapped(lambda leaf: leaf[index], self._nest)

    def stored(self) -> Any:
        """All of it; see `loading.form`."""
        return self._nest

    def finish(self, nest: Any) -> Any:
        """Nothing is left to be done."""
        return nest


@dataclass(frozen=True, kw_only=True)
class Split:
    """One split of them; its attributes are those of `Given`."""

    dataset: Any
    batch_size: int | None = None
    notes: list[str] = field(default_factory=list)


def rows_of(nest: Any, subject: str) -> Rows:
    """A data set of a nest of tensors; refused where they have not the same number of rows."""
    tensors = [leaf for _, leaf in nests.tensors(nest)]
    if any(leaf.ndim == 0 for leaf in tensors):
        raise LandscapeError(f"{subject} has a tensor without rows; valid are tensors of one row per example")
    if len({len(leaf) for leaf in tensors}) > 1:
        raise LandscapeError(
            f"{subject} has tensors of {listed([len(leaf) for leaf in tensors])} rows; valid is one row per example in each"
        )
    if not len(tensors[0]):
        raise LandscapeError(f"{subject} is empty; expected at least one example")
    return Rows(nest)


def tensor_of(value: Any, subject: str) -> Tensor:
    """A tensor, or an array as one, whatever its strides and its byte order."""
    if isinstance(value, Tensor):
        return value.detach()
    try:
        return torch.from_numpy(np.ascontiguousarray(value.astype(value.dtype.newbyteorder("="), copy=False)))
    except TypeError as error:
        raise LandscapeError(
            f"{subject} is an array of {value.dtype}; valid are arrays of numbers"
        ) from error


def is_hugging_face(data: Any) -> bool:
    """Whether it is a `datasets.Dataset`."""
    kind = type(data)
    return kind.__module__.split(".")[0] == "datasets" and kind.__name__ == "Dataset"


def of_hugging_face(data: Any, name: str, *, collated: bool = False) -> Split:
    """A `datasets.Dataset` whose items are tensors: texts are left out, as no network takes them."""
    if collated or data.format["type"] is not None:
        return Split(dataset=data)
    texts = [column for column, kind in data.features.items() if getattr(kind, "dtype", "") == "string"]
    notes = [f"{name}: columns of text are left out ({', '.join(texts)})"] if texts else []
    kept = data.remove_columns(texts) if texts else data
    return Split(dataset=kept.with_format("torch"), notes=notes)


def materialized(data: Any, subject: str, name: str) -> Split:
    """What can only be gone through, read once and kept."""
    if not isinstance(data, Iterable):
        raise LandscapeError(f"{subject} is {shown(data)}; {EXPECTED}")
    room, size, items = psutil.virtual_memory().available * _SHARE, 0, []
    try:
        for item in data:
            items.append(item)
            size += max(64, nests.num_bytes(item))
            if size > room:
                raise LandscapeError(
                    f"{subject}, a {type(data).__name__}, has not ended after {len(items)} items of {amount(size)}, half of "
                    f"the memory that was free; valid is a finite one that fits, or a data set with __len__ and __getitem__"
                )
    except LandscapeError:
        raise
    except Exception as error:
        raise LandscapeError(
            f"{subject}: item {len(items)} could not be read: {type(error).__name__}: {one_line(error)}"
        ) from error
    if not items:
        raise LandscapeError(
            f"{subject}, a {type(data).__name__}, gave no item; one that was gone through before is empty"
        )
    note = f"{name}: a {type(data).__name__}, read once and kept: {len(items)} items, {amount(size)}"
    return Split(dataset=items, notes=[note])
