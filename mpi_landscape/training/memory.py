"""Two decisions on memory, made once as they could change the last bits: pieces of a batch, channels last."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from mpi_landscape.loading import nests
from mpi_landscape.loading.results import LossFunction, losses_of
from mpi_landscape.training.recipe import piece_sizes

# Relative; convolutions add in another order. Of losses under 1e-3 the difference counts as if they were that large.
_TOLERANCE, _SMALLEST = 1e-4, 1e-3


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


def in_channels_last(batch: Any) -> Any:
    """A batch whose four-dimensional tensors have their channels last in memory."""

    def convert(tensor: Tensor) -> Tensor:
        return tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor

    return nests.map_tensors(convert, batch)


def prefers_channels_last(model: nn.Module, loss: LossFunction, batch: Any) -> bool:
    """Whether a network of two-dimensional convolutions works with channels last, and gives the same.

    Measured on two cores, training ResNet-20 and VGG-9 takes 1.3 times as long without; on an H100, a forward pass in float32
    takes 1.04 to 2.6 times as long with it. A network may refuse: a `.view` in its forward needs the usual order.

    Args:
        model: Left untouched.
        loss: Called as `loss(model, batch)`, one value per example.
        batch: A few examples, collated, where the model is.
    """
    has_convolutions = any(isinstance(module, nn.Conv2d) for module in model.modules())
    images = [tensor for _, tensor in nests.tensors(batch) if tensor.ndim == 4]
    if not has_convolutions or not images or images[0].device.type == "cuda":
        return False
    usual = _losses(copy.deepcopy(model), loss, batch)
    try:
        network = copy.deepcopy(model).to(memory_format=torch.channels_last)
        other = _losses(network, loss, in_channels_last(batch))
    except Exception:  # of any kind, from a user's network: the usual order works
        return False
    bound = _TOLERANCE * usual.abs().clamp(min=_SMALLEST)
    return bool(((usual == other) | ((usual - other).abs() <= bound)).all())


def _losses(network: nn.Module, loss: LossFunction, batch: Any) -> Tensor:
    """(N,) losses in evaluation mode; raises what their backward pass raises, too."""
    with torch.enable_grad():
        losses = losses_of(loss(network.eval(), batch))
        torch.autograd.backward(losses.sum())
    return losses.detach()
