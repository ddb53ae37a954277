"""One pass of a network with hooks on its modules, which are gone afterwards."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from mpi_landscape.loading.nests import tensors


def watched(hooks: Sequence[RemovableHandle], run: Callable[[], Any]) -> None:
    """Call a network without gradients, and take the hooks away, also where it raises."""
    try:
        with torch.no_grad():
            run()
    finally:
        for hook in hooks:
            hook.remove()


def largest_output(network: nn.Module, run: Callable[[], Any], num_examples: int) -> int:
    """Numbers per example in the largest tensor that a module gives, at least 1; `run` calls it on `num_examples`."""
    largest = 1

    def after(_: nn.Module, __: Any, output: Any) -> None:
        nonlocal largest
        nest = [output] if isinstance(output, Tensor) else output
        largest = max([largest, *(tensor.numel() // num_examples for _, tensor in tensors(nest))])

    watched([module.register_forward_hook(after) for module in network.modules()], run)
    return largest
