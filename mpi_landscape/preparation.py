"""Everything before the first tile: network and data on the device, premises checked, the plan made. Collective.

Whatever can be refused is refused here, by all ranks together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mpi_landscape import sampling
from mpi_landscape.certificate import certify, certify_directions
from mpi_landscape.errors import LandscapeError
from mpi_landscape.evaluation import premises
from mpi_landscape.evaluation.evaluator import Evaluator, own_copy
from mpi_landscape.evaluation.reordering import reordered
from mpi_landscape.evaluation.resident import Resident, example_size, make_resident
from mpi_landscape.geometry.grid import Grid
from mpi_landscape.geometry.layout import Layout
from mpi_landscape.geometry.tiles import Plan, choose_batch_size, choose_points_per_tile, choose_shards
from mpi_landscape.parallel.devices import (
    choose_device,
    device_name,
    distinct,
    shared_device_warning,
    thread_share,
)
from mpi_landscape.parallel.ranks import Ranks
from mpi_landscape.problem.build import Problem
from mpi_landscape.problem.sections.work import ComputeConfiguration
from mpi_landscape.program import say
from mpi_landscape.storage import identity

DTYPES = {"float32": torch.float32, "float64": torch.float64}


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is to be computed, the same on every rank.

    Attributes:
        problem: Network at the center, loss, data.
        layout: The order of the flat vectors.
        center: (n,) float32.
        directions: `alpha`, and `beta` for a surface: (n,) float32 each.
        grid: The points.
        compute: Precision, device, batch and tile sizes.
        texts: Identity of what the vectors and the data do not show: the loss, the directions' recipe.
        check_labels: Refuses labels that the loss cannot take, given (network, split); before any loss.
    """

    problem: Problem
    layout: Layout
    center: Tensor
    directions: Mapping[str, Tensor]
    grid: Grid
    compute: ComputeConfiguration
    texts: Mapping[str, str]
    check_labels: Callable[[nn.Module, Resident], None]


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A job whose premises hold: evaluator and data on the device, the plan, and what the file says of it."""

    job: Job
    evaluator: Evaluator
    residents: Mapping[str, Resident]
    plan: Plan
    accuracy: bool
    identity: Mapping[str, str]
    certificate: Mapping[str, float]
    facts: Mapping[str, str]
    seconds_per_point: float
    orders: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)


def prepare(job: Job, ranks: Ranks, path: Path | None) -> Prepared:
    """Put network and data on the device, check the premises, and measure the center. Collective.

    Args:
        job: What to compute.
        ranks: Who computes.
        path: The file that may be there to be continued; None for a new one.

    Raises:
        AgreedError: A premise does not hold.
    """
    device = ranks.together(lambda: choose_device(job.compute.device, ranks))
    dtype = DTYPES[job.compute.precision]
    threads = thread_share(ranks, job.compute.threads)
    warning = shared_device_warning(device, ranks)
    say(ranks, _describe_ranks(ranks, device, threads))
    if warning:
        say(ranks, f"warning: {warning}")
    sampled, stored = sampling.wanted(ranks, path, job.compute.relative_error)
    batch_size = ranks.together(lambda: _batch_size(job, device, sampled))
    ranks.on_root(lambda: _try_first_examples(job.problem, device, dtype))
    residents = ranks.together(
        lambda: {
            split: make_resident(split, dataset, batch_size=batch_size, device=device, dtype=dtype)
            for split, dataset in job.problem.splits.items()
        }
    )
    ranks.together(lambda: _check_same_data(ranks, residents))
    evaluator = ranks.together(
        lambda: Evaluator(
            job.problem.model,
            job.problem.loss,
            job.layout,
            job.center,
            list(job.directions.values()),
            device=device,
            dtype=dtype,
            threads=threads,
        )
    )
    accuracy = ranks.together(lambda: _check_premises(job, ranks, evaluator, residents, device, dtype))
    certificate, seconds = certify(job.problem, ranks, evaluator, residents, device, dtype)
    certificate |= certify_directions(job.layout, job.center, job.directions)
    chosen, plan = None, _plan(job, residents)
    if sampled and (stored is None or sampling.fits(stored, residents)):
        chosen = stored or sampling.draw(job, ranks, evaluator, residents)
        plan = ranks.together(partial(sampling.sampled_plan, job, chosen, list(residents)))
        residents = {split: reordered(each, chosen.orders[split]) for split, each in residents.items()}
    return Prepared(
        job=job,
        evaluator=evaluator,
        residents=residents,
        plan=plan,
        accuracy=accuracy,
        identity=_identity(job, residents, plan, batch_size) | ({"samples": chosen.text} if chosen else {}),
        certificate=certificate,
        facts={"device": device_name(device), "ranks": str(ranks.size), "threads_per_rank": str(threads)},
        seconds_per_point=seconds,
        orders=chosen.orders if chosen else {},
    )


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
    seconds = prepared.seconds_per_point * job.grid.num_points / size
    most = "at most " if plan.samples and job.compute.relative_error else ""
    return [
        f"network     {job.layout.size:,} numbers in {len(job.layout.entries)} tensors; {job.compute.precision}",
        f"data        {splits}; batches of {batch}",
        f"center      loss {losses}",
        f"grid        {shape} points, {plan.num_tiles} tiles of up to {plan.points_per_tile} points; "
        f"data shards: {shards}{sampling.describe(plan, job.compute.relative_error)}",
        f"expected    {most}{_duration(seconds)} on {size} rank{'s' if size > 1 else ''}, "
        f"from {prepared.seconds_per_point:.3g} s a point and rank",
    ]


def _batch_size(job: Job, device: torch.device, sampled: bool) -> int:
    """Part of the plan and so of the bits; the same for all splits."""
    if job.compute.batch_size != "auto":
        return job.compute.batch_size
    sizes = [example_size(split, dataset) for split, dataset in job.problem.splits.items()]
    automatic = choose_batch_size(max(sizes), on_gpu=device.type == "cuda")
    return sampling.sampled_batch_size(automatic, job.problem.splits) if sampled else automatic


def _try_first_examples(problem: Problem, device: torch.device, dtype: torch.dtype) -> None:
    network = own_copy(problem.model).to(device, dtype).eval()
    for split, dataset in problem.splits.items():
        premises.check_first_examples(problem.loss, network, split, dataset, device=device, dtype=dtype)


def _plan(job: Job, residents: Mapping[str, Resident]) -> Plan:
    num_points = job.grid.num_points
    shards = tuple(
        (
            split,
            min(
                len(resident.batches),
                _or(job.compute.data_shards, choose_shards(num_points, len(resident.batches))),
            ),
        )
        for split, resident in residents.items()
    )
    most = max(residents[split].num_examples // count for split, count in shards)
    return Plan(
        num_points=num_points,
        points_per_tile=min(
            num_points, _or(job.compute.points_per_tile, choose_points_per_tile(num_points, most))
        ),
        shards=shards,
    )


def _or(request: int | str, automatic: int) -> int:
    return automatic if isinstance(request, str) else request


def _check_same_data(ranks: Ranks, residents: Mapping[str, Resident]) -> None:
    """Ranks that see other data would fill one picture with two surfaces."""
    digests = ranks.gather({split: resident.digest for split, resident in residents.items()})
    for rank, other in enumerate(digests):
        for split, digest in digests[0].items():
            if other.get(split) != digest:
                raise LandscapeError(
                    f"data: split {split!r} holds other examples on rank {rank} than on rank 0; "
                    f"a random choice of examples needs a fixed seed"
                )


def _check_premises(
    job: Job,
    ranks: Ranks,
    evaluator: Evaluator,
    residents: Mapping[str, Resident],
    device: torch.device,
    dtype: torch.dtype,
) -> bool:
    """Every rank tries one batch; rank 0 alone looks at the data again. Returns whether there is an accuracy."""
    evaluator.move()
    accuracies = set()
    for split, resident in residents.items():
        batch = resident.batches[0]
        if ranks.is_root:
            job.check_labels(evaluator.network, resident)
        result = premises.call_loss(job.problem.loss, evaluator.network, batch)
        accuracies.add(premises.check_loss(result, resident.batch_size))
        premises.check_repeatable(job.problem.loss, evaluator.network, batch)
        if ranks.is_root:
            premises.check_rereading(resident, job.problem.splits[split], device, dtype)
    return accuracies == {True}


def _identity(job: Job, residents: Mapping[str, Resident], plan: Plan, batch_size: int) -> dict[str, str]:
    axes = {"alpha": job.grid.alpha, "beta": job.grid.beta}
    moved = {entry.name for entry in job.layout.entries}
    rest = [
        value.detach().cpu().float().numpy()
        for name, value in job.problem.model.named_buffers()
        if name not in moved
    ]
    return {
        "grid": ", ".join(
            f"{name} {axis.min:g}:{axis.max:g}:{axis.num}" for name, axis in axes.items() if axis
        )
        + f" ({identity.fingerprint(*(axis.values for axis in axes.values() if axis))})",
        "center": identity.fingerprint(job.center.numpy()),
        "buffers": identity.fingerprint(*rest),
        **{
            f"direction_{name}": identity.fingerprint(vector.numpy())
            for name, vector in job.directions.items()
        },
        **{
            f"data_{split}": f"{resident.num_examples} examples, {resident.digest[:16]}"
            for split, resident in residents.items()
        },
        "precision": job.compute.precision,
        "plan": f"batches of {batch_size}, tiles of {plan.points_per_tile} points, shards {dict(plan.shards)}",
        **job.texts,
    }


def _describe_ranks(ranks: Ranks, device: torch.device, threads: int) -> str:
    names = ranks.gather((ranks.host, device_name(device), threads))
    hosts = len({host for host, _, _ in names})
    spread = sorted({threads for _, _, threads in names})
    each = f"{spread[0]}" if len(spread) == 1 else f"{spread[0]} to {spread[-1]}"
    return (
        f"ranks       {ranks.size} on {hosts} host{'s' if hosts > 1 else ''}: {distinct([name for _, name, _ in names])}; "
        f"{each} thread{'s' if spread[-1] > 1 else ''} each"
    )


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"about {seconds:.3g} s"
    return f"about {seconds / 60:.3g} min" if seconds < 7200 else f"about {seconds / 3600:.3g} h"
