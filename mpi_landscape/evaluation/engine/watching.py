"""One pass of a network with hooks on its modules, which are gone afterwards."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
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
    """Numbers per example in the largest tensor that a module gives, at least 1; `run` calls it on `num_examples`.

    Modules of TorchScript take no hooks: of a network that has some, every operation counts.
    """
    largest = 1

    def after(_: nn.Module, __: Any, output: Any) -> None:
        nonlocal largest
        nest = [output] if isinstance(output, Tensor) else output
        largest = max([largest, *(tensor.numel() // num_examples for _, tensor in tensors(nest))])

    open_ones = [module for module in network.modules() if not isinstance(module, torch.jit.ScriptModule)]
    with nullcontext() if len(open_ones) == len(list(network.modules())) else _Operations(after):
        watched([module.register_forward_hook(after) for module in open_ones], run)
    return largest


class _Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Calls a function with the result of every operation, as a hook is called with a module's."""

    def __init__(self, after: Callable[[Any, Any, Any], None]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._after = after

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), named: Any = None) -> Any:
        result = function(*arguments, **(named or {}))
        self._after(None, None, [each for each in tree_leaves(result) if isinstance(each, Tensor)])
        return result
