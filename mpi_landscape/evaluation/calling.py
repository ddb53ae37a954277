"""One call of a loss function: the same containers every time, and gradients only where the loss needs them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mpi_landscape.errors import LandscapeError
from mpi_landscape.evaluation.vectors import Point
from mpi_landscape.loading import nests
from mpi_landscape.loading.results import LossFunction
from mpi_landscape.wording import one_line, rounded

# Sizes of batches that are tried where one was not taken.
_SIZES = (1, 2, 3, 4, 5, 6, 8)


def call(loss: LossFunction, network: nn.Module, data: Any, *, gradients: bool = False) -> Any:
    """What a loss function returns for a batch, without a graph.

    The loss gets containers of its own, so that `batch.pop("labels")` is gone at this call alone; the tensors are those
    of the batch.

    Args:
        loss: Called as `loss(network, batch)`.
        network: As the loss takes it.
        data: The batch.
        gradients: Whether the loss takes derivatives itself, as that of a physics-informed network does.
    """
    with torch.set_grad_enabled(gradients):
        result = loss(network, nests.fresh(data))
    if isinstance(result, Mapping):
        return {name: _detached(value) for name, value in result.items()}
    return _detached(result)


def raised(error: Exception, data: Any, point: Point = (), *, sizes: str = "") -> LandscapeError:
    """What a network or a loss raised for a batch, in words.

    Args:
        error: What it raised.
        data: The batch.
        point: Where the network was.
        sizes: What is known of sizes of batches, as `sizes_taken` says it.
    """
    shapes = ", ".join(f"{place[1:] or 'batch'} {tuple(t.shape)}" for place, t in nests.tensors(data))
    away = any(point)
    return LandscapeError(
        f"loss: {f'at {rounded(point)} ' if away else ''}calling it on the network and a batch ({shapes}) raised "
        f"{type(error).__name__}: {one_line(error)}"
        + (
            "; valid is a loss with a value (infinite, or nan) wherever the grid is, or a smaller grid"
            if away
            else sizes
        )
    )


def sizes_taken(loss: LossFunction, network: nn.Module, data: Any, *, gradients: bool = False) -> str:
    """Which sizes of batches are taken and which are not, for a message about one that was not; "" where it is not the size.

    Args:
        loss: Called as `loss(network, batch)`.
        network: As the loss takes it.
        data: A batch that was not taken, whose first example is repeated.
        gradients: Whether the loss takes derivatives itself.
    """
    taken: dict[bool, list[str]] = {True: [], False: []}
    try:
        row = nests.rows(data, 0, 1)
        for size in _SIZES:
            batch = nests.joined([row] * size)
            try:
                call(loss, network, batch, gradients=gradients)
            except Exception:
                taken[False].append(str(size))
            else:
                taken[True].append(str(size))
    except Exception:  # what cannot be cut into examples
        return ""
    if not taken[True] or not taken[False]:
        return ""
    return (
        f"; batches of {', '.join(taken[True])} are taken and of {', '.join(taken[False])} are not: valid are a network and a "
        f"loss that take any number of examples, as the last batch of a split may have any"
    )


def _detached(value: Any) -> Any:
    # A loss may switch gradients on for itself.
    return value.detach() if isinstance(value, Tensor) and value.requires_grad else value


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory did not suffice, on a GPU or a CPU."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and "allocate memory" in str(error)
    )
