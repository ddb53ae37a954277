"""A split that is read anew in every epoch, ahead of the network, by processes of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from mpi_landscape.errors import LandscapeError
from mpi_landscape.training import nests
from mpi_landscape.training.augmentation import Augment, Draws
from mpi_landscape.training.randomness import host_generators_kept, seed_host
from mpi_landscape.training.reading import collated, read_item

# Of an example in its data set, and of what that draws when it reads it.
_IndexAndSeed = tuple[int, int]


class Streamed:
    """Examples that are read when they are needed.

    Args:
        dataset: Map-style.
        split: Name, for messages.
        device: Where the batches shall lie.
        dtype: What floating-point tensors of a batch become.
        workers: Processes that read; 0 reads between the steps.
        use_stored: Whether examples are taken from what the data set has `stored`, and finished on the device.
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        *,
        split: str,
        device: torch.device,
        dtype: torch.dtype,
        workers: int = 0,
        use_stored: bool = False,
    ) -> None:
        self._device, self._dtype = device, dtype
        self._length = len(dataset)  # type: ignore[arg-type]
        self._finish: Callable[[Any], Any] = dataset.finish if use_stored else lambda batch: batch  # type: ignore[attr-defined]
        self._source: Dataset[Any] = _Stored(dataset) if use_stored else _Items(dataset, split)
        # Rows in memory are picked in less time than another process takes to hand them over.
        self._workers = 0 if use_stored else workers

    def __len__(self) -> int:
        return self._length

    def batches(
        self, order: Tensor, size: int | Sequence[int], augment: Augment | None = None
    ) -> Iterator[Any]:
        """Batches on the device; see `Examples`."""
        augment = augment or Augment(seed=0, epoch=0)
        pieces = nests.cut(order, size)
        draws = augment.draws(len(self))
        read = self._loader(_Plan(pieces, augment.item_seeds(len(self))))
        for chosen, batch in zip(pieces, read, strict=True):
            if isinstance(batch, LandscapeError):
                raise batch
            yield self._finished(batch, draws.of(chosen) if draws is not None else None)

    def _loader(self, plan: _Plan) -> DataLoader[Any]:
        return DataLoader(
            self._source,
            batch_size=None,  # the plan's lists are batches already
            sampler=plan,
            collate_fn=_as_it_is,
            num_workers=self._workers,
            pin_memory=self._device.type == "cuda",
            # A loader draws a number each time it starts; not from the generator that dropout uses.
            generator=torch.Generator(),
        )

    def _finished(self, batch: Any, draws: Draws | None) -> Any:
        on_device = nests.mapped(
            lambda leaf: leaf.to(self._device, non_blocking=True) if isinstance(leaf, Tensor) else leaf, batch
        )
        if draws is not None:
            on_device = nests.with_images(draws.to(self._device).apply, on_device)
        return nests.moved(self._finish(on_device), self._device, self._dtype)


class _Plan:
    """What to read, batch by batch."""

    def __init__(self, pieces: Sequence[Tensor], seeds: Tensor) -> None:
        self._pieces, self._seeds = pieces, seeds

    def __iter__(self) -> Iterator[list[_IndexAndSeed]]:
        # Not all at once: a million pairs of Python's numbers take more memory than the order itself.
        for piece in self._pieces:
            yield list(zip(piece.tolist(), self._seeds[piece].tolist(), strict=True))

    def __len__(self) -> int:
        return len(self._pieces)


class _Items(Dataset[Any]):
    """Batches of a data set's items, read with generators that depend on the item alone.

    An exception comes as a value: a loader would put a traceback of several lines into it.
    """

    def __init__(self, dataset: Dataset[Any], split: str) -> None:
        self._dataset, self._split = dataset, split

    def __getitem__(self, pairs: Any) -> Any:
        items = []
        with host_generators_kept():
            try:
                for index, seed in pairs:
                    seed_host(seed)
                    items.append(read_item(self._split, self._dataset, index))
                return collated(self._split, items)
            except LandscapeError as error:
                return LandscapeError(str(error))


class _Stored(Dataset[Any]):
    """Batches of a data set's stored examples."""

    def __init__(self, dataset: Any) -> None:
        self._stored = dataset.stored()

    def __getitem__(self, pairs: Any) -> Any:
        return nests.selected(self._stored, torch.tensor([index for index, _ in pairs]))


def _as_it_is(batch: Any) -> Any:
    """For the loader, which would otherwise turn arrays into tensors; a function that can be sent to a process."""
    return batch
