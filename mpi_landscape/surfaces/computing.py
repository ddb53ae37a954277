"""From a prepared job to a finished file: create or resume it, then evaluate what is left. Collective."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpi_landscape.errors import LandscapeError
from mpi_landscape.parallel import coordinator
from mpi_landscape.parallel.ranks import Ranks
from mpi_landscape.parallel.shared_memory import Node
from mpi_landscape.parallel.stopping import Stopping
from mpi_landscape.plan import cost
from mpi_landscape.plan.tiles import Plan, Tile
from mpi_landscape.storage import cells, identity
from mpi_landscape.storage.provenance import provenance
from mpi_landscape.storage.surface import schema
from mpi_landscape.storage.surface.reader import check_constants, read_attributes
from mpi_landscape.storage.writer import choose_writer
from mpi_landscape.surfaces.account import Account, Exact, Refinement, Values
from mpi_landscape.surfaces.description import describe_cost, describe_plan
from mpi_landscape.surfaces.engine import is_out_of_memory, out_of_memory
from mpi_landscape.surfaces.losses import Job, Prepared, prepare
from mpi_landscape.work.progress import Progress


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How a computation ended.

    Attributes:
        stopped: Why it stopped before its end; None at its end.
        summary: What the file holds then, in words; only on rank 0.
    """

    stopped: str | None
    summary: str = ""


def compute(
    job: Job,
    ranks: Ranks,
    path: Path | None,
    *,
    writer: str,
    overwrite: bool,
    stopping: Stopping,
    attributes: Mapping[str, Any],
) -> Ending:
    """Prepare a job, say what it will take, and do it. Collective.

    Args:
        job: What to compute.
        ranks: Who computes.
        path: The surface file, whose lock the caller holds on rank 0; None to say the plan only.
        writer: `auto`, `parallel` or `root`.
        overwrite: Whether a file of another run may be replaced.
        stopping: Asked between batches.
        attributes: More for the file to say of itself.

    Returns:
        Why it stopped, if it did, and what the file holds now.

    Raises:
        AgreedError: A premise does not hold, the file belongs to another run, or it cannot be written, or the time limit
            is shorter than a tile.
    """
    stored = ranks.share(ranks.on_root(lambda: _stored(path, overwrite)))
    with Node(ranks) as node:
        with stopping.at_once():
            prepared = prepare(job, ranks, node, stored, None if overwrite else path)
        with prepared.evaluator:
            for line in describe_plan(prepared, ranks.size):
                ranks.say(line)
            if path is None:
                for line in describe_cost(prepared, ranks.size):
                    ranks.say(line)
                return Ending(stopped=None)
            if not prepared.plan.samples:  # whose tiles are short
                size = prepared.plan.points_per_tile
                with ranks.together():
                    cost.check_time_limit(stopping.limit, prepared.tile_seconds, size)
            return _complete(prepared, ranks, path, writer, overwrite, stopping, attributes)


def _stored(path: Path | None, overwrite: bool) -> dict[str, Any] | None:
    """The attributes of a file that may be continued; whether it is of this run shows later."""
    return dict(read_attributes(path)) if path is not None and path.exists() and not overwrite else None


def _complete(
    prepared: Prepared,
    ranks: Ranks,
    path: Path,
    writer: str,
    overwrite: bool,
    stopping: Stopping,
    attributes: Mapping[str, Any],
) -> Ending:
    """Create or resume the file and evaluate what is left of it."""
    with ranks.together():
        kind, reason = choose_writer(writer, ranks.size)
    ranks.on_root(lambda: _ensure_file(prepared, path, overwrite, attributes))
    # A folded evaluator has directions of its own; in the file these are for the readers.
    prepared.job.directions.clear()
    plan, target = prepared.plan, prepared.job.compute.relative_error
    account = _account(prepared) if ranks.is_root else None
    unpublished = ranks.on_root(lambda: _take_over(plan, path, account, target)) or []
    num_left, num_done = ranks.share((account.num_left, account.num_done) if account else (0, 0))
    complete = num_left == 0 and not ranks.share(bool(unpublished))
    if not complete:
        before = f", {num_done} of them done before" if num_done else ""
        ranks.say(f"{path}: {plan.num_tiles} tiles{before}; {kind} writer ({reason})")
    if complete and ranks.share(not plan.samples or _target(path) == (target or 0.0)):
        # Not even opened for writing: a finished file stays as it is.
        return Ending(stopped=None, summary=account.summary if account else "")
    comm = ranks.comm if kind == "parallel" else None
    open_here = kind == "parallel" or ranks.is_root
    # Opening and closing a file together cannot be left from within.
    in_time = ranks.watch.in_time if ranks.watch is not None and kind == "parallel" else nullcontext
    with in_time(), ranks.together():
        store = cells.open_cells(path, comm) if open_here else None
    with ExitStack() as closing_file, store if store is not None else nullcontext():
        if store is not None and ranks.is_root and plan.samples:
            store.write_target(target or 0.0)
        for tile, values in unpublished:
            assert store is not None  # rank 0 always has it
            store.write_values(tile, values)
        stopped = _evaluate(prepared, ranks, store, kind == "parallel", account, num_left, stopping)
        closing_file.enter_context(in_time())
    if account is None:
        return Ending(stopped=stopped)
    left = f"with {account.num_left:,} of {plan.num_tiles:,} tiles left"
    return Ending(stopped=stopped, summary=account.summary if stopped is None else left)


def _evaluate(
    prepared: Prepared,
    ranks: Ranks,
    store: cells.Cells | None,
    everyone_writes: bool,
    account: Account | None,
    num_left: int,
    stopping: Stopping,
) -> str | None:
    """Evaluate what is left, each tile kept by the rank that evaluated it or by rank 0."""
    plan, grid = prepared.plan, prepared.job.grid

    def evaluate(index: int, between: Callable[[], None]) -> NDArray[np.float64]:
        tile = plan.tile(index)
        examples = prepared.residents[tile.split]
        first, stop = plan.batches(tile, examples.num_batches, examples.batch_size)
        alpha, beta = grid.coordinates(grid.points(np.arange(tile.start, tile.stop)))
        points = list(zip(alpha.tolist(), beta.tolist(), strict=True))
        try:
            with (
                prepared.precision.computing(),
                closing(examples.pieces(first, stop, between)) as pieces,
            ):
                return prepared.evaluator.tile(pieces, points, between)
        except Exception as error:
            if is_out_of_memory(error):
                raise out_of_memory(error, f"tile {index}", examples.batch_size) from error
            raise

    def keep(index: int, sums: NDArray[np.float64]) -> None:
        if everyone_writes:
            assert store is not None
            store.write_tile(plan.tile(index), sums)

    def record(index: int, sums: NDArray[np.float64]) -> None:
        assert store is not None
        assert account is not None
        tile = plan.tile(index)
        sums = sums.reshape(tile.num_points, len(schema.SUMS))
        if not everyone_writes:
            store.write_tile(tile, sums)
        values = account.add(tile, sums)
        if values is not None:
            store.write_values(tile, values)
        progress.advance()

    with Progress(
        plan.num_tiles,
        initial=plan.num_tiles - num_left,
        points_per_unit=grid.num_points / plan.num_tiles,
        units="tiles at most" if plan.samples and prepared.job.compute.relative_error else "tiles",
        shown=ranks.is_root,
    ) as progress:
        return coordinator.run(
            ranks,
            tiles=iter(account or ()),
            num_tiles=num_left,
            sums_size=len(schema.SUMS) * plan.points_per_tile,
            evaluate=evaluate,
            keep=keep,
            record=record,
            stopping=stopping,
            tile_seconds=prepared.tile_seconds,
        )


def _ensure_file(prepared: Prepared, path: Path, overwrite: bool, attributes: Mapping[str, Any]) -> None:
    """Leave a file of this very run at `path`: the one that is there, or a new one."""
    job = prepared.job
    if path.exists() and not overwrite:
        stored = read_attributes(path)
        identity.check_same(path, stored, prepared.identity)
        check_constants(path, job.grid, prepared.plan)
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
            orders=prepared.orders,
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
        if (
            name.endswith("_loss")
            and np.isfinite([before, value]).all()
            and abs(before - value) > 1e-4 * abs(before)
        ):
            raise LandscapeError(
                f"{path}: belongs to another run: its {name.split('_')[1]} loss at the center is {before:.9g}, now it is "
                f"{value:.9g}, so the network's code or the loss has changed; choose another --output, or --overwrite"
            )


def _account(prepared: Prepared) -> Account:
    if prepared.plan.samples:
        target = prepared.job.compute.relative_error
        return Refinement(prepared.plan, target, accuracy=prepared.accuracy)
    return Exact(prepared.plan, accuracy=prepared.accuracy)


def _take_over(
    plan: Plan, path: Path, account: Account | None, target: float | None
) -> list[tuple[Tile, Values]]:
    """Note every tile of a file whose checksum fits.

    Returns:
        Tiles whose points have values, with these, where the file does not show them yet: a kill may have come
        between a tile and its points.

    Raises:
        LandscapeError: An estimate is asked for, and the file is unfinished and its plan one for exact values.
    """
    assert account is not None
    with cells.open_cells(path, mode="r") as store:
        for index in store.marked():
            tile = plan.tile(int(index))
            sums = store.read_tile(tile)
            if sums is not None:
                account.take_over(tile, sums)
        unpublished = [
            (tile, values) for tile, values in account.begin() if not store.holds_values(tile, values)
        ]
    if target is not None and not plan.samples and account.num_left:
        raise LandscapeError(
            f"{path}: was begun for exact values and cannot be continued with a relative error; finish it without one, "
            f"choose another --output, or --overwrite to replace it"
        )
    return unpublished


def _target(path: Path) -> float:
    with cells.open_cells(path, mode="r") as store:
        return store.target
