"""A network made ready for second derivatives, and given back as it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from mpi_landscape.evaluation.curvature.space import Space
from mpi_landscape.evaluation.gradients import only
from mpi_landscape.geometry.layout import Layout


@contextmanager
def differentiable(network: nn.Module, space: Space) -> Iterator[None]:
    """Only the parameters of the space ask for a gradient, and embeddings do not give sparse ones."""
    asked = [(parameter, parameter.requires_grad) for parameter in network.parameters()]
    sparse = [
        module
        for module in network.modules()
        if isinstance(module, nn.Embedding | nn.EmbeddingBag) and module.sparse
    ]
    try:
        for module in sparse:
            module.sparse = False
        only(network, [name for group in space.groups for name in group])
        yield
    finally:
        for module in sparse:
            module.sparse = True
        for parameter, before in asked:
            parameter.requires_grad_(before)


def plain_kernels(network: nn.Module) -> Callable[[], AbstractContextManager[None]]:
    """Makes the context in which a network computes by operations that can be differentiated twice.

    Fused attention has no second derivative, nor have the recurrent layers of oneDNN and cuDNN. It is left after each part of the
    work, in some microseconds, as it is the whole process's.
    """
    recurrent = any(isinstance(module, nn.RNNBase) for module in network.modules())
    libraries: list[Any] = [torch.backends.mkldnn, torch.backends.cudnn] if recurrent else []

    @contextmanager
    def computing() -> Iterator[None]:
        enabled = [(library, library.enabled) for library in libraries]
        try:
            for library in libraries:
                library.enabled = False
            with sdpa_kernel(SDPBackend.MATH):
                yield
        finally:
            for library, was in enabled:
                library.enabled = was

    return computing


def retie(network: nn.Module, layout: Layout) -> None:
    """Let tied parameters lie on one memory again, which another type or device has parted."""
    own = dict(network.named_parameters())
    for name, first in layout.tied:
        own[name].data = own[first].data
