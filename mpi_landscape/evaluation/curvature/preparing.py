"""A network made ready for second derivatives, and given back as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from mpi_landscape.evaluation.curvature.space import Space
from mpi_landscape.evaluation.gradients import only
from mpi_landscape.geometry.layout import Layout


@contextmanager
def differentiable(network: nn.Module, space: Space) -> Iterator[None]:
    """Only the parameters of the space ask for a gradient, and operations are those that can be differentiated twice.

    Fused attention has no second derivative, nor have the recurrent layers of oneDNN and cuDNN, nor sparse gradients of
    embeddings: all of them are computed by plain operations meanwhile.
    """
    asked = [(parameter, parameter.requires_grad) for parameter in network.parameters()]
    sparse = [
        module
        for module in network.modules()
        if isinstance(module, nn.Embedding | nn.EmbeddingBag) and module.sparse
    ]
    recurrent = any(isinstance(module, nn.RNNBase) for module in network.modules())
    libraries: list[Any] = [torch.backends.mkldnn, torch.backends.cudnn] if recurrent else []
    enabled = [(library, library.enabled) for library in libraries]
    try:
        for module in sparse:
            module.sparse = False
        only(network, [name for group in space.groups for name in group])
        for library, _ in enabled:
            library.enabled = False
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        for module in sparse:
            module.sparse = True
        for parameter, before in asked:
            parameter.requires_grad_(before)
        for library, was in enabled:
            library.enabled = was


def retie(network: nn.Module, layout: Layout) -> None:
    """Let tied parameters lie on one memory again, which another type or device has parted."""
    own = dict(network.named_parameters())
    for name, first in layout.tied:
        own[name].data = own[first].data
