"""A split that is read anew in every epoch, ahead of the network, by processes of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from mpi_landscape.errors import LandscapeError
from mpi_landscape.loading import nests
from mpi_landscape.loading.form import Form
from mpi_landscape.training.augmentation import Augment
from mpi_landscape.training.randomness import host_generators_kept, seed_host

# The index of an example in its data set, and the seed of what the data set draws when it reads that example.
_IndexAndSeed = tuple[int, int]


class FeedFromLoader:
    """Examples that are read when they are needed.

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
        read = self._loader(_Plan(pieces, augment.item_seeds(len(self))))
        for chosen, batch in zip(pieces, read, strict=True):
            if isinstance(batch, LandscapeError):
                raise batch
            kept = nests.moved(batch, self._device)
            yield self._form.finish(kept if draws is None else draws.of(chosen).to(self._device).apply(kept))

    def _loader(self, plan: _Plan) -> DataLoader[Any]:
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
