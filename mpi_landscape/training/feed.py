"""A split as a training takes it, batch by batch on the device: kept there, or read anew in every epoch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol, get_args

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from mpi_landscape.errors import LandscapeError
from mpi_landscape.loading import nests
from mpi_landscape.loading.form import PROBED, Form, form_of_items, stored_form
from mpi_landscape.training.augmentation import Augment
from mpi_landscape.training.randomness import host_generators_kept, seed_host
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


class FeedFromMemory:
    """Examples that lie on the device as they are kept, uint8 images perhaps, so that a batch costs one selection."""

    def __init__(self, form: Form, kept: Any, *, device: torch.device) -> None:
        self._form, self._device = form, device
        self._kept = nests.moved(kept, device)

    def __len__(self) -> int:
        return self._form.num_examples

    def batches(self, order: Tensor, size: int | list[int], augment: Augment | None = None) -> Iterator[Any]:
        """Batches on the device; see `Feed`."""
        draws = augment.draws(len(self)) if augment is not None else None
        draws = draws.to(self._device) if draws is not None else None
        for chosen in torch.split(order.to(self._device), size):
            batch = nests.taken(self._kept, chosen)
            yield self._form.finish(batch if draws is None else draws.of(chosen).apply(batch))


class FeedFromLoader:
    """Examples that are read anew in every epoch, ahead of the network, by processes of their own.

    Args:
        form: How they are read and finished.
        device: Where to put the batches.
        workers: Processes that read; 0 reads between the steps. Rows in memory are picked in less time than a process
            takes to hand them over.
    """

    def __init__(self, form: Form, *, device: torch.device, workers: int = 0) -> None:
        self._form, self._device, self._workers = form, device, workers

    def __len__(self) -> int:
        return self._form.num_examples

    def batches(self, order: Tensor, size: int | list[int], augment: Augment | None = None) -> Iterator[Any]:
        """Batches on the device; see `Feed`."""
        augment = augment or Augment(seed=0, epoch=0)
        pieces = torch.split(order, size)
        draws = augment.draws(len(self))
        read = self._loader(_plan(pieces, augment.item_seeds(len(self))))
        for chosen, batch in zip(pieces, read, strict=True):
            if isinstance(batch, LandscapeError):
                raise batch
            kept = nests.moved(batch, self._device)
            yield self._form.finish(kept if draws is None else draws.of(chosen).to(self._device).apply(kept))

    def _loader(self, plan: Iterator[Any]) -> DataLoader[Any]:
        return DataLoader(
            _Batches(self._form),
            batch_size=None,  # the plan's lists are batches already
            sampler=plan,
            collate_fn=_as_it_is,
            num_workers=self._workers,
            pin_memory=self._device.type == "cuda",
            # A loader draws a number each time it starts; not from the generator that dropout uses.
            generator=torch.Generator(),
        )


def _plan(pieces: Sequence[Tensor], seeds: Tensor) -> Iterator[list[tuple[int, int]]]:
    """Batch by batch, the index of each example and the seed of what its data set draws when it reads it."""
    # Not all at once: a million pairs of Python's numbers take more memory than the order itself.
    for piece in pieces:
        yield list(zip(piece.tolist(), seeds[piece].tolist(), strict=True))


class _Batches(Dataset[Any]):
    """Batches of a split, its items read with generators that depend on the item alone.

    An exception comes as a value: a loader would put a traceback of several lines into it.
    """

    def __init__(self, form: Form) -> None:
        self._form = form

    def __getitem__(self, pairs: Any) -> Any:
        if self._form.kind == "stored":
            return self._form.read([index for index, _ in pairs])
        examples = []
        with host_generators_kept():
            try:
                for index, seed in pairs:
                    seed_host(seed)
                    examples.append(self._form.read_example(index))
                return self._form.collated(examples)
            except LandscapeError as error:
                return LandscapeError(str(error))


def _as_it_is(batch: Any) -> Any:
    """For the loader, which would otherwise turn arrays into tensors; a function that can be sent to a process."""
    return batch


def make_feed(
    split: str,
    dataset: Dataset[Any],
    *,
    device: torch.device,
    dtype: torch.dtype | None,
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
        dtype: What floating-point tensors become; None leaves them as they are given.
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
