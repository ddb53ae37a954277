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
    for tensor, kind in kinds_of(network, dtype):
        if tensor.dtype != kind:
            tensor.data = tensor.data.to(kind)
    return network


def kinds_of(network: nn.Module, dtype: torch.dtype | None) -> list[tuple[Tensor, torch.dtype]]:
    """Every parameter and buffer, and the type that it is computed in; see `converted`. None is the type that it has."""
    if dtype is None:
        every = {id(each): each for each in [*network.parameters(), *network.buffers()]}
        return [(each, each.dtype) for each in every.values()]
    finer = _is_finer(network.parameters(), dtype)
    found: dict[int, tuple[Tensor, torch.dtype]] = {}
    for module in network.modules():
        own = list(module.parameters(recurse=False))
        # A module without parameters is of the network's kind.
        rounded = _is_finer(own, dtype) if own else finer
        for parameter in own:
            found[id(parameter)] = (parameter, _target(parameter.dtype, dtype))
        for buffer in module.buffers(recurse=False):
            target = _target(buffer.dtype, dtype)
            kind = target if rounded or target.itemsize > buffer.dtype.itemsize else buffer.dtype
            found.setdefault(id(buffer), (buffer, kind))
    return list(found.values())


def _is_finer(tensors: Iterable[Tensor], dtype: torch.dtype) -> bool:
    """Whether any of these has more bits than the type in which it would be computed."""
    return any(_target(each.dtype, dtype).itemsize < each.dtype.itemsize for each in tensors)


def _target(kind: torch.dtype, dtype: torch.dtype) -> torch.dtype:
    if kind.is_complex:
        return torch.complex128 if dtype == torch.float64 else torch.complex64
    return dtype if kind.is_floating_point and kind.itemsize > 1 else kind
