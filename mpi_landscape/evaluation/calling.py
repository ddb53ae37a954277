"""One call of a loss function: the same containers every time, and gradients only where the loss needs them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from mpi_landscape.loading import nests
from mpi_landscape.loading.results import LossFunction


def call(loss: LossFunction, network: nn.Module, data: Any, *, gradients: bool = False) -> Any:
    """What a loss function returns for a batch, without a graph.

    The loss gets containers of its own, so that `batch.pop("labels")` is gone at this call alone; the tensors are those
    of the batch.

    Args:
        loss: Called as `loss(network, batch)`.
        network: As the loss takes it.
        data: The batch.
        gradients: Whether the loss takes derivatives itself, as that of a physics-informed network does.
    """
    with torch.set_grad_enabled(gradients):
        # What is neither leaf nor container stays as it is.
        result = loss(network, nests.mapped(lambda leaf: leaf, data))
    return nests.map_tensors(Tensor.detach, result) if gradients else result
