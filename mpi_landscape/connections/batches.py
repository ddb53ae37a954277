"""The examples of every step of a search: in the order of a training of the same seed, in batches, these in pieces."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from mpi_landscape.training.augmentation import Augment
from mpi_landscape.training.feed import Feed
from mpi_landscape.training.randomness import ORDER, generator
from mpi_landscape.training.recipe import piece_sizes


@dataclass(frozen=True, kw_only=True)
class Batches:
    """Which examples go through the network in which step.

    Attributes:
        feed: The training data.
        batch_size: Examples of a step; the last of a pass over the data may have fewer.
        piece_size: Most examples that go through the network at once; None for a batch.
        seed: Of the order and of augmentation.
        shift: Pixels by which images are moved at most.
        flip: Whether half of the images are mirrored.
    """

    feed: Feed
    batch_size: int
    piece_size: int | None
    seed: int
    shift: int = 0
    flip: bool = False

    @property
    def steps_per_epoch(self) -> int:
        """Steps of a pass over the data."""
        return -(-len(self.feed) // self.batch_size)

    def pieces_of(self, step: int | None) -> list[int]:
        """Sizes of the pieces of a step's batch; None is all of the data."""
        if step is None:
            return piece_sizes(len(self.feed), min(self.piece_size or self.batch_size, self.batch_size))
        first = (step % self.steps_per_epoch) * self.batch_size
        return piece_sizes(min(self.batch_size, len(self.feed) - first), self.piece_size)

    def read(self, step: int | None, piece: int | None = None) -> Iterator[Any]:
        """The pieces of a step's batch, or one of them, on the device."""
        sizes, augment = self.pieces_of(step), None
        if step is None:
            order = torch.arange(len(self.feed))
        else:
            epoch, index = divmod(step, self.steps_per_epoch)
            number = epoch + 1  # as a training counts them
            order = torch.randperm(len(self.feed), generator=generator(ORDER, self.seed, number))
            order = order[index * self.batch_size :][: self.batch_size]
            augment = Augment(seed=self.seed, epoch=number, shift=self.shift, flip=self.flip)
        if piece is not None:
            order, sizes = torch.split(order, sizes)[piece], [sizes[piece]]
        return iter(self.feed.batches(order, sizes, augment))
