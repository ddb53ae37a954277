"""A job in lines for people: who computes, what, how, and what it will take."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from mpi_landscape.parallel.devices import device_name, distinct
from mpi_landscape.parallel.ranks import Ranks
from mpi_landscape.plan.cost import expected_seconds, memory_per_rank, table
from mpi_landscape.storage.surface.schema import size_of_arrays
from mpi_landscape.surfaces import sampling
from mpi_landscape.wording import amount, duration

if TYPE_CHECKING:
    from mpi_landscape.surfaces.losses import Prepared

# Bytes per second that disks write: a shared or a turning one, and one of a node of its own.
_DISK_RATES = (1e8, 1e9)


def describe_plan(prepared: Prepared, size: int) -> list[str]:
    """The plan and what it will cost, in lines for people.

    Args:
        prepared: The job.
        size: Number of ranks.
    """
    job, plan = prepared.job, prepared.plan
    shape = " x ".join(str(num) for num in job.grid.shape)
    splits = ", ".join(
        f"{name} ({resident.num_examples} examples)" for name, resident in prepared.residents.items()
    )
    batch = max(resident.batch_size for resident in prepared.residents.values())
    shards = ", ".join(f"{count} of {split}" for split, count in plan.shards)
    losses = ", ".join(
        f"{split} {prepared.certificate[f'certificate_{split}_loss']:.6g}" for split in prepared.residents
    )
    seconds = expected_seconds(plan, prepared.seconds_per_point, size)
    target = job.compute.relative_error
    most = "at most " if plan.samples and target else ""
    return [
        f"network     {job.layout.size:,} numbers in {len(job.layout.entries)} tensors; {job.compute.precision}",
        f"data        {splits}; batches of {batch}; {prepared.held}",
        f"engine      {prepared.evaluator.engine.words()}",
        f"center      loss {losses}",
        f"grid        {shape} points, {plan.num_tiles} tiles of up to {plan.points_per_tile} points; "
        f"data shards: {shards}{sampling.describe(plan, target)}",
        f"file        {_file_words(_file_size(prepared))}",
        f"expected    {most}{duration(seconds)} on {size} rank{'s' if size > 1 else ''}, "
        f"from {prepared.seconds_per_point:.3g} s a point and rank",
    ]


def _file_words(size: int) -> str:
    """The size of the file, and how long a large one keeps everybody waiting: it is written whole before the first tile."""
    if size < 2**30:
        return amount(size)
    slow, fast = (duration(size / rate).removeprefix("about ") for rate in _DISK_RATES)
    return f"{amount(size)}, written before the first tile: {fast} to {slow} on a disk of 1 GB/s to 100 MB/s"


def _file_size(prepared: Prepared) -> int:
    """Bytes, but for the names and attributes."""
    vectors = 4 * prepared.job.layout.size * (1 + len(prepared.job.directions))
    return vectors + size_of_arrays(prepared.job.grid, prepared.plan, prepared.accuracy)


def describe_ranks(ranks: Ranks, device: torch.device, threads: int) -> str:
    """Who computes: ranks, hosts, devices, threads. Collective."""
    names = ranks.gather((ranks.host, device_name(device), threads))
    hosts = len({host for host, _, _ in names})
    spread = sorted({threads for _, _, threads in names})
    each = f"{spread[0]}" if len(spread) == 1 else f"{spread[0]} to {spread[-1]}"
    return (
        f"ranks       {ranks.size} on {hosts} host{'s' if hosts > 1 else ''}: {distinct([name for _, name, _ in names])}; "
        f"{each} thread{'s' if spread[-1] > 1 else ''} each"
    )


def describe_cost(prepared: Prepared, size: int) -> list[str]:
    """What a dry run says besides the plan: time, hours and memory, on this number of ranks and on others.

    Args:
        prepared: The job.
        size: Number of ranks.
    """
    job = prepared.job
    return table(
        prepared.plan,
        prepared.seconds_per_point,
        ranks=size,
        threads=int(prepared.facts["threads_per_rank"]),
        on_gpu=prepared.on_gpu,
        memory=memory_per_rank(
            job.layout.size,
            len(job.directions),
            data=prepared.data_bytes,
            activations=prepared.activation_bytes,
            folded=prepared.evaluator.engine.writes_vectors,
        ),
    )
