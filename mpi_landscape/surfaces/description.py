"""A job in lines for people: who computes, what, how, and what it will take."""

from __future__ import annotations

from collections.abc import Sequence

from mpi_landscape.plan.cost import expected_seconds, memory_per_rank, table
from mpi_landscape.storage.surface.schema import size_of_arrays
from mpi_landscape.surfaces import sampling
from mpi_landscape.surfaces.losses import Losses
from mpi_landscape.surfaces.recomputing import words as recomputed_words
from mpi_landscape.surfaces.searching import describe_search
from mpi_landscape.wording import amount, duration, ranges

# Bytes per second that disks write: a shared or a turning one, and one of a node of its own.
_DISK_RATES = (1e8, 1e9)


def describe_plan(losses: Losses, size: int) -> list[str]:
    """The plan and what it will cost, in lines for people.

    Args:
        losses: What is computed.
        size: Number of ranks.
    """
    plan, grid, compute = losses.plan, losses.grid, losses.request.compute
    shape = " x ".join(str(num) for num in grid.shape)
    splits = ", ".join(
        f"{name} ({examples.num_examples} examples)" for name, examples in losses.splits.items()
    )
    batch = max(examples.batch_size for examples in losses.splits.values())
    shards = ", ".join(f"{count} of {split}" for split, count in plan.shards)
    center = ", ".join(
        f"{split} {losses.certificate[f'certificate_{split}_loss']:.6g}" for split in losses.splits
    )
    seconds = expected_seconds(plan, losses.seconds_per_point, size)
    target = compute.relative_error
    most = "at most " if plan.samples and target else ""
    kinds = losses.placed.quantities.kinds
    search = losses.request.search
    further = [] if set(kinds) <= {"loss", "accuracy"} else [f"quantities  {', '.join(kinds)}"]
    return [
        f"network     {losses.num_parameters:,} numbers in {losses.num_tensors} tensors; {compute.precision}",
        f"data        {splits}; batches of {batch}; {losses.placed.held}",
        f"engine      {losses.evaluator.engine.words()}",
        f"center      loss {center}",
        *([f"batch norm  {recomputed_words(losses.placed)}, at every point"] if losses.recomputes else []),
        *further,
        *(describe_search(losses.setting, losses.placed, search) if search else []),
        f"grid        {shape} points{_lines_words(grid.seeds)}, {plan.num_tiles} tiles of up to {plan.points_per_tile} "
        f"points; data shards: {shards}{sampling.describe(plan, target)}",
        f"file        {_file_words(_file_size(losses))}",
        f"expected    {most}{duration(seconds)} on {size} rank{'s' if size > 1 else ''}, "
        f"from {losses.seconds_per_point:.3g} s a point and rank",
    ]


def _lines_words(seeds: Sequence[int]) -> str:
    """Whose directions the lines have, where there are several."""
    return f" of {len(seeds)} lines (seeds {ranges(seeds)})" if seeds else ""


def _file_words(size: int) -> str:
    """The size of the file, and how long a large one keeps everybody waiting: it is written whole before the first tile."""
    if size < 2**30:
        return amount(size)
    slow, fast = (duration(size / rate).removeprefix("about ") for rate in _DISK_RATES)
    return f"{amount(size)}, written before the first tile: {fast} to {slow} on a disk of 1 GB/s to 100 MB/s"


def _file_size(losses: Losses) -> int:
    """Bytes, but for the names and attributes."""
    vectors = 4 * losses.num_parameters * (1 + losses.grid.num_directions) if losses.saves_vectors else 0
    return vectors + size_of_arrays(losses.grid, losses.plan, losses.placed.quantities)


def describe_cost(losses: Losses, size: int) -> list[str]:
    """What a dry run says besides the plan: time, hours and memory, on this number of ranks and on others.

    Args:
        losses: What is computed.
        size: Number of ranks.
    """
    placed, kept = losses.placed, losses.setting.kept
    own = sum(each.nbytes for each in losses.setting.model.parameters())
    return table(
        losses.plan,
        losses.seconds_per_point,
        ranks=size,
        threads=placed.threads,
        on_gpu=placed.on_gpu,
        memory=memory_per_rank(
            losses.num_parameters,
            losses.grid.num_directions,
            data=placed.data_bytes,
            activations=placed.activation_bytes,
            folded=losses.evaluator.engine.writes_vectors,
            kept=None if kept is None else kept.bytes + own,
        ),
    )
