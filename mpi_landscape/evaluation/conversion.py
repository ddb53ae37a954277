"""A network in the type of a computation, without rounding what it keeps in a finer one on purpose."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn


def converted(network: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Convert a network's parameters and buffers, in place, so that every module can compute in a type.

    `Module.to` would cast complex tensors to real ones, and would round buffers of 64 bits, such as times, in a network of 32
    bits. Here

    - parameters become `dtype`, complex ones the complex type of the same precision;
    - buffers of fewer bits become it, too; those of more stay as they are, but for the running statistics and the like of a
      network that is itself in float64: they follow its parameters;
    - integers, booleans and types of 8 bits, which are kept for storing, stay as they are.

    The tensors stay the objects that they are, so what two modules share stays shared.

    Args:
        network: On any device.
        dtype: torch.float32 or torch.float64.

    Returns:
        The same network.

    Example:
        >>> network = nn.Linear(2, 1).half()
        >>> network.register_buffer("since", torch.tensor(1.7e9, dtype=torch.float64))
        >>> network.register_buffer("turn", torch.tensor(1j))
        >>> _ = converted(network, torch.float32)
        >>> network.weight.dtype, network.since.dtype, network.turn.dtype
        (torch.float32, torch.float64, torch.complex64)
    """
    finer = _is_finer(network.parameters(), dtype)
    # Before anything is converted. A module without parameters is of the network's kind.
    kinds = []
    for module in network.modules():
        own = list(module.parameters(recurse=False))
        kinds.append((module, _is_finer(own, dtype) if own else finer))
    for module, rounded in kinds:
        for parameter in module.parameters(recurse=False):
            _convert(parameter, dtype, down=True)
        for buffer in module.buffers(recurse=False):
            _convert(buffer, dtype, down=rounded)
    return network


def _is_finer(tensors: Iterable[Tensor], dtype: torch.dtype) -> bool:
    """Whether any of these has more bits than the type in which it would be computed."""
    return any(_target(each.dtype, dtype).itemsize < each.dtype.itemsize for each in tensors)


def _convert(tensor: Tensor, dtype: torch.dtype, *, down: bool) -> None:
    target = _target(tensor.dtype, dtype)
    if target != tensor.dtype and (down or target.itemsize > tensor.dtype.itemsize):
        tensor.data = tensor.data.to(target)


def _target(kind: torch.dtype, dtype: torch.dtype) -> torch.dtype:
    if kind.is_complex:
        return torch.complex128 if dtype == torch.float64 else torch.complex64
    return dtype if kind.is_floating_point and kind.itemsize > 1 else kind
