"""Random numbers that follow from a seed and a place in the training alone, never from what was drawn before."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

# The first of the numbers that are mixed: what is drawn for one purpose is independent of what is drawn for another.
ORDER, AUGMENTATION, ITEMS, STEP = range(4)


def mixed(*numbers: int) -> int:
    """One number from several, from 0 to 2^63 - 1, such that near ones give far ones.

    Source: numpy.random.SeedSequence, whose values numpy keeps the same in every version.

    Args:
        numbers: A purpose of this module, then where: seed, epoch, step.
    """
    words = np.random.SeedSequence([number % 2**64 for number in numbers]).generate_state(1, np.uint64)
    return int(words[0]) >> 1


def generator(*numbers: int) -> torch.Generator:
    """A generator on the CPU, of the mixed numbers: the same draws for every device."""
    return torch.Generator().manual_seed(mixed(*numbers))


def seed_all(number: int) -> None:
    """Set the generators that networks and losses may draw from: Python's, numpy's, torch's on the CPU and on GPUs."""
    seed_host(number)
    # Not torch.manual_seed: where no GPU is in use it takes down where it was called from, 0.1 to 1 ms per step.
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.manual_seed_all(number)


def seed_host(number: int) -> None:
    """As `seed_all`, but leaves the generators of GPUs alone."""
    random.seed(number)
    np.random.seed(number % 2**32)
    torch.default_generator.manual_seed(number)


@contextmanager
def host_generators_kept() -> Iterator[None]:
    """Leave the generators of the CPU as they were found."""
    kept = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(kept[0])
        np.random.set_state(kept[1])
        torch.set_rng_state(kept[2])
