"""A split that lies on the device, so that a batch costs one selection."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from mpi_landscape.loading import nests
from mpi_landscape.loading.form import Form
from mpi_landscape.training.augmentation import Augment


class FeedFromMemory:
    """Examples on the device, as they are kept.

    Args:
        form: How a batch is finished.
        kept: Nest of all examples, such as uint8 images and labels.
        device: Where to keep them.
    """

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
