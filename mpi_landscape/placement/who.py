"""Who computes, in a line for people. Collective."""

from __future__ import annotations

import torch

from mpi_landscape.parallel.devices import device_name, distinct
from mpi_landscape.parallel.ranks import Ranks


def describe_ranks(ranks: Ranks, device: torch.device, threads: int) -> str:
    """Ranks, hosts, devices, threads. Collective."""
    names = ranks.gather((ranks.host, device_name(device), threads))
    hosts = len({host for host, _, _ in names})
    spread = sorted({threads for _, _, threads in names})
    each = f"{spread[0]}" if len(spread) == 1 else f"{spread[0]} to {spread[-1]}"
    return (
        f"ranks       {ranks.size} on {hosts} host{'s' if hosts > 1 else ''}: {distinct([name for _, name, _ in names])}; "
        f"{each} thread{'s' if spread[-1] > 1 else ''} each"
    )
