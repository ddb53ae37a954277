"""A split as a training takes it, batch by batch on the device: kept there, or read as it is needed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol, get_args

import torch
from torch import Tensor
from torch.utils.data import Dataset

from mpi_landscape.errors import LandscapeError
from mpi_landscape.loading import nests
from mpi_landscape.loading.form import PROBED, form_of_items, stored_form
from mpi_landscape.training.augmentation import Augment
from mpi_landscape.training.feed_from_loader import FeedFromLoader
from mpi_landscape.training.feed_from_memory import FeedFromMemory
from mpi_landscape.vocabulary import Placement


class Feed(Protocol):
    """A split of the data."""

    def __len__(self) -> int:
        """How many examples it has."""

    def batches(self, order: Tensor, size: int | list[int], augment: Augment | None = None) -> Iterator[Any]:
        """Examples in a given order, a batch at a time.

        Args:
            order: (n,) int64 on the CPU, indices of examples.
            size: Examples per batch, the last may be smaller; or the size of each, n in all.
            augment: What is random about the examples; None where nothing is.

        Returns:
            What the default collation of the items gives, on the device, floating-point tensors in the precision of the
            network.
        """


def make_feed(
    split: str,
    dataset: Dataset[Any],
    *,
    device: torch.device,
    dtype: torch.dtype,
    workers: int = 0,
    mode: Placement = "auto",
    available: int | None = None,
) -> Feed:
    """Keep a split on the device, or read it as it is needed.

    Where a data set has rows `stored` from which its items follow (see `loading.form.stored_form`), these rows are kept
    and augmented. Any other data set is read once, item by item. One whose items are others on a second reading
    (augmentation of its own) is read anew in every epoch, even where the mode is "resident".

    Args:
        split: Name, for messages.
        dataset: Map-style; items as `torch.utils.data.default_collate` takes them.
        device: Where to put the batches.
        dtype: What floating-point tensors become.
        workers: Processes that read a streamed split.
        mode: "resident" keeps it, "streamed" does not, "auto" keeps it where it takes less than half of `available`.
        available: Memory of the device, bytes; None for no bound.

    Raises:
        LandscapeError: The split is empty, an item cannot be read or collated, or there is no such mode.
    """
    if mode not in get_args(Placement):
        raise LandscapeError(f"data: mode {mode!r}; valid are {', '.join(get_args(Placement))}")
    items = form_of_items(split, dataset, dtype)
    # Images are augmented as they are stored, so which form that is must not depend on the device.
    stored = stored_form(items, device=torch.device("cpu"), kinds=("stored",))
    if stored is not None:
        if _fits(nests.num_bytes(stored.rows), mode, available):
            return FeedFromMemory(stored, stored.rows, device=device)
        return FeedFromLoader(stored, device=device)
    probed = nests.evenly_spaced(items.num_examples, PROBED)
    first = items.read(probed)
    size = nests.num_bytes(first) * items.num_examples // len(probed)
    if _fits(size, mode, available) and nests.equal(first, items.read(probed)):
        return FeedFromMemory(items, items.read(range(items.num_examples)), device=device)
    return FeedFromLoader(items, device=device, workers=workers)


def _fits(num_bytes: int, mode: Placement, available: int | None) -> bool:
    """Whether a split of this size is kept."""
    return mode == "resident" or (mode == "auto" and (available is None or num_bytes < available / 2))
