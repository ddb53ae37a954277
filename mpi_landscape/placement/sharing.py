"""Tensors of rank 0 on every rank."""

from __future__ import annotations

import io
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from mpi_landscape.parallel.broadcast import broadcast
from mpi_landscape.parallel.ranks import Ranks


def share_tensors(tensors: Mapping[str, Tensor], ranks: Ranks) -> Mapping[str, Tensor]:
    """Rank 0's tensors by name, of any types and sizes, on every rank; on rank 0 those that it gave. Collective."""
    if ranks.size == 1:
        return tensors
    packed = None
    if ranks.is_root:
        stream = io.BytesIO()
        torch.save(dict(tensors), stream)
        packed = np.frombuffer(stream.getvalue(), dtype=np.uint8)
    received = broadcast(ranks, packed)
    if ranks.is_root:
        return tensors
    found: Mapping[str, Tensor] = torch.load(
        io.BytesIO(received.tobytes()), weights_only=True, map_location="cpu"
    )
    return found
