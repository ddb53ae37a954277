"""The examples of a split as batches on the device, kept there or read as they are needed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal, Protocol, get_args

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from mpi_landscape.errors import LandscapeError
from mpi_landscape.training import nests
from mpi_landscape.training.augmentation import Augment
from mpi_landscape.training.feed_from_loader import Streamed
from mpi_landscape.training.feed_from_memory import Resident
from mpi_landscape.training.reading import collated, read_item

__all__ = ["Examples", "Mode", "Resident", "Streamed", "make_examples"]

Mode = Literal["auto", "resident", "streamed"]

# Items, evenly spaced, that are read a second time to see whether a data set draws at random.
_REREAD = 32


class Examples(Protocol):
    """A split of the data."""

    def __len__(self) -> int:
        """How many examples it has."""

    def batches(
        self, order: Tensor, size: int | Sequence[int], augment: Augment | None = None
    ) -> Iterator[Any]:
        """Examples in a given order, a batch at a time.

        Args:
            order: (n,) int64 on the CPU, indices of examples.
            size: Examples per batch, the last may be smaller; or the size of each, n in all.
            augment: What is random about them; nothing without it.

        Returns:
            What the default collation of the items gives, on the device, floating-point tensors in the precision of the
            network.
        """


def make_examples(
    split: str,
    dataset: Dataset[Any],
    *,
    device: torch.device,
    dtype: torch.dtype,
    workers: int = 0,
    mode: Mode = "auto",
    available: int | None = None,
) -> Examples:
    """Keep a split on the device, or read it as it is needed.

    A data set may offer `stored() -> nest of tensors (N, ...)` and `finish(nest) -> nest`, which makes of some stored
    examples what the default collation makes of its items, bit for bit; then the stored form is what is kept, and what
    is augmented. Any other is read once, item by item. One whose items are others on a second reading (augmentation of
    its own) is read anew in every epoch, whatever the mode.

    Args:
        split: Name, for messages.
        dataset: Map-style; items as `torch.utils.data.default_collate` takes them.
        device: Where the batches shall lie.
        dtype: What floating-point tensors become.
        workers: Processes that read a streamed split.
        mode: "resident" keeps it, "streamed" does not, "auto" keeps it where it takes less than half of `available`.
        available: Memory of the device, bytes; None for no bound.

    Raises:
        LandscapeError: The split is empty, an item cannot be read or collated, or there is no such mode.
    """
    if mode not in get_args(Mode):
        raise LandscapeError(f"data: mode {mode!r}; valid are {', '.join(get_args(Mode))}")
    num_examples = len(dataset)  # type: ignore[arg-type]
    if num_examples == 0:
        raise LandscapeError(f"data: split {split!r} is empty; training needs at least one example")
    probed = np.unique(np.linspace(0, num_examples - 1, _REREAD).astype(int)).tolist()
    first = _read(split, dataset, probed, dtype)
    stored = _stored(dataset, probed, first, dtype)
    size = nests.num_bytes(stored) if stored else nests.num_bytes(first) * num_examples // len(probed)
    fits = mode == "resident" or (mode == "auto" and (available is None or size < available / 2))
    if not fits or not (stored or nests.equal(first, _read(split, dataset, probed, dtype))):
        return Streamed(
            dataset, split=split, device=device, dtype=dtype, workers=workers, use_stored=stored is not None
        )
    if stored is None:
        return Resident(_read(split, dataset, range(num_examples), dtype), None, device=device, dtype=dtype)
    return Resident(stored, dataset.finish, device=device, dtype=dtype)  # type: ignore[attr-defined]


def _read(split: str, dataset: Dataset[Any], indices: Sequence[int], dtype: torch.dtype) -> Any:
    items = [read_item(split, dataset, index) for index in indices]
    return nests.moved(collated(split, items), torch.device("cpu"), dtype)


def _stored(dataset: Any, probed: Sequence[int], items: Any, dtype: torch.dtype) -> Any | None:
    """The stored form of a data set; None where it has none, or one that is not that of its items.

    A class of a user's may inherit `stored` and change what an item is.
    """
    if not (hasattr(dataset, "stored") and hasattr(dataset, "finish")):
        return None
    stored = dataset.stored()
    if any(len(leaf) != len(dataset) for leaf in nests.leaves(stored)):
        return None
    finished = dataset.finish(nests.selected(stored, torch.tensor(probed)))
    return stored if nests.equal(nests.moved(finished, torch.device("cpu"), dtype), items) else None
