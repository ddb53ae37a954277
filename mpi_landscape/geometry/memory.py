"""Parameters that lie on one memory: tied where it is the same numbers, refused where they only overlap."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mpi_landscape.errors import LandscapeError


def tied(named: Sequence[tuple[str, Tensor]]) -> dict[str, str]:
    """Tensors that are another one's memory, element by element: second name -> first name.

    Those that are one object have one name in `named_parameters()`, and are none of them.

    Raises:
        LandscapeError: Two share a part of their memory only, so that one cannot be moved without the other.

    Example:
        >>> numbers = torch.zeros(2, 3)
        >>> tied([("encoder", nn.Parameter(numbers)), ("decoder", nn.Parameter(numbers))])
        {'decoder': 'encoder'}
    """
    found: dict[str, str] = {}
    known = sorted(
        ((each.data_ptr(), place) for place, (_, each) in enumerate(named) if _has_memory(each)),
    )
    open_ones: list[int] = []  # places whose memory may reach to where we are
    for start, place in known:
        tensor = named[place][1]
        open_ones = [
            other for other in open_ones if named[other][1].data_ptr() + _bytes(named[other][1]) > start
        ]
        for other in open_ones:
            first, second = sorted((other, place))
            if _is_same(named[other][1], tensor):
                found[named[second][0]] = found.get(named[first][0], named[first][0])
            elif _overlap(named[other][1], tensor):
                raise LandscapeError(
                    f"model: parameters {named[first][0]} and {named[second][0]} share a part of their memory, so one "
                    f"cannot be moved without the other; valid are parameters that share all of it or nothing"
                )
        open_ones.append(place)
    return {name: _root(found, first) for name, first in found.items()}


def tie(model: nn.Module, original: nn.Module) -> nn.Module:
    """Let parameters of a copy lie on one memory where those of the original do; `copy.deepcopy` parts them."""
    pairs = tied([*original.named_parameters()])
    if pairs:
        own = dict(model.named_parameters())
        for name, first in pairs.items():
            own[name].data = own[first].data
    return model


def _root(found: dict[str, str], name: str) -> str:
    while name in found:
        name = found[name]
    return name


def _has_memory(tensor: Tensor) -> bool:
    return (
        tensor.layout == torch.strided
        and tensor.device.type != "meta"
        and not tensor.is_quantized
        and tensor.numel() > 0
        and tensor.data_ptr() != 0
    )


def _extent(tensor: Tensor) -> int:
    """Elements from the first to the last one."""
    return 1 + sum((length - 1) * step for length, step in zip(tensor.shape, tensor.stride(), strict=True))


def _bytes(tensor: Tensor) -> int:
    return _extent(tensor) * tensor.element_size()


def _is_same(one: Tensor, other: Tensor) -> bool:
    return (
        one.data_ptr() == other.data_ptr()
        and one.dtype == other.dtype
        and one.shape == other.shape
        and one.stride() == other.stride()
        and one.device == other.device
    )


def _overlap(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors, the first of which begins no later, have an element in common: columns of a matrix have none."""
    if one.device != other.device:
        return False
    if one.element_size() != other.element_size():
        return True
    size = one.element_size()
    shift = (other.data_ptr() - one.data_ptr()) // size
    marks = torch.zeros(max(_extent(one), shift + _extent(other)), dtype=torch.bool)
    marks.as_strided(one.shape, one.stride()).fill_(True)
    return bool(marks.as_strided(other.shape, other.stride(), shift).any())
