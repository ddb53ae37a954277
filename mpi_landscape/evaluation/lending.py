"""A network that is lent for an evaluation, and given back as it was, to the last bit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from mpi_landscape.evaluation.conversion import kinds_of

# Numbers that are compared at a time.
_PIECE = 2**20


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
def moved_to(
    model: nn.Module, device: torch.device, dtype: torch.dtype | None = torch.float32
) -> Iterator[None]:
    """The network on a device and in a type that can be computed in; afterwards its tensors are those that they were.

    Tensors that are there already stay where they are, so that what else leads to them leads there still.

    Args:
        model: Any.
        device: Where.
        dtype: float32 or float64, see `conversion.converted`; None where every tensor keeps its own.
    """
    before = [(tensor, tensor.data, kind) for tensor, kind in kinds_of(model, dtype)]
    try:
        for tensor, data, kind in before:
            if data.device != device or data.dtype != kind:
                tensor.data = data.to(device, kind)
        yield
    finally:
        for tensor, data, _ in before:
            if tensor.data_ptr() != data.data_ptr():
                tensor.data = data


def is_there(model: nn.Module, device: torch.device, dtype: torch.dtype | None = torch.float32) -> bool:
    """Whether `moved_to` would leave every tensor where it is."""
    kinds = kinds_of(model, dtype)
    return all(tensor.device == device and tensor.dtype == kind for tensor, kind in kinds)


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
    # In pieces: what is made to compare all of a large tensor would be several more of its size.
    pieces = zip(*(torch.split(each.reshape(-1), _PIECE) for each in (first, second)), strict=True)
    return all(bool(((one == two) | ((one != one) & (two != two))).all()) for one, two in pieces)
