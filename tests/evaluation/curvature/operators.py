"""Symmetric matrices with spectra that are known, and how often they are asked."""

from __future__ import annotations

import gc
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Floats = NDArray[np.float64]


class Counted:
    """An operator that counts its products, and the live tensors when it makes one."""

    def __init__(self, product: Callable[[Tensor], Tensor]) -> None:
        self.product = product
        self.count = 0

    def __call__(self, vector: Tensor) -> Tensor:
        self.count += 1
        return self.product(vector)


def diagonal(values: Floats | list[float]) -> Counted:
    """diag(values), in the type of the vector that it is given."""
    entries = torch.as_tensor(np.asarray(values, dtype=np.float64))
    return Counted(lambda vector: entries.to(vector.dtype) * vector)


def dense(matrix: Floats) -> Counted:
    exact = torch.from_numpy(np.ascontiguousarray(matrix))
    entries = {dtype: exact.to(dtype) for dtype in (torch.float32, torch.float64)}
    return Counted(lambda vector: entries[vector.dtype] @ vector)


def rotated(values: Floats, seed: int = 0) -> Floats:
    """A dense matrix with these eigenvalues and random eigenvectors."""
    generator = np.random.default_rng(seed)
    basis, _ = np.linalg.qr(generator.standard_normal((len(values), len(values))))
    matrix = (basis * values) @ basis.T
    return (matrix + matrix.T) / 2


def network_like(size: int, *, ratio: float, top: float = 1.0, seed: int = 0) -> Floats:
    """Eigenvalues that fall off on both sides as those of a network's Hessian do, from `top` and from −ratio · top to zero.

    The powers are such that cold runs need as many products as on the networks that were measured: 48 for a ratio of 0.005,
    22 for 0.05, 14 for 0.2, 11 for 0.5.
    """
    generator = np.random.default_rng(seed)
    above, below = np.arange(1, size - size // 2 + 1), np.arange(1, size // 2 + 1)
    values = np.concatenate([above**-0.8, -ratio * below**-0.3]) * generator.uniform(0.9, 1.1, size)
    values[above.size] = -ratio * 1.1
    values[0] = 1.1
    return np.sort(values) * (top / 1.1)


def bytes_alive(size: int) -> int:
    """What tensors of at least `size` numbers hold: less is a scalar's, or another test's, whose storage may not be asked for."""
    held = {}
    for each in gc.get_objects():
        if type(each) is torch.Tensor and each.numel() >= size:
            held[each.untyped_storage().data_ptr()] = each.untyped_storage().nbytes()
    return sum(held.values())
