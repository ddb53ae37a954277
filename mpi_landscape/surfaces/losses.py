"""Everything before the first tile: network and data on the device, premises checked, the plan made. Collective.

Whatever can be refused is refused here, by all ranks together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mpi_landscape.configuration.sections.work import ComputeConfiguration
from mpi_landscape.evaluation import premises
from mpi_landscape.evaluation.engine.description import Engine
from mpi_landscape.evaluation.evaluator import Evaluator
from mpi_landscape.evaluation.precision import Precision, precision_of
from mpi_landscape.evaluation.probe import Setting
from mpi_landscape.evaluation.replica import own_copy
from mpi_landscape.geometry.layout import Layout
from mpi_landscape.loading.resident import Examples
from mpi_landscape.parallel.devices import (
    choose_device,
    device_name,
    free_memory,
    shared_device_warning,
    thread_share,
)
from mpi_landscape.parallel.ranks import Ranks
from mpi_landscape.parallel.shared_memory import Node
from mpi_landscape.placement.data import hold
from mpi_landscape.plan import cost
from mpi_landscape.plan.grid import Grid
from mpi_landscape.plan.tiles import Plan
from mpi_landscape.problem.build import Problem
from mpi_landscape.storage import identity
from mpi_landscape.surfaces import engine as calibration
from mpi_landscape.surfaces import sampling
from mpi_landscape.surfaces.certificate import certify, certify_directions
from mpi_landscape.surfaces.description import describe_ranks
from mpi_landscape.surfaces.planning import cut_data, make_plan, points_at_once


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is to be computed, the same on every rank.

    Attributes:
        problem: Network at the center, loss, data.
        layout: The order of the flat vectors.
        center: (n,) float32.
        directions: `alpha`, and `beta` for a surface: (n,) float32 each; emptied once the file holds them.
        grid: The points.
        compute: Precision, device, batch and tile sizes.
        texts: Identity of what the vectors and the data do not show: the loss, the directions' recipe.
        check_labels: Refuses labels that the loss cannot take, given (network, split); before any loss.
    """

    problem: Problem
    layout: Layout
    center: Tensor
    directions: dict[str, Tensor]
    grid: Grid
    compute: ComputeConfiguration
    texts: Mapping[str, str]
    check_labels: Callable[[nn.Module, Examples], None]


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A job whose premises hold: evaluator and data on the device, the plan, and what the file says of it."""

    job: Job
    precision: Precision
    evaluator: Evaluator
    residents: Mapping[str, Examples]
    plan: Plan
    accuracy: bool
    identity: Mapping[str, str]
    certificate: Mapping[str, float]
    facts: Mapping[str, Any]
    seconds_per_point: float
    held: str
    activation_bytes: int
    data_bytes: int
    on_gpu: bool
    orders: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)

    @property
    def tile_seconds(self) -> float:
        """What the longest tile is expected to take."""
        # The cost of a split goes with its batches.
        batches = [self.residents[split].num_batches for split, _ in self.plan.shards]
        shares = [count / sum(batches) for count in batches]
        return cost.longest_tile(self.plan, self.seconds_per_point, shares)


def prepare(
    job: Job, ranks: Ranks, node: Node, stored: Mapping[str, Any] | None = None, path: Path | None = None
) -> Prepared:
    """Put network and data on the device, check the premises, choose the engine, and measure the center. Collective.

    Args:
        job: What to compute.
        ranks: Who computes.
        node: The ranks of this node, which hold the data together.
        stored: The attributes of the file that may be continued: what was chosen then is kept.
        path: That file; None for a new one.

    Raises:
        AgreedError: A premise does not hold.
    """
    precision = precision_of(job.compute.precision)
    with ranks.together():
        device = choose_device(job.compute.device, ranks)
    with ranks.together():
        precision.check(device)
    dtype = precision.data
    threads = thread_share(ranks, job.compute.threads)
    warning = shared_device_warning(device, ranks)
    ranks.say(describe_ranks(ranks, device, threads))
    if warning:
        ranks.say(f"warning: {warning}")
    sampled, before = sampling.wanted(ranks, path, job.compute.relative_error)
    free = free_memory(device, ranks)
    compute = _as_stored(job.compute, stored)
    found = ranks.on_root(
        lambda: calibration.choose_batch(job.problem, compute, device, dtype, free, sampled=sampled)
    )
    batch_size, activation_bytes = ranks.share(found) or (1, 0)
    residents, held, data_bytes = hold(
        job.problem.splits,
        ranks,
        node,
        request=job.compute.data,
        batch_size=batch_size,
        device=device,
        dtype=dtype,
        readers=threads,
    )
    with ranks.together():
        accuracy = _check_premises(job, ranks, residents, device, dtype)
    setting = Setting(
        model=job.problem.model,
        loss=job.problem.loss,
        layout=job.layout,
        center=job.center,
        directions=list(job.directions.values()),
        device=device,
    )
    engine = calibration.agree_engine(setting, job.compute, job.grid, residents, ranks, stored, dtype=dtype)
    shards = cut_data(job.grid.num_points, job.compute, residents, stored)
    # An eighth of what is free may go into further points.
    spare = threads if free is None else free // (32 * job.layout.size)
    # Rank 0's number for all: it is in the plan.
    at_once = (
        1
        if sampled or device.type == "cuda"
        else ranks.share(points_at_once(threads, shards, residents, spare))
    )
    with ranks.together():
        evaluator = Evaluator(
            setting.model,
            setting.loss,
            setting.layout,
            setting.center,
            setting.directions,
            device=device,
            dtype=precision.computed,
            threads=threads,
            engine=engine,
            points_at_once=at_once,
        )
    first = next(iter(residents.values()))
    errors: dict[str, float] = {}
    if precision.approximate:
        # Before the whole center is measured: a network that cannot be computed so shows itself here.
        errors = calibration.measure_error(setting, evaluator, precision, job.grid, first, ranks)
    certificate, seconds = certify(job.problem, ranks, evaluator, residents, device, dtype, precision)
    # The center alone kept the threads of one place busy.
    seconds /= at_once
    plan = make_plan(job.grid, job.compute, shards, residents, engine, at_once, seconds, stored)
    certificate |= certify_directions(job.layout, job.center, job.directions)
    chosen = None
    if sampled and (before is None or sampling.fits(before, residents)):
        chosen = before or sampling.draw(job, ranks, evaluator, residents)
        with ranks.together():
            plan = sampling.sampled_plan(job, chosen, list(residents))
        residents = {split: each.reordered(chosen.orders[split]) for split, each in residents.items()}
    return Prepared(
        job=job,
        precision=precision,
        evaluator=evaluator,
        residents=residents,
        plan=plan,
        accuracy=accuracy,
        identity=_identity(job, residents, plan, batch_size, engine)
        | ({"samples": chosen.text} if chosen else {}),
        certificate=certificate,
        facts={
            "device": device_name(device),
            "ranks": str(ranks.size),
            "threads_per_rank": str(threads),
            "batch_size": batch_size,
            "engine": engine.text(),
            **errors,
        },
        seconds_per_point=seconds,
        held=held,
        activation_bytes=activation_bytes * (threads if device.type == "cpu" else 1),
        data_bytes=data_bytes,
        on_gpu=device.type == "cuda",
        orders=chosen.orders if chosen else {},
    )


def _as_stored(compute: ComputeConfiguration, stored: Mapping[str, Any] | None) -> ComputeConfiguration:
    """What was asked for, with the batch size of the file that may be continued: it is part of the bits."""
    size = int((stored or {}).get("batch_size", 0))
    return replace(compute, batch_size=size) if size > 0 and compute.batch_size == "auto" else compute


def _check_premises(
    job: Job,
    ranks: Ranks,
    residents: Mapping[str, Examples],
    device: torch.device,
    dtype: torch.dtype,
) -> bool:
    """Every rank tries one batch; rank 0 alone looks at the data again. Returns whether there is an accuracy."""
    network = own_copy(job.problem.model).to(device, dtype).eval()
    accuracies = set()
    for split, resident in residents.items():
        with closing(resident.pieces(0, 1)) as pieces:
            batch = next(pieces)[0]
        if ranks.is_root:
            job.check_labels(network, resident)
        result = premises.call_loss(job.problem.loss, network, batch)
        accuracies.add(premises.check_loss(result, resident.batch_size).accuracy)
        premises.check_repeatable(job.problem.loss, network, batch)
        if ranks.is_root:
            premises.check_rereading(resident, job.problem.splits[split], device, dtype)
    return accuracies == {True}


def _identity(
    job: Job, residents: Mapping[str, Examples], plan: Plan, batch_size: int, engine: Engine
) -> dict[str, str]:
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
        **{f"data_{split}": resident.identity for split, resident in residents.items()},
        "precision": job.compute.precision,
        "engine": engine.label(),
        "plan": f"batches of {batch_size}, tiles of {plan.points_per_tile} points, shards {dict(plan.shards)}",
        **job.texts,
    }
