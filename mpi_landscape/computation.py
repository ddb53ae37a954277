"""One surface, from a problem and its directions to a finished file: the rooms at work together.

The order matters: everything that can be refused is refused first, by all ranks together; then the file is created
or resumed; then tiles are evaluated until none is left.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mpi_landscape.errors import LandscapeError
from mpi_landscape.evaluation import premises
from mpi_landscape.evaluation.evaluator import Evaluator, add_in_order
from mpi_landscape.evaluation.resident import Resident, make_resident
from mpi_landscape.geometry.directions import cosine
from mpi_landscape.geometry.grid import Grid
from mpi_landscape.geometry.layout import Layout
from mpi_landscape.geometry.normalization import norm_ratios
from mpi_landscape.geometry.tiles import Plan, choose_points_per_tile, choose_shards, shard_bounds
from mpi_landscape.parallel import coordinator
from mpi_landscape.parallel.broadcast import sum_over_ranks
from mpi_landscape.parallel.devices import choose_device, device_name, distinct, shared_device_warning, thread_share
from mpi_landscape.parallel.ranks import Ranks
from mpi_landscape.parallel.stopping import Stopping
from mpi_landscape.problem.build import Problem
from mpi_landscape.problem.sections.work import ComputeConfiguration
from mpi_landscape.program import say
from mpi_landscape.progress import Progress
from mpi_landscape.storage import cells, identity, schema
from mpi_landscape.storage.provenance import provenance
from mpi_landscape.storage.reader import read_attributes
from mpi_landscape.storage.writer import choose_writer

DTYPES = {"float32": torch.float32, "float64": torch.float64}
# Part of the plan and so of the bits. On a CPU the activations of a small batch stay in the cache (16 to 64 images were
# the fastest for every network measured); a GPU needs more to be busy.
BATCH_SIZE = {"cpu": 64, "cuda": 512}


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
        check_labels: Refuses labels that the loss cannot take, given (split, outputs, batch); before any loss.
    """

    problem: Problem
    layout: Layout
    center: Tensor
    directions: Mapping[str, Tensor]
    grid: Grid
    compute: ComputeConfiguration
    texts: Mapping[str, str]
    check_labels: Callable[[str, Any, Any], None] = lambda split, outputs, batch: None


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


def prepare(job: Job, ranks: Ranks) -> Prepared:
    """Put network and data on the device, check the premises, and measure the center. Collective.

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
    batch_size = BATCH_SIZE[device.type] if job.compute.batch_size == "auto" else job.compute.batch_size
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
    plan = _plan(job, residents)
    certificate, seconds = _certificate(job, ranks, evaluator, residents, device, dtype)
    return Prepared(
        job=job,
        evaluator=evaluator,
        residents=residents,
        plan=plan,
        accuracy=accuracy,
        identity=_identity(job, residents, plan, batch_size),
        certificate=certificate,
        facts={"device": device_name(device), "ranks": str(ranks.size), "threads_per_rank": str(threads)},
        seconds_per_point=seconds,
    )


def compute(
    prepared: Prepared, ranks: Ranks, path: Path, *, writer: str, overwrite: bool, stopping: Stopping, attributes: Mapping[str, Any]
) -> str | None:
    """Create or resume the file and evaluate what is left of it. Collective.

    Args:
        prepared: The job.
        ranks: Who computes.
        path: The file; the caller holds its lock on rank 0.
        writer: `auto`, `parallel` or `root`.
        overwrite: Whether a file of another run may be replaced.
        stopping: Asked between batches.
        attributes: More for the file to say of itself.

    Returns:
        None when the surface is complete, otherwise why it stopped.

    Raises:
        AgreedError: The file belongs to another run, or cannot be written.
    """
    kind, reason = ranks.together(lambda: choose_writer(writer, ranks.size))
    ranks.on_root(lambda: _ensure_file(prepared, path, overwrite, attributes))
    plan, grid = prepared.plan, prepared.job.grid
    open_here = kind == "parallel" or ranks.is_root
    store = ranks.together(lambda: cells.open_cells(path, ranks.comm if kind == "parallel" else None) if open_here else None)
    with store if store is not None else nullcontext():
        totals = cells.Totals(plan)
        if ranks.is_root and store is not None:
            _restore(plan, store, totals)
        num_left = ranks.share(totals.num_left)
        done = plan.num_tiles - num_left
        before = f", {done} of them done before" if done else ""
        say(ranks, f"{path}: {plan.num_tiles} tiles{before}; {kind} writer ({reason})")
        if num_left == 0:
            return None
        progress = Progress(
            plan.num_tiles, initial=done, points_per_unit=grid.num_points / plan.num_tiles, shown=ranks.is_root
        )

        def evaluate(index: int, between: Callable[[], None]) -> NDArray[np.float64]:
            tile = plan.tile(index)
            resident = prepared.residents[tile.split]
            first, stop = shard_bounds(len(resident.batches), dict(plan.shards)[tile.split], tile.shard)
            alpha, beta = grid.coordinates(grid.points(np.arange(tile.start, tile.stop)))
            points = list(zip(alpha.tolist(), beta.tolist(), strict=True))
            return prepared.evaluator.tile(resident.batches[first:stop], points, between)

        def keep(index: int, sums: NDArray[np.float64]) -> None:
            if kind == "parallel" and store is not None:
                store.write_tile(plan.tile(index), sums)

        def record(index: int, sums: NDArray[np.float64]) -> None:
            assert store is not None  # noqa: S101 - rank 0 always has it
            tile = plan.tile(index)
            sums = sums.reshape(tile.num_points, 3)
            if kind == "root":
                store.write_tile(tile, sums)
            whole = totals.add(tile, sums)
            if whole is not None:
                store.write_points(tile, whole)
            progress.advance()

        with progress:
            return coordinator.run(
                ranks,
                tiles=totals.left(),
                num_tiles=num_left,
                sums_size=3 * plan.points_per_tile,
                evaluate=evaluate,
                keep=keep,
                record=record,
                stopping=stopping,
            )


def describe_plan(prepared: Prepared, size: int) -> list[str]:
    """The plan and what it will cost, in lines for people.

    Args:
        prepared: The job.
        size: Number of ranks.
    """
    job, plan = prepared.job, prepared.plan
    shape = " x ".join(str(num) for num in job.grid.shape)
    splits = ", ".join(f"{name} ({resident.num_examples} examples)" for name, resident in prepared.residents.items())
    batch = max(resident.batch_size for resident in prepared.residents.values())
    shards = ", ".join(f"{count} of {split}" for split, count in plan.shards)
    losses = ", ".join(
        f"{split} {prepared.certificate[f'certificate_{split}_loss']:.6g}" for split in prepared.residents
    )
    seconds = prepared.seconds_per_point * job.grid.num_points / size
    return [
        f"network     {job.layout.size:,} numbers in {len(job.layout.entries)} tensors; {job.compute.precision}",
        f"data        {splits}; batches of {batch}",
        f"center      loss {losses}",
        f"grid        {shape} points, {plan.num_tiles} tiles of up to {plan.points_per_tile} points; data shards: {shards}",
        f"expected    {_duration(seconds)} on {size} rank{'s' if size > 1 else ''}, from {prepared.seconds_per_point:.3g} s a point and rank",
    ]


def _plan(job: Job, residents: Mapping[str, Resident]) -> Plan:
    num_points = job.grid.num_points
    shards = tuple(
        (split, min(len(resident.batches), _or(job.compute.data_shards, choose_shards(num_points, len(resident.batches)))))
        for split, resident in residents.items()
    )
    most = max(residents[split].num_examples // count for split, count in shards)
    return Plan(
        num_points=num_points,
        points_per_tile=min(num_points, _or(job.compute.points_per_tile, choose_points_per_tile(num_points, most))),
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
    job: Job, ranks: Ranks, evaluator: Evaluator, residents: Mapping[str, Resident], device: torch.device, dtype: torch.dtype
) -> bool:
    """Every rank tries one batch; rank 0 alone looks at the data again. Returns whether there is an accuracy."""
    evaluator.move()
    accuracies = set()
    for split, resident in residents.items():
        batch = resident.batches[0]
        if ranks.is_root:
            for each in resident.batches:
                job.check_labels(split, evaluator.network, each.data)
        result = premises.call_loss(job.problem.loss, evaluator.network, batch)
        accuracies.add(premises.check_loss(result, resident.batch_size))
        premises.check_repeatable(job.problem.loss, evaluator.network, batch)
        if ranks.is_root:
            premises.check_rereading(resident, job.problem.splits[split], device, dtype)
    return accuracies == {True}


def _certificate(
    job: Job, ranks: Ranks, evaluator: Evaluator, residents: Mapping[str, Resident], device: torch.device, dtype: torch.dtype
) -> tuple[dict[str, float], float]:
    """What shows that the numbers are right: the center by the engine and by the plain network, norms, cosine.

    Each rank takes its share of the batches. Also returns the seconds that one rank needs for a point.
    """
    facts: dict[str, float] = {}
    seconds = 0.0
    for split, resident in residents.items():
        first, stop = shard_bounds(len(resident.batches), ranks.size, ranks.rank)
        share = resident.batches[first:stop]
        start = time.perf_counter()
        engine = ranks.together(lambda share=share: evaluator.batch_sums(share) if share else np.zeros((0, 3)))  # type: ignore[misc]
        seconds += time.perf_counter() - start
        plain = premises.plain_sums(job.problem.model, job.problem.loss, share, device=device, dtype=dtype)
        rows = np.zeros((2, len(resident.batches), 3))
        rows[0, first:stop], rows[1, first:stop] = engine, plain
        whole = sum_over_ranks(ranks, rows)
        means = [add_in_order(part)[0] / resident.num_examples for part in whole]
        ranks.together(lambda split=split, means=means: premises.check_plain(split, *means))  # type: ignore[misc]
        facts[f"certificate_{split}_loss"] = float(means[0])
        facts[f"certificate_{split}_loss_plain"] = float(means[1])
        if not np.isfinite(means[0]):
            say(ranks, f"warning: the {split} loss at the center is {means[0]}; the surface around it may mean little")
    vectors = list(job.directions.values())
    for name, vector in job.directions.items():
        ratios = norm_ratios(vector, job.center, job.layout)
        moved = ratios[np.isfinite(ratios) & (ratios > 0)]
        facts[f"certificate_{name}_norm_ratio_min"] = float(moved.min()) if moved.size else np.nan
        facts[f"certificate_{name}_norm_ratio_max"] = float(moved.max()) if moved.size else np.nan
    if len(vectors) == 2:
        facts["certificate_cosine"] = cosine(*vectors)
    # One pass was shared by all ranks, so a whole point takes one rank as long as all shares together.
    return facts, float(sum(ranks.gather(seconds)))


def _identity(job: Job, residents: Mapping[str, Resident], plan: Plan, batch_size: int) -> dict[str, str]:
    axes = {"alpha": job.grid.alpha, "beta": job.grid.beta}
    moved = {entry.name for entry in job.layout.entries}
    rest = [
        value.detach().cpu().float().numpy() for name, value in job.problem.model.named_buffers() if name not in moved
    ]
    return {
        "grid": ", ".join(f"{name} {axis.min:g}:{axis.max:g}:{axis.num}" for name, axis in axes.items() if axis)
        + f" ({identity.fingerprint(*(axis.values for axis in axes.values() if axis))})",
        "center": identity.fingerprint(job.center.numpy()),
        "buffers": identity.fingerprint(*rest),
        **{f"direction_{name}": identity.fingerprint(vector.numpy()) for name, vector in job.directions.items()},
        **{
            f"data_{split}": f"{resident.num_examples} examples, {resident.digest[:16]}"
            for split, resident in residents.items()
        },
        "precision": job.compute.precision,
        "plan": f"batches of {batch_size}, tiles of {plan.points_per_tile} points, shards {dict(plan.shards)}",
        **job.texts,
    }


def _ensure_file(prepared: Prepared, path: Path, overwrite: bool, attributes: Mapping[str, Any]) -> None:
    """Leave a file of this very run at `path`: the one that is there, or a new one."""
    job = prepared.job
    if path.exists() and not overwrite:
        stored = read_attributes(path)
        identity.check_same(path, stored, prepared.identity)
        _check_center(path, stored, prepared.certificate)
        return
    schema.create(
        path,
        schema.Contents(
            grid=job.grid,
            plan=prepared.plan,
            accuracy=prepared.accuracy,
            center=job.center.numpy(),
            directions={name: vector.numpy() for name, vector in job.directions.items()},
            layout=[
                {"name": entry.name, "shape": entry.shape, "offset": entry.offset, "kind": entry.kind}
                for entry in job.layout.entries
            ],
            attributes={
                **attributes,
                **identity.as_attributes(prepared.identity),
                **prepared.certificate,
                **prepared.facts,
                **provenance(),
            },
        ),
    )


def _check_center(path: Path, stored: Mapping[str, Any], now: Mapping[str, float]) -> None:
    """The same parameters and data must give the same loss: otherwise the network's code or the loss has changed.

    Raises:
        LandscapeError: They do not.
    """
    for name, value in now.items():
        before = float(stored.get(name, np.nan))
        if name.endswith("_loss") and np.isfinite([before, value]).all() and abs(before - value) > 1e-4 * abs(before):
            raise LandscapeError(
                f"{path}: belongs to another run: its {name.split('_')[1]} loss at the center is {before:.9g}, now it is "
                f"{value:.9g}, so the network's code or the loss has changed; choose another --output, or --overwrite"
            )


def _restore(plan: Plan, store: cells.Cells, totals: cells.Totals) -> None:
    """Take over what a file holds: every tile whose checksum fits, and the points that these complete."""
    for index in store.marked():
        tile = plan.tile(int(index))
        sums = store.read_tile(tile)
        whole = None if sums is None else totals.add(tile, sums)
        if whole is not None:
            # The last kill may have come between a tile and its points.
            store.write_points(tile, whole)


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
