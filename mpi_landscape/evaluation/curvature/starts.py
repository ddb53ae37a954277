"""Random vectors at which Lanczos runs begin: the same on every device, and for any number of ranks."""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from torch import Tensor

# Numbers that are drawn at a time: few beside a vector.
_PIECE = 2**20


def gaussian(
    size: int, *words: int | str, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> Tensor:
    """Independent standard normal numbers from a stream that the words alone name.

    Philox keyed by SHA-256 of the words, drawn on the CPU: neither the device nor PyTorch nor the ranks change them.

    Args:
        size: How many, n.
        words: What tells streams apart: a seed, a purpose, a point.
        dtype: Of the result.
        device: Where the result lies.

    Returns:
        1D tensor of shape (n,).

    Example:
        >>> torch.equal(gaussian(3, 1, "probe", 0), gaussian(5, 1, "probe", 0)[:3])
        True
        >>> torch.equal(gaussian(3, 1, "probe", 0), gaussian(3, 1, "probe", 1))
        False
    """
    generator = _generator(words)
    result = torch.empty(size, dtype=dtype)
    for at in range(0, size, _PIECE):
        drawn = generator.standard_normal(min(_PIECE, size - at))
        result[at : at + len(drawn)] = torch.from_numpy(drawn)
    return result.to(device)


def rademacher(
    size: int, *words: int | str, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> Tensor:
    """Independent signs, ±1 with equal probability, from such a stream; arguments and result as for `gaussian`.

    Example:
        >>> rademacher(4, 1, "probe").abs()
        tensor([1., 1., 1., 1.])
    """
    generator = _generator(words)
    result = torch.empty(size, dtype=dtype)
    for at in range(0, size, _PIECE):
        drawn = generator.integers(0, 2, min(_PIECE, size - at), dtype=np.int8)
        result[at : at + len(drawn)] = torch.from_numpy(2 * drawn - 1)
    return result.to(device)


def _generator(words: tuple[int | str, ...]) -> np.random.Generator:
    key = hashlib.sha256(":".join(map(str, words)).encode()).digest()[:16]
    return np.random.Generator(np.random.Philox(key=int.from_bytes(key, "little")))
