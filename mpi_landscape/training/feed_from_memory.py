"""A split that lies on the device, so that a batch costs one selection."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from mpi_landscape.training import nests
from mpi_landscape.training.augmentation import Augment


class Resident:
    """Examples on the device, as they are stored.

    Args:
        stored: Nest of tensors (N, ...), such as uint8 images and labels.
        finish: Makes what the network gets of several stored examples; None where that is what is stored.
        device: Where to keep them.
        dtype: What floating-point tensors of a batch become.
    """

    def __init__(
        self, stored: Any, finish: Callable[[Any], Any] | None, *, device: torch.device, dtype: torch.dtype
    ) -> None:
        self._device, self._dtype = device, dtype
        self._finish = finish or (lambda batch: batch)
        self._stored = nests.mapped(
            lambda leaf: leaf.to(device) if isinstance(leaf, Tensor) else leaf, stored
        )
        self._length = len(next(nests.leaves(stored)))

    def __len__(self) -> int:
        return self._length

    def batches(
        self, order: Tensor, size: int | Sequence[int], augment: Augment | None = None
    ) -> Iterator[Any]:
        """Batches on the device; see `Examples`."""
        draws = augment.draws(len(self)) if augment is not None else None
        draws = draws.to(self._device) if draws is not None else None
        for chosen in nests.cut(order.to(self._device), size):
            batch = nests.selected(self._stored, chosen)
            if draws is not None:
                batch = nests.with_images(draws.of(chosen).apply, batch)
            yield nests.moved(self._finish(batch), self._device, self._dtype)
