"""Batches of equal size in one block of memory, which several processes may share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mpi_landscape.loading import nests

# Each tensor of a batch begins at a multiple of this, as one of its own would: the alignment of its input must not
# decide by which kernel, and so to which last bit, a batch is computed. 512 bytes is what CUDA's allocator gives.
ALIGNMENT = 512


class Store:
    """All batches of a split, the last one padded by repeating its last example.

    Args:
        template: Nest of tensors (0, ...) with the types and shapes of an example.
        num_examples: How many there are.
        batch_size: Examples per batch.
        memory: (`bytes_needed`,) uint8, of this process or shared, on any device.
    """

    def __init__(self, template: Any, num_examples: int, batch_size: int, memory: Tensor) -> None:
        self._template, self._memory = template, memory
        self.num_examples, self.batch_size = num_examples, batch_size
        self.num_batches = -(-num_examples // batch_size)
        self._leaves = []
        start = 0
        for stride, leaf in zip(_strides(template, batch_size), _leaves(template), strict=True):
            stop = start + stride * self.num_batches
            self._leaves.append(self._rows(memory[start:stop], leaf, stride))
            start = stop

    def _rows(self, memory: Tensor, leaf: Tensor, stride: int) -> Tensor:
        """(num_batches, batch_size, ...) of a leaf's type over the bytes of all its batches."""
        batch = torch.empty((self.batch_size, *leaf.shape[1:]), device="meta")
        strides = (stride // leaf.itemsize, *batch.stride())
        return memory.view(leaf.dtype).as_strided((self.num_batches, *batch.shape), strides)

    @staticmethod
    def bytes_needed(template: Any, num_examples: int, batch_size: int) -> int:
        """Memory that the batches of a split take."""
        return -(-num_examples // batch_size) * sum(_strides(template, batch_size))

    def put(self, position: int, examples: Any) -> None:
        """Write consecutive examples of one batch; with the last example of all, also the padding."""
        batch, row = divmod(position, self.batch_size)
        for rows, leaf in zip(self._leaves, _leaves(examples), strict=True):
            rows[batch, row : row + len(leaf)] = leaf
            if position + len(leaf) == self.num_examples:
                rows[batch, row + len(leaf) :] = leaf[-1]

    def batch(self, number: int) -> Any:
        """A batch, as a view."""
        return nests.filled(self._template, [rows[number] for rows in self._leaves])

    def examples(self, positions: Sequence[int] | NDArray[np.int64]) -> Any:
        """Examples from anywhere, in new memory."""
        chosen = torch.as_tensor(positions, device=self._memory.device)
        batch, row = chosen // self.batch_size, chosen % self.batch_size
        return nests.filled(self._template, [rows[batch, row] for rows in self._leaves])

    def on(self, device: torch.device) -> Store:
        """The same batches on another device."""
        return Store(self._template, self.num_examples, self.batch_size, self._memory.to(device))


def _leaves(nest: Any) -> list[Tensor]:
    return [leaf for _, leaf in nests.tensors(nest)]


def _strides(template: Any, batch_size: int) -> list[int]:
    """Bytes from one batch to the next, by leaf."""
    strides = []
    for leaf in _leaves(template):
        count = batch_size * leaf.shape[1:].numel() * leaf.itemsize
        strides.append(max(1, -(-count // ALIGNMENT)) * ALIGNMENT)
    return strides
