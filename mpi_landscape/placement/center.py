"""The center: rank 0's network on every rank, as one flat vector that the network's parameters view. Collective."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from mpi_landscape.evaluation.replica import attach
from mpi_landscape.geometry.layout import Layout, layout_of
from mpi_landscape.parallel.broadcast import broadcast
from mpi_landscape.parallel.ranks import Ranks


@dataclass(frozen=True, kw_only=True)
class Center:
    """The trained parameters.

    Attributes:
        layout: The order of the flat vectors.
        vector: (n,) float32; the network's parameters are views of it.
    """

    layout: Layout
    vector: Tensor


def flat_state(model: nn.Module, layout: Layout) -> Tensor:
    """(n,) float32: the parameters of a network, and the buffers that count as such."""
    return layout.flatten({**dict(model.named_buffers()), **dict(model.named_parameters())}, where="model")


def share_center(model: nn.Module, ranks: Ranks, *, normalization_buffers: bool) -> Center:
    """Give every rank rank 0's parameters and buffers. Collective.

    The network is of the same class everywhere. With `normalization_buffers`, running means and variances count as
    parameters.

    Raises:
        AgreedError: The network has no flat vector.
    """
    with ranks.together():
        layout = layout_of(model, normalization_buffers=normalization_buffers)
    _share_buffers(model, ranks)
    root_center = flat_state(model, layout).numpy() if ranks.is_root else None
    vector = torch.from_numpy(broadcast(ranks, root_center))
    # From here on the network at the center is the center: one vector less in memory.
    attach(model, layout.views(vector))
    return Center(layout=layout, vector=vector)


def _share_buffers(model: nn.Module, ranks: Ranks) -> None:
    """Rank 0's buffers (running statistics and the like) on every rank."""
    if ranks.size == 1:
        return
    packed = None
    if ranks.is_root:
        stream = io.BytesIO()
        torch.save(dict(model.named_buffers()), stream)
        packed = np.frombuffer(stream.getvalue(), dtype=np.uint8)
    received = broadcast(ranks, packed)
    if not ranks.is_root:
        state = torch.load(io.BytesIO(received.tobytes()), weights_only=True)
        for name, buffer in model.named_buffers():
            buffer.copy_(state[name])
