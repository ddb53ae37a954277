"""Which device and how many threads each rank uses."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import psutil
import torch

from mpi_landscape.errors import LandscapeError
from mpi_landscape.parallel.ranks import Ranks


def choose_device(request: str, ranks: Ranks) -> torch.device:
    """The device of this rank: its own GPU where there are any, by *local* rank.

    With one GPU per task the launcher has hidden the others and the visible one has index 0; otherwise all ranks of
    a node see all its GPUs and take them in turn. CUDA_VISIBLE_DEVICES is honoured, as torch counts only what it shows.

    Args:
        request: `auto`, `cpu`, `cuda` or `cuda:N`.
        ranks: The job.

    Raises:
        LandscapeError: The device asked for is not there.
    """
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if request == "cpu" or (request == "auto" and count == 0):
        return torch.device("cpu")
    if request in ("auto", "cuda"):
        if count == 0:
            raise LandscapeError(
                f"compute.device: {request!r} was asked for, but torch sees no GPU on {ranks.host}; use 'cpu' or 'auto'"
            )
        return torch.device("cuda", local_index(ranks.local_rank, count))
    try:
        device = torch.device(request)
    except RuntimeError:
        raise LandscapeError(
            f"compute.device: {request!r} is no device; valid are auto, cpu, cuda, cuda:N"
        ) from None
    if device.type != "cuda":
        raise LandscapeError(
            f"compute.device: {request!r} is not supported; valid are auto, cpu, cuda, cuda:N"
        )
    if (device.index or 0) >= count:
        raise LandscapeError(
            f"compute.device: {request!r} is not there: torch sees {count} GPUs on {ranks.host}"
        )
    return device


def local_index(local_rank: int, count: int) -> int:
    """The GPU of a local rank among `count` visible ones."""
    return 0 if count == 1 else local_rank % count


def shared_device_warning(device: torch.device, ranks: Ranks) -> str | None:
    """A sentence when ranks of one node hold the same GPU; None when all is well. Collective."""
    identity = None
    if device.type == "cuda":
        # Indices mean nothing across ranks with different visible devices; the UUID does.
        identity = (ranks.host, str(getattr(torch.cuda.get_device_properties(device), "uuid", device.index)))
    held = [value for value in ranks.gather(identity) if value is not None]
    crowded = sorted({host for host, uuid in held if held.count((host, uuid)) > 1})
    if not crowded:
        return None
    return f"several ranks share one GPU on {', '.join(crowded)}: start as many ranks per node as it has GPUs"


def thread_share(ranks: Ranks, request: int | Literal["auto"] = "auto") -> int:
    """How many threads this rank may keep busy. Collective.

    The cores of its affinity mask, divided fairly among the ranks of its node that have the same mask.
    """
    mask = available_cores()
    places = ranks.gather((ranks.host, mask))
    if request != "auto":
        return request
    sharers = [rank for rank, place in enumerate(places) if place == (ranks.host, mask)]
    return fair_share(len(mask), len(sharers), sharers.index(ranks.rank))


def fair_share(cores: int, sharers: int, place: int) -> int:
    """The number of cores of the sharer in `place`: all shares differ by one at most and none is zero."""
    return max(1, cores // sharers + (place < cores % sharers))


def available_cores() -> tuple[int, ...]:
    """The cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))


@dataclass(frozen=True, kw_only=True)
class DeviceMemory:
    """The memory of a device, which ranks of a node may share.

    Attributes:
        share: Bytes that one batch may take: a fixed part of all that the device has, the same for any number of ranks.
        free: Bytes that are free on it, for all who use it.
        users: Ranks that use it.
    """

    share: int
    free: int
    users: int


def memory_of(device: torch.device, ranks: Ranks) -> DeviceMemory:
    """The memory of this rank's device. Collective.

    Of a GPU a batch may take the half; of a node, the half of a core's part, whichever cores this job may use.
    """
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        share, place = (
            total // 2,
            str(getattr(torch.cuda.get_device_properties(device), "uuid", device.index)),
        )
    else:
        found = psutil.virtual_memory()
        free, share, place = found.available, found.total // (2 * (os.cpu_count() or 1)), ""
    places = ranks.gather((ranks.host, place, int(share)))
    # The least of all nodes, as it is in the plan.
    return DeviceMemory(
        share=min(share for _, _, share in places),
        free=int(free),
        users=sum(each[:2] == (ranks.host, place) for each in places),
    )


def free_memory(device: torch.device, ranks: Ranks) -> int:
    """This rank's fair share of the memory that is free on a device, in bytes."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available) // ranks.local_size


def device_name(device: torch.device) -> str:
    """The device's model, as its vendor names it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return cpu_name()


def cpu_name() -> str:
    """The processor's model, with the vector instructions that torch uses on it."""
    model = "CPU"
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:  # noqa: PTH123 - not a user's path
            model = next(
                (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), model
            )
    except OSError:
        pass
    return f"{model}, {torch.backends.cpu.get_cpu_capability()}"


def distinct(names: Sequence[str]) -> str:
    """Names with their counts, for a log line: `16 x NVIDIA H100`."""
    return ", ".join(f"{names.count(name)} x {name}" for name in dict.fromkeys(names))
