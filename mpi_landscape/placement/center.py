"""The center: rank 0's network on every rank, and its parameters as one flat vector. Collective."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import zip_longest

import torch
from torch import Tensor, nn

from mpi_landscape.errors import LandscapeError
from mpi_landscape.evaluation.lending import tensors_of
from mpi_landscape.geometry.filters import Division
from mpi_landscape.geometry.layout import Layout, layout_of
from mpi_landscape.parallel.broadcast import broadcast
from mpi_landscape.parallel.ranks import Ranks
from mpi_landscape.placement.sharing import share_tensors


@dataclass(frozen=True, kw_only=True)
class Center:
    """The trained parameters.

    Attributes:
        layout: The order of the flat vectors.
        vector: (n,) float32, in memory of its own.
    """

    layout: Layout
    vector: Tensor


@dataclass(frozen=True, kw_only=True)
class KeptCenter:
    """The trained parameters in the types that they have.

    Attributes:
        layout: The order of the tensors.
        tensors: They by name: contiguous, on the CPU, in memory of their own.
    """

    layout: Layout
    tensors: Mapping[str, Tensor]


def flat_state(model: nn.Module, layout: Layout) -> Tensor:
    """(n,) float32: the parameters of a network, and the buffers that count as such."""
    return layout.flatten(tensors_of(model), where="model")


def share_center(
    model: nn.Module,
    ranks: Ranks,
    *,
    normalization_buffers: bool,
    roles: Mapping[str, Division] | None = None,
) -> Center:
    """Give every rank rank 0's parameters and buffers. Collective.

    The network is of the same class everywhere. With `normalization_buffers`, running means and variances count as
    parameters; `roles` are those of `layout_of`.

    Raises:
        AgreedError: The network has no flat vector, or another one on another rank.
    """
    with ranks.together():
        layout = layout_of(model, normalization_buffers=normalization_buffers, roles=roles)
    _check_same([f"{entry.name} {entry.shape}" for entry in layout.entries], ranks)
    tensors = tensors_of(model)
    _share_buffers(model, ranks)
    root_center = flat_state(model, layout).numpy() if ranks.is_root else None
    vector = torch.from_numpy(broadcast(ranks, root_center))
    if not ranks.is_root:
        # In place: whatever else leads to a parameter leads to these numbers.
        with torch.no_grad():
            for name, view in layout.views(vector).items():
                tensors[name].copy_(view)
    return Center(layout=layout, vector=vector)


def share_kept_center(
    model: nn.Module,
    ranks: Ranks,
    *,
    normalization_buffers: bool,
    roles: Mapping[str, Division] | None = None,
) -> KeptCenter:
    """As `share_center`, of a network whose tensors keep their types; one tensor at a time travels. Collective.

    Raises:
        AgreedError: A tensor has a type in which nothing can move, or the network is another one on another rank.
    """
    with ranks.together():
        layout = layout_of(model, normalization_buffers=normalization_buffers, roles=roles)
        _check_kinds(model)
    tensors = tensors_of(model)
    _check_same(
        [f"{entry.name} {entry.shape} {tensors[entry.name].dtype}" for entry in layout.entries], ranks
    )
    _share_buffers(model, ranks)
    held = share_tensors(
        {entry.name: tensors[entry.name] for entry in layout.entries} if ranks.is_root else None, ranks
    )
    if not ranks.is_root:
        with torch.no_grad():
            for name, value in [*held.items(), *((name, held[first]) for name, first in layout.tied)]:
                tensors[name].copy_(value)
    return KeptCenter(layout=layout, tensors=held)


def _check_kinds(model: nn.Module) -> None:
    """Refuse tensors in whose types nothing can move by small steps."""
    for name, tensor in model.named_parameters():
        if tensor.is_complex():
            raise LandscapeError(
                f"compute.precision: kept: parameter {name} is complex ({tensor.dtype}); valid for this network are float32 "
                f"and float64"
            )
        if tensor.dtype.itemsize < 2 and tensor.dtype != torch.bool:
            raise LandscapeError(
                f"compute.precision: kept: parameter {name} is {tensor.dtype}, and between two quantized numbers there is no "
                f"step; valid are weights in bfloat16, float16, float32 or float64"
            )


def _check_same(names: list[str], ranks: Ranks) -> None:
    """Refuse a network whose tensors come in another order, or are others, on another rank."""
    wanted = ranks.share(names)
    with ranks.together():
        pairs = zip_longest(names, wanted, fillvalue="nothing")
        differing = next((pair for pair in pairs if pair[0] != pair[1]), None)
        if differing is not None:
            raise LandscapeError(
                f"model: has {differing[0]} here where rank 0 has {differing[1]}; valid is a network built alike on every rank "
                f"(modules in a list or a dict; a set has another order in every process)"
            )


def _share_buffers(model: nn.Module, ranks: Ranks) -> None:
    """Rank 0's buffers (running statistics and the like) on every rank."""
    shared = share_tensors(dict(model.named_buffers()) if ranks.is_root else None, ranks, copied=False)
    if not ranks.is_root:
        for name, buffer in model.named_buffers():
            buffer.copy_(shared[name])
