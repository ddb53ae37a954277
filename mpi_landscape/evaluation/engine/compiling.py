"""A network that goes through torch.compile: needs a C++ compiler where it runs, which one node may have and another not."""

from __future__ import annotations

import torch
from torch import nn

from mpi_landscape.evaluation.engine.description import Step


def compiled(network: nn.Module) -> nn.Module:
    """The network, compiled at its first call for each shape of batch."""
    # A kernel for each shape: one for all, which is made at the second shape, has other bits than one for the first, and
    # which of them a batch met would depend on what came before it.
    return torch.compile(network, dynamic=False)  # type: ignore[return-value]


COMPILED = Step(name="compiled", proposal=lambda *_: True, words=lambda _: "compiled", on_call=compiled)
