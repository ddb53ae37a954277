"""How much memory a training step takes, and in how many pieces a batch fits."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from mpi_landscape.loading.results import LossFunction, losses_of
from mpi_landscape.training.recipe import piece_sizes


def activation_bytes(model: nn.Module, loss: LossFunction, batch: Any) -> int:
    """What autograd keeps between the forward and the backward pass of a training step.

    Args:
        model: In the memory format that it is trained in; left untouched.
        loss: Called as `loss(model, batch)`, one value per example.
        batch: Collated, where the model is.

    Returns:
        Bytes; memory that several operations keep counts once, parameters do not count. A step takes more for a
        moment: what an operation works with, and the gradients.
    """
    network = copy.deepcopy(model).train()
    parameters = {_address(parameter) for parameter in network.parameters()}
    kept: dict[tuple[torch.device, int], int] = {}

    def note(tensor: Tensor) -> Tensor:
        if _address(tensor) not in parameters:
            kept[_address(tensor)] = tensor.untyped_storage().nbytes()
        return tensor.detach()  # an operation's own result would keep itself alive

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        losses_of(loss(network, batch)).sum()
    return sum(kept.values())


def choose_piece_size(batch_size: int, bytes_per_example: float, available: float) -> int:
    """Most examples per piece, for a batch in as few pieces of nearly equal size as fit.

    Args:
        batch_size: Examples of a batch.
        bytes_per_example: Memory that one of them takes.
        available: Bytes that a piece may take, which is one example at least.

    Example:
        >>> choose_piece_size(100, 10.0, 350.0)  # 35 fit, so there are three pieces
        34
    """
    fitting = batch_size if bytes_per_example <= 0 else int(min(available / bytes_per_example, batch_size))
    return piece_sizes(batch_size, max(1, fitting))[0]


def _address(tensor: Tensor) -> tuple[torch.device, int]:
    return tensor.device, tensor.untyped_storage().data_ptr()
