"""A data set with a collation of its own: items of several sizes, padded to the longest of their batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

# Items at which it is seen whether they are of several sizes.
_LOOKED_AT = 64


class Collated(Dataset[Any]):
    """Items of a data set with what makes a batch of several of them.

    Args:
        dataset: Map-style.
        collate_fn: Makes of a list of items a batch: tensors of one row per item, in a tuple, list or mapping.
        order: (n,) which item of the data set is the first, second, ...; None for its own order.
    """

    def __init__(
        self,
        dataset: Any,
        collate_fn: Callable[[list[Any]], Any],
        order: NDArray[np.int64] | None = None,
    ) -> None:
        self.dataset, self.collate_fn, self.order = dataset, collate_fn, order

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        return self.dataset[self.number(index)]

    def number(self, index: int) -> int:
        """The number in the data set itself of the item at a place."""
        return int(index if self.order is None else self.order[index])

    def reordered(self, order: NDArray[np.int64]) -> Collated:
        """The same items in another order."""
        return Collated(self.dataset, self.collate_fn, order if self.order is None else self.order[order])

    def lengths(self) -> NDArray[np.int64] | None:
        """(n,) the numbers in each item, by which it is long or short; None where the first ones are all alike.

        All items are read once where they are not.
        """
        # The first ones, and some from all over: neighbors may be alike by chance.
        spread = np.linspace(0, len(self) - 1, _LOOKED_AT // 2).astype(int).tolist()
        looked_at = {*range(min(len(self), _LOOKED_AT // 2)), *spread}
        if len({item_length(self[index]) for index in looked_at}) == 1:
            return None
        return np.array([item_length(self[index]) for index in range(len(self))], dtype=np.int64)


def collation_of(dataset: Any) -> Callable[[list[Any]], Any] | None:
    """What makes a batch of a data set's items; None where that is the default collation."""
    return dataset.collate_fn if isinstance(dataset, Collated) else None


def item_length(item: Any) -> int:
    """The numbers and letters in an item.

    Example:
        >>> item_length({"input_ids": [3, 1, 4], "label": 1})
        4
    """
    if isinstance(item, Tensor):
        return item.numel()
    if isinstance(item, np.ndarray):
        return item.size
    if isinstance(item, str | bytes):
        return len(item)
    if isinstance(item, Mapping):
        return sum(map(item_length, item.values()))
    if isinstance(item, Iterable):
        return sum(map(item_length, item))
    return 1


def by_length(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """(n,) the order in which batches hold items of about equal lengths.

    The longest come first, so that memory which does not suffice shows at once; equal ones stay in their order.

    Example:
        >>> by_length(np.array([1, 9, 1, 9])).tolist()
        [1, 3, 0, 2]
    """
    return np.argsort(-lengths, kind="stable").astype(np.int64)


def padding(lengths: Sequence[int] | NDArray[np.int64], batch_size: int) -> float:
    """How many numbers are computed for one that is real, when each batch is padded to its longest item.

    Example:
        >>> padding([4, 2, 3], 2)
        1.2222222222222223
    """
    given = np.asarray(lengths, dtype=np.int64)
    batches = [given[start : start + batch_size] for start in range(0, given.size, batch_size)]
    return float(sum(batch.max() * batch.size for batch in batches) / max(1, given.sum()))
