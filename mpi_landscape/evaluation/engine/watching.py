"""One pass of a network with hooks on its modules, which are gone afterwards."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
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


@dataclass(frozen=True, kw_only=True)
class Footprint:
    """What a pass holds for each example.

    Attributes:
        largest: Numbers in the largest tensor that a module gives, at least 1.
        columns: Numbers of the largest convolution's input when it is written out as a matrix, patch by patch, as is done
            where there is no kernel for it: on a CPU in float64.
    """

    largest: int = 1
    columns: int = 0

    def with_(self, other: Footprint) -> Footprint:
        """What holds both.

        Example:
            >>> Footprint(largest=5).with_(Footprint(largest=3, columns=27))
            Footprint(largest=5, columns=27)
        """
        return Footprint(largest=max(self.largest, other.largest), columns=max(self.columns, other.columns))


def footprint(network: nn.Module, run: Callable[[], Any], num_examples: int) -> Footprint:
    """The footprint of a pass; `run` calls the network on `num_examples`.

    Modules of TorchScript take no hooks: of a network that has some, every operation counts.
    """
    largest, columns = 1, 0

    def after(_: nn.Module, __: Any, output: Any) -> None:
        nonlocal largest
        nest = [output] if isinstance(output, Tensor) else output
        largest = max([largest, *(tensor.numel() // num_examples for _, tensor in tensors(nest))])

    open_ones = [module for module in network.modules() if not isinstance(module, torch.jit.ScriptModule)]
    has_others = len(open_ones) != len(list(network.modules()))

    def operated(function: Any, arguments: Sequence[Any], result: Any) -> None:
        nonlocal columns
        if function is torch.ops.aten.convolution.default:
            columns = max(columns, _columns(arguments, result) // num_examples)
        if has_others:
            after(network, None, [each for each in tree_leaves(result) if isinstance(each, Tensor)])

    def pass_over(mode: AbstractContextManager[Any]) -> None:
        with mode:
            watched([module.register_forward_hook(after) for module in open_ones], run)

    try:
        pass_over(_Operations(operated))
    except Exception:
        if has_others:
            raise
        pass_over(nullcontext())  # a pass that takes no mode
    return Footprint(largest=largest, columns=columns)


def _columns(arguments: Sequence[Any], result: Tensor) -> int:
    """Numbers in the matrix of patches of all examples, of one group; none for kernels of one number and step."""
    weight, stride, transposed = arguments[1], arguments[3], arguments[6]
    kernel = weight.shape[2:]
    if transposed or (math.prod(kernel) == 1 and set(stride) == {1}):
        return 0
    return int(result.shape[0] * weight[0].numel() * math.prod(result.shape[2:]))


class _Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Calls a function with every operation, its arguments and its result."""

    def __init__(self, after: Callable[[Any, Sequence[Any], Any], None]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._after = after

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), named: Any = None) -> Any:
        result = function(*arguments, **(named or {}))
        self._after(function, arguments, result)
        return result
