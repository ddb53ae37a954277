"""Examples without content: the data of a function of the parameters alone."""

import math

import torch
from torch.utils.data import TensorDataset

from mpi_landscape.errors import LandscapeError
from mpi_landscape.problem.sizes import checked_count, is_number
from mpi_landscape.wording import shown


def constant(*, target: float = 0.0, count: int = 1) -> dict[str, TensorDataset]:
    """Make examples that are all the same, for networks whose output does not depend on their input.

    With the networks `product1` and `product2`, the loss `mse` and a target of 0 they give the toys w² and
    (w₁ w₂)².

    Returns:
        "train": as many as `count`, with inputs (1,) of zero and the target () float32.
    """
    if not is_number(target) or not math.isfinite(target):
        raise LandscapeError(f"target is {shown(target)}; expected a finite number")
    checked_count(count, "count")
    return {"train": TensorDataset(torch.zeros(count, 1), torch.full((count,), float(target)))}
