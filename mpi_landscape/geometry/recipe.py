"""A direction that is held nowhere: made anew, block by block, from what it is made of, wherever it is wanted.

Two directions in float32 take four times the memory of a network in 16 bits. What defines them takes nearly none: a seed and a
number per filter, or the tensors of another checkpoint. Made anew they are float32 numbers as `directions` and `normalization`
make them, and are never rounded to 16 bits.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import repeat

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mpi_landscape.geometry.blocks import Block, add_squares, blocks, per_filter
from mpi_landscape.geometry.layout import Entry
from mpi_landscape.vocabulary import Normalization

Singles = NDArray[np.float32]
Doubles = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What a direction is made of. One of `seed` and `end` is given.

    Attributes:
        moving: Names of the tensors that move; others stay at the center.
        seed: Of a Gaussian direction, whose numbers are those of `directions.random_direction`.
        end: The tensors of another solution by name, in types of their own; the direction leads there.
        how: How it is normalized.
        scales: By which each filter is multiplied, by name of the tensor: as `fitted` finds them.
        against: Another direction, a multiple of which is taken off where both move, before it is normalized.
        factor: That multiple.

    Example:
        >>> from torch import nn
        >>> from mpi_landscape.geometry.directions import random_direction
        >>> from mpi_landscape.geometry.layout import layout_of
        >>> layout = layout_of(nn.Linear(3, 2, bias=False))
        >>> recipe = Recipe(moving=frozenset(["weight"]), seed=1, how="none")
        >>> [(_, numbers)] = recipe.made(layout.entries[0], torch.zeros(2, 3, dtype=torch.bfloat16))
        >>> bool((numbers == random_direction(layout, seed=1).numpy()).all())
        True
    """

    moving: frozenset[str]
    seed: int | None = None
    end: Mapping[str, Tensor] | None = None
    how: Normalization = "none"
    scales: Mapping[str, Doubles] = field(default_factory=dict)
    against: Recipe | None = None
    factor: float = 0.0

    def made(self, entry: Entry, center: Tensor) -> Iterator[tuple[Block, Singles]]:
        """The numbers of a tensor that moves, as they are used, block by block: 1D float32.

        Args:
            entry: The tensor's place.
            center: Its values at the center, contiguous, on the CPU.
        """
        scales = self.scales.get(entry.name)
        for block, numbers in self.raw(entry, center):
            # What overflows float32 is reported by `kept.look`, in words.
            with np.errstate(over="ignore", invalid="ignore"):
                if self.how == "weight":
                    yield block, _scaled(numbers, np.abs(single(center, block).astype(np.float64)))
                elif scales is None:
                    yield block, numbers
                else:
                    yield block, _scaled(numbers.reshape(block.shape), scales[block.filters(scales)])

    def raw(self, entry: Entry, center: Tensor) -> Iterator[tuple[Block, Singles]]:
        """The same before it is normalized."""
        own = self._drawn(entry) if self.end is None else self._led(entry, self.end[entry.name], center)
        if self.against is None or entry.name not in self.against.moving:
            yield from own
            return
        for (block, numbers), (_, other) in zip(own, self.against.made(entry, center), strict=True):
            rest = numbers.astype(np.float64) - self.factor * other.astype(np.float64)
            yield block, rest.astype(np.float32)

    def fitted(self, entry: Entry, center: Tensor) -> Doubles | None:
        """The scales of a tensor's filters, as Li et al. 2018, section 4; None where there are none."""
        if self.how not in ("filter", "layer"):
            return None
        axes = entry.filter_axes if self.how == "filter" else ()
        lengths, targets = per_filter(entry.filter_view, axes), per_filter(entry.filter_view, axes)
        for block, numbers in self.raw(entry, center):
            add_squares(lengths, block, numbers, axes)
            add_squares(targets, block, single(center, block), axes)
        lengths, targets = np.sqrt(lengths), np.sqrt(targets)
        scales: Doubles = np.divide(targets, lengths, out=np.zeros_like(targets), where=lengths != 0)
        return scales

    def with_scales(self, scales: Mapping[str, Doubles | None]) -> Recipe:
        """The same with scales, of the tensors that have them."""
        return replace(self, scales={name: each for name, each in scales.items() if each is not None})

    def _drawn(self, entry: Entry) -> Iterator[tuple[Block, Singles]]:
        key = hashlib.sha256(f"{self.seed}:{entry.key}".encode()).digest()[:16]
        generator = np.random.Generator(np.random.Philox(key=int.from_bytes(key, "little")))
        for block in blocks(entry.filter_view):
            yield block, generator.standard_normal(block.stop - block.start).astype(np.float32)

    def _led(self, entry: Entry, end: Tensor, center: Tensor) -> Iterator[tuple[Block, Singles]]:
        for block in blocks(entry.filter_view):
            yield block, single(end, block) - single(center, block)


def single(tensor: Tensor, block: Block) -> Singles:
    """A block of a contiguous tensor on the CPU, in float32."""
    numbers: Singles = tensor.detach().reshape(-1)[block.start : block.stop].to(torch.float32).numpy()
    return numbers


def made_together(
    recipes: list[Recipe], entry: Entry, center: Tensor
) -> Iterator[tuple[Block, list[Singles | None]]]:
    """Several directions of a tensor, block by block; None for those that leave it at the center."""
    streams = [
        recipe.made(entry, center) if entry.name in recipe.moving else repeat((None, None))
        for recipe in recipes
    ]
    for block in blocks(entry.filter_view):
        yield block, [next(stream)[1] for stream in streams]


def _scaled(numbers: NDArray[np.float32], scales: Doubles) -> Singles:
    found: Singles = (numbers * scales).astype(np.float32).reshape(-1)
    return found
