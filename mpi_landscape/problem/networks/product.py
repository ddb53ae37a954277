"""Networks whose loss is known exactly: w², and its over-parametrized form (w₁ w₂)²."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mpi_landscape.errors import LandscapeError
from mpi_landscape.problem.sizes import checked_count, is_number
from mpi_landscape.wording import shown

_MOST_FACTORS = 1000


class Product(nn.Module):
    """The product of the parameters, w₁ ⋯ w_n, for every input.

    The simplest over-parametrization: w² has one minimum, (w₁ w₂)² a connected set of them, as the networks of
    Sagun et al. (2018), arXiv:1706.04454. The mean squared error (`mse`) to a target of 0 is (w₁ ⋯ w_n)²; to y,
    (w₁ ⋯ w_n − y)². The targets must be floating point, as `mse` takes integers for labels.
    """

    def __init__(self, initial: Sequence[float]) -> None:
        super().__init__()
        self.factors = nn.Parameter(torch.tensor([float(value) for value in initial]))

    def forward(self, inputs: Tensor) -> Tensor:
        """Inputs (N, ...), which are not read, to the product (N, 1)."""
        return self.factors.prod().expand(len(inputs), 1)


def product(*, factors: int = 2, initial: Sequence[float] | None = None) -> Product:
    """Build a product of parameters, w for one factor, w₁ w₂ for two; without initial values they are 1."""
    if checked_count(factors, "factors") > _MOST_FACTORS:
        raise LandscapeError(f"factors is {factors}; expected at most {_MOST_FACTORS}")
    values = [1.0] * factors if initial is None else initial
    fits = isinstance(values, (list, tuple)) and len(values) == factors
    if not fits or not all(is_number(value) and math.isfinite(value) for value in values):
        raise LandscapeError(
            f"initial is {shown(initial)}; expected a list of {factors} finite numbers, one per factor"
        )
    return Product(values)
