"""How large a network's activations are, by watching one pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from mpi_landscape.evaluation.engine.watching import watched
from mpi_landscape.loading.nests import tensors


def largest_output(network: nn.Module, run: Callable[[], Any], num_examples: int) -> int:
    """Numbers per example in the largest tensor that a module of the network gives.

    Args:
        network: In evaluation mode.
        run: Calls it once, on `num_examples` examples.
        num_examples: How many.

    Returns:
        At least 1.
    """
    largest = 1

    def after(_: nn.Module, __: Any, output: Any) -> None:
        nonlocal largest
        nest = [output] if isinstance(output, Tensor) else output
        largest = max([largest, *(tensor.numel() // num_examples for _, tensor in tensors(nest))])

    hooks = [module.register_forward_hook(after) for module in network.modules()]
    watched(hooks, run)
    return largest
