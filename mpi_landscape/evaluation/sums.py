"""Sums over examples: what is kept of a batch at a point."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mpi_landscape.errors import LandscapeError
from mpi_landscape.loading.results import named

Floats = NDArray[np.float64]

# Loss sum, correct count, what they are divided by (examples, or by how much these count), sum of squared losses: what a mean
# and its standard error need.
NUM_SUMS = 4


def example_sums(result: Any, valid: int, returned: Sequence[str] = ()) -> Tensor:
    """The sums over the first `valid` examples of what a loss function returned.

    Args:
        result: One loss per example, or a mapping with `loss`, perhaps `correct` and `count`, and further numbers per
            example.
        valid: Number of examples that count.
        returned: Names of the further numbers that are wanted.

    Returns:
        (NUM_SUMS + len(returned),) float64: loss sum, correct count (NaN without one), examples or the sum
        of their counts, sum of squared losses; then the sum of each further number.

    Raises:
        LandscapeError: A further number is not there, though it was for another batch.

    Example:
        >>> losses, ranks = torch.tensor([0.5, 2.0, 9.0]), torch.tensor([1, 3, 3])
        >>> example_sums({"loss": losses, "rank": ranks}, 2, ["rank"]).tolist()
        [2.5, nan, 2.0, 4.25, 4.0]
        >>> example_sums({"loss": losses, "count": torch.tensor([1, 3, 2])}, 2).tolist()
        [2.5, nan, 4.0, 4.25]
    """
    given = named(result)
    counted = given["loss"][:valid].double()
    total, correct = counted.sum(), given.get("correct")
    right = torch.full_like(total, torch.nan) if correct is None else correct[:valid].sum(dtype=torch.float64)
    counts = given.get("count")
    number = (
        torch.full_like(total, float(valid)) if counts is None else counts[:valid].sum(dtype=torch.float64)
    )
    sums = [total, right, number, counted.square().sum()]
    for name in returned:
        if given.get(name) is None:
            raise LandscapeError(
                f"loss: returned no {name!r} for a batch, though it did for another; valid is the same for all"
            )
        sums.append(given[name][:valid].sum(dtype=torch.float64))
    return torch.stack(sums)


def add_in_order(rows: Floats) -> Floats:
    """The sum along the first axis, one after the other: numpy's own sum may add pairwise, in an order of its own."""
    with np.errstate(invalid="ignore", over="ignore"):
        return np.cumsum(rows, axis=0)[-1]  # type: ignore[no-any-return]
