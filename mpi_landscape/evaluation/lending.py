"""A network that is lent for an evaluation, and given back as it was, to the last bit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


@contextmanager
def in_evaluation(model: nn.Module) -> Iterator[tuple[str, ...]]:
    """The network in evaluation mode; afterwards modes, parameters and buffers are what they were.

    `eval()` is called once, on the network itself: an adapter may merge itself into a weight there, and a copy that is
    asked again would do it twice.

    Yields:
        Names of the parameters and buffers that `eval()` has changed.
    """
    modes = [(module, module.training) for module in model.modules()]
    before = tensors_of(model) if any(mode for _, mode in modes) else {}
    kept = {name: tensor.detach().clone() for name, tensor in before.items()}
    try:
        if kept or any(mode for _, mode in modes):
            model.eval()
        now = tensors_of(model)
        changed = tuple(name for name, was in kept.items() if not _same(was, now[name]))
        if not changed:
            kept.clear()
        yield changed
    finally:
        if modes[0][1]:
            model.train()
        for module, mode in modes:
            module.training = mode
        restore(model, kept)


@contextmanager
def kept_as_it_is(model: nn.Module) -> Iterator[None]:
    """Parameters and buffers are afterwards what they were, whatever was written into them."""
    kept = {name: tensor.detach().clone() for name, tensor in tensors_of(model).items()}
    try:
        yield
    finally:
        restore(model, kept)


@contextmanager
def moved_to(model: nn.Module, device: torch.device, *, double: bool = False) -> Iterator[None]:
    """The network on a device and in a type that can be computed in; afterwards its tensors are those that they were.

    Tensors that are there already stay where they are, so that what else leads to them leads there still.

    Args:
        model: Any.
        device: Where.
        double: Whether real numbers become float64 and complex ones complex128. Otherwise parameters become float32 and
            complex64, and of buffers those of fewer bits: what has more may be times, or counts.
    """
    parameters = {id(parameter) for parameter in model.parameters()}
    before = [(tensor, tensor.data) for tensor in tensors_of(model).values()]
    try:
        for tensor, data in before:
            kind = computed_type(data.dtype, double=double, least=id(tensor) not in parameters)
            if data.device != device or data.dtype != kind:
                tensor.data = data.to(device, kind)
        yield
    finally:
        for tensor, data in before:
            if tensor.data_ptr() != data.data_ptr():
                tensor.data = data


def is_there(model: nn.Module, device: torch.device, *, double: bool = False) -> bool:
    """Whether `moved_to` would leave every tensor where it is."""
    parameters = {id(parameter) for parameter in model.parameters()}
    return all(
        tensor.device == device
        and tensor.dtype == computed_type(tensor.dtype, double=double, least=id(tensor) not in parameters)
        for tensor in tensors_of(model).values()
    )


def computed_type(kind: torch.dtype, *, double: bool, least: bool = False) -> torch.dtype:
    """The type in which tensors of a type are computed; what is no real or complex number stays as it is.

    Args:
        kind: The type.
        double: Whether in 64 bits a number, not in 32.
        least: Whether what has more bits keeps them.

    Example:
        >>> [computed_type(each, double=False) for each in (torch.bfloat16, torch.float64, torch.int64)]
        [torch.float32, torch.float32, torch.int64]
        >>> computed_type(torch.float64, double=False, least=True)
        torch.float64
    """
    # Types of 8 bits are for keeping numbers, not for computing.
    if not (kind.is_complex or kind.is_floating_point) or kind.itemsize == 1:
        return kind
    wanted = torch.float64 if double else torch.float32
    wanted = wanted.to_complex() if kind.is_complex else wanted
    return kind if least and kind.itemsize > wanted.itemsize else wanted


def tensors_of(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name, shared ones once."""
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def restore(model: nn.Module, kept: dict[str, Tensor]) -> None:
    """Write tensors back, by name."""
    now = tensors_of(model)
    with torch.no_grad():
        for name, tensor in kept.items():
            now[name].copy_(tensor)


def _same(first: Tensor, second: Tensor) -> bool:
    if first.shape != second.shape or first.dtype != second.dtype:
        return False
    return bool(((first == second) | ((first != first) & (second != second))).all())
