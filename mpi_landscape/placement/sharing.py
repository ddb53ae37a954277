"""Tensors of rank 0 on every rank."""

from __future__ import annotations

import io
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from mpi_landscape.parallel.broadcast import broadcast
from mpi_landscape.parallel.ranks import Ranks


def share_tensors(
    tensors: Mapping[str, Tensor] | None, ranks: Ranks, *, copied: bool = True
) -> dict[str, Tensor]:
    """Rank 0's tensors on every rank: contiguous, on the CPU; on rank 0 itself copies, unless they need not be. Collective."""
    if ranks.size == 1 and not copied:
        return dict(tensors or {})
    dense = {name: each.layout == torch.strided for name, each in (tensors or {}).items()}
    kinds = ranks.share(
        {name: (each.shape, each.dtype) if dense[name] else None for name, each in (tensors or {}).items()}
    )
    held = {}
    for name, kind in kinds.items():
        given = None if tensors is None else tensors[name].detach().to("cpu", copy=copied)
        if kind is None:
            held[name] = _shared_whole(given, ranks)
            continue
        # As bytes: numpy knows no bfloat16.
        row = None
        if given is not None:
            held[name] = given.contiguous()
            row = held[name].reshape(-1).view(torch.uint8).numpy()
        received = broadcast(ranks, row)
        if given is None:
            flat = torch.from_numpy(received)
            # Bytes of nothing have no steps, and so no other type.
            held[name] = (flat.view(kind[1]) if flat.numel() else flat.to(kind[1])).reshape(kind[0])
    return held


def _shared_whole(tensor: Tensor | None, ranks: Ranks) -> Tensor:
    """One with parts of its own, such as a sparse matrix."""
    packed = None
    if tensor is not None:
        stream = io.BytesIO()
        torch.save(tensor, stream)
        packed = np.frombuffer(stream.getvalue(), dtype=np.uint8)
    received = broadcast(ranks, packed)
    if tensor is not None:
        return tensor
    found: Tensor = torch.load(io.BytesIO(received.tobytes()), weights_only=True)
    return found


def share_vectors(built: Mapping[str, Tensor] | None, ranks: Ranks) -> dict[str, Tensor]:
    """Rank 0's flat vectors by name, on every rank. Collective."""
    names = ranks.share(list(built) if built is not None else [])
    return {
        name: torch.from_numpy(broadcast(ranks, built[name].numpy() if built is not None else None))
        for name in names
    }
