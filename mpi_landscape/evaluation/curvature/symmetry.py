"""Whether second derivatives are those of a function: a Hessian is symmetric, and what torch has for an operation may not be.

The second derivative of torch's fused weight normalization is wrong by tens of percents (2.14: of three rows of four numbers
|H − Hᵀ| is 0.36 of |H|), without a word, and so may be that of anybody's own function. A Lanczos run on such a matrix
finds eigenvalues of nothing.
"""

from __future__ import annotations

import torch
from torch import nn

from mpi_landscape.errors import LandscapeError
from mpi_landscape.evaluation.calling import is_out_of_memory
from mpi_landscape.evaluation.curvature.operators import Operator
from mpi_landscape.evaluation.curvature.preparing import retie
from mpi_landscape.evaluation.curvature.replica import Replica
from mpi_landscape.evaluation.curvature.space import Space
from mpi_landscape.evaluation.curvature.starts import gaussian
from mpi_landscape.evaluation.lending import moved_to
from mpi_landscape.loading import nests
from mpi_landscape.loading.batches import Batch

# Relative to |H v|, in float64, in which rounding is far below; and to the loss, where H is zero.
_MOST, _ZERO = 1e-4, 1e-10
# A mean loss below this is rounding, and so are its second derivatives, in float64 too.
_LEAST_LOSS = 1e-11


def check_symmetric(
    model: nn.Module,
    replica: Replica,
    batch: Batch,
    space: Space,
    operator: Operator,
    *,
    mean: float,
    where: str,
) -> None:
    """Refuse second derivatives that are not symmetric, by u·(H v) = v·(H u) with two random vectors, in float64.

    Args:
        model: The network, ready for second derivatives; one that takes no float64 is not looked at.
        replica: Of the network itself.
        batch: Some examples.
        space: Which parameters count.
        operator: What is to be multiplied with.
        mean: The mean loss of the batch.
        where: For messages.

    Raises:
        LandscapeError: They are not.
    """
    if abs(mean) < _LEAST_LOSS:
        return
    device = next(model.parameters()).device
    vectors = torch.stack(
        [
            gaussian(space.size, 0, "symmetric", number, dtype=torch.float64, device=device)
            for number in (0, 1)
        ]
    )
    try:
        with moved_to(model, device, torch.float64):
            retie(model, space.layout)
            data = nests.in_precision(batch.data, torch.float64)
            products = replica.products(
                operator(replica.function(Batch(data=data, valid=batch.valid))), vectors
            )
    except Exception as error:  # a network or a loss that does not take float64
        if is_out_of_memory(error):
            raise
        return
    gap = float((vectors[0] @ products[1] - vectors[1] @ products[0]).abs())
    size = float(torch.linalg.vector_norm(products, dim=1).sum())
    if gap > _MOST * size and gap > _ZERO * batch.valid * abs(mean):
        raise LandscapeError(
            f"{where}: second derivatives of this network and loss are not symmetric (u·Hv and v·Hu differ by {gap / size:.1e} "
            f"of |Hv|), so those of some operation are wrong; torch's of weight_norm are: take it out with "
            f"torch.nn.utils.parametrize.remove_parametrizations or remove_weight_norm; of a torch.autograd.Function look at its "
            f"backward"
        )
