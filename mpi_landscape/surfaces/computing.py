"""From a request to a finished file, or to the plan alone. Collective."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from mpi_landscape.evaluation.calling import is_out_of_memory
from mpi_landscape.evaluation.precision import precision_of
from mpi_landscape.geometry.kept import KeptPlane
from mpi_landscape.geometry.plane import Plane
from mpi_landscape.parallel.ranks import Ranks
from mpi_landscape.parallel.stopping import Stopping
from mpi_landscape.placement.memory import out_of_memory
from mpi_landscape.placement.placing import placed
from mpi_landscape.plan import cost
from mpi_landscape.surfaces import sampling
from mpi_landscape.surfaces.account import Exact
from mpi_landscape.surfaces.certificate import check_unchanged
from mpi_landscape.surfaces.contents import SurfaceFile, contents_of
from mpi_landscape.surfaces.curvature import check_plane
from mpi_landscape.surfaces.description import describe_cost, describe_plan
from mpi_landscape.surfaces.losses import Losses, prepare_losses
from mpi_landscape.surfaces.plane import plane_of
from mpi_landscape.surfaces.ranges import with_found_ranges
from mpi_landscape.surfaces.refinement import Refinement
from mpi_landscape.surfaces.request import Request
from mpi_landscape.work.job import Job
from mpi_landscape.work.running import Ending, complete


def compute(
    request: Request,
    ranks: Ranks,
    path: Path | None,
    *,
    writer: str,
    overwrite: bool,
    stopping: Stopping,
    attributes: Mapping[str, Any],
) -> Ending:
    """Prepare a surface, say what it will take, and compute it. Collective.

    Args:
        request: What to compute.
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
    before = sampling.read_before(ranks, None if overwrite else path)
    with ExitStack() as resources:
        with stopping.at_once():
            try:
                prepared, kept = _prepared(request, ranks, path, before, attributes, resources)
            except Exception as error:
                if is_out_of_memory(error):
                    raise out_of_memory(error, "before the first tile", request.compute.batch_size) from error
                raise
        for line in describe_plan(prepared, ranks.size):
            ranks.say(line)
        if kept is None:
            for line in describe_cost(prepared, ranks.size):
                ranks.say(line)
            return Ending()
        if not prepared.plan.samples:  # whose tiles are short
            size = prepared.plan.points_per_tile
            with ranks.together():
                whole = not prepared.placed.quantities.adds_up
                cost.check_time_limit(stopping.limit, prepared.tile_seconds, size, whole=whole)
        ending = complete(_job_of(prepared, kept.path), kept, ranks, writer=writer, stopping=stopping)
        if ending.stopped is None:
            check_unchanged(
                prepared.facts, prepared.setting, prepared.trials, prepared.evaluator, prepared.placed, ranks
            )
        return ending


def _prepared(
    request: Request,
    ranks: Ranks,
    path: Path | None,
    before: sampling.Before | None,
    attributes: Mapping[str, Any],
    resources: ExitStack,
) -> tuple[Losses, SurfaceFile | None]:
    """The losses, and their file; what else was needed on the way is given back here."""
    problem, compute = request.problem, request.compute
    plane = plane_of(request, ranks)
    with ranks.together():
        check_plane(request, plane)
    computed = request.search.names if request.search else ()
    if not request.open_axes:
        _check_range(request, plane, ranks)
    most = sampling.most_per_batch(problem.splits, before, compute.relative_error)
    seat = resources.enter_context(
        placed(problem, ranks, compute, sampling.decisions(before), most_per_batch=most, computed=computed)
    )
    if request.open_axes:
        request = with_found_ranges(request, seat, plane, ranks, None if before is None else path)
        _check_range(request, plane, ranks)
    prepared = resources.enter_context(prepare_losses(request, seat, plane, ranks, before))
    if path is None:
        return prepared, None
    contents = contents_of(prepared, plane, attributes) if ranks.is_root else None
    return prepared, SurfaceFile(path, prepared, contents, before)


def _check_range(request: Request, plane: Plane | KeptPlane, ranks: Ranks) -> None:
    """Refuse a grid in which parameters do not stay within their type, by all ranks."""
    axes = [(axis.min, axis.max) for axis in (request.grid.alpha, request.grid.beta) if axis is not None]
    with ranks.together():
        if isinstance(plane, KeptPlane):
            plane.check_range(axes)
        else:
            # Several lines span no plane.
            for part in plane.lines() if request.grid.seeds else [plane]:
                part.check_range(axes, precision_of(request.compute.precision).data)


def _job_of(prepared: Losses, path: Path) -> Job:
    """The tiles of a surface as a job."""
    plan, grid, quantities = prepared.plan, prepared.grid, prepared.placed.quantities
    target = prepared.request.compute.relative_error

    def account() -> Exact | Refinement:
        if plan.samples:
            return Refinement(grid, plan, quantities, target)
        unfinished = (
            f"{path}: was begun for exact values and cannot be continued with a relative error; finish it without one, "
            f"choose another --output, or --overwrite to replace it"
        )
        return Exact(grid, plan, quantities, unfinished=None if target is None else unfinished)

    return Job(
        num_items=plan.num_tiles,
        row_size=len(quantities.columns) * plan.points_per_tile,
        evaluate=prepared.row,
        account=account,
        seconds=prepared.tile_seconds,
        at_most=bool(plan.samples and target),
        num_points=grid.num_points,
    )
