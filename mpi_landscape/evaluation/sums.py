"""Sums over examples: what is kept of a batch at a point."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# Loss sum, correct count, example count, sum of squared losses: what a mean and its standard error need.
NUM_SUMS = 4


def example_sums(result: Any, valid: int) -> Tensor:
    """(NUM_SUMS,) float64: the sums over the first `valid` examples of what a loss function returned."""
    loss = result["loss"] if isinstance(result, Mapping) else result
    correct = result.get("correct") if isinstance(result, Mapping) else None
    counted = loss[:valid].double()
    total = counted.sum()
    right = torch.full_like(total, torch.nan) if correct is None else correct[:valid].sum(dtype=torch.float64)
    return torch.stack([total, right, torch.full_like(total, float(valid)), counted.square().sum()])


def add_in_order(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """The sum along the first axis, one after the other: numpy's own sum may add pairwise, in an order of its own."""
    with np.errstate(invalid="ignore", over="ignore"):
        return np.cumsum(rows, axis=0)[-1]  # type: ignore[no-any-return]
