"""What tells one data set from another: SHA-256 of its examples as collated."""

from __future__ import annotations

import hashlib
from typing import Any

import torch
from torch import Tensor

from mpi_landscape.loading import nests


class Digest:
    """One running hash per place in the nest, so that batch boundaries leave no trace."""

    def __init__(self) -> None:
        self._places: dict[str, hashlib._Hash] = {}

    def update(self, batch: Any) -> None:
        """Take more examples, in the order of the data set."""
        for place, leaf in nests.leaves(batch):
            if place not in self._places:
                kind = f"{leaf.dtype} {tuple(leaf.shape[1:])}" if isinstance(leaf, Tensor) else "strings"
                self._places[place] = hashlib.sha256(kind.encode())
            if isinstance(leaf, Tensor):
                self._places[place].update(tensor_bytes(leaf))
            else:
                self._places[place].update("".join(f"{each!r} " for each in leaf).encode())

    def text(self) -> str:
        """64 hexadecimal digits."""
        whole = hashlib.sha256()
        for place, partial in sorted(self._places.items()):
            whole.update(f"{place} {partial.hexdigest()} ".encode())
        return whole.hexdigest()


def tensor_bytes(tensor: Tensor) -> memoryview:
    """The values of a tensor as bytes, in C order."""
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().data
