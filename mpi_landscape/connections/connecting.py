"""From two solutions to the losses along a path between them. Collective."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from mpi_landscape.connections import folder as files
from mpi_landscape.connections.alignment import AlignedEnd, aligned_end
from mpi_landscape.connections.batches import Batches
from mpi_landscape.connections.contents import contents_of, plane_command
from mpi_landscape.connections.curve import Curve, line
from mpi_landscape.connections.finding import Kept, find, read_before
from mpi_landscape.connections.identity import of_losses, of_path
from mpi_landscape.connections.losses import (
    Along,
    chosen_batch_norm,
    has_statistics,
    job_along,
    pivots_job,
    places_of,
)
from mpi_landscape.connections.passes import Passes
from mpi_landscape.connections.premises import batches_of, check_called, say_plan
from mpi_landscape.connections.request import Request
from mpi_landscape.connections.searching.made import search_of
from mpi_landscape.connections.space import Space, space_of, state_of
from mpi_landscape.parallel.ranks import Ranks
from mpi_landscape.parallel.stopping import Stopping
from mpi_landscape.placement.anywhere import anywhere
from mpi_landscape.placement.placing import Placed, placed
from mpi_landscape.plan.decisions import Decisions
from mpi_landscape.storage.connection.barriers import BARRIER, write_barriers
from mpi_landscape.storage.connection.reader import read_connection
from mpi_landscape.storage.connection.schema import KIND, LINE, WHAT
from mpi_landscape.storage.item_file import open_item_file, read_item_attributes
from mpi_landscape.work.item_file import ItemFile
from mpi_landscape.work.running import complete


@dataclass(frozen=True, kw_only=True)
class Found:
    """What became of a connection.

    Attributes:
        stopped: Why it stopped before its end; None at its end.
        barriers: At its end, by name, see `storage.connection.barriers`.
        plane: The command that computes the surface through the path; "" where there is none.
    """

    stopped: str | None = None
    barriers: Mapping[str, float] = field(default_factory=dict)
    plane: str = ""

    def lines(self, path: Path) -> list[str]:
        """The same for people."""
        found = [
            f"barrier     {name.removeprefix(BARRIER)} {value:.6g}; along the straight line {self.barriers[LINE + name]:.6g}"
            for name, value in self.barriers.items()
            if not name.startswith(LINE)
        ]
        plane = [f"plane       {self.plane}"] if self.plane else []
        return [*found, *plane, f"{path}: complete"]


def connect(
    request: Request,
    ranks: Ranks,
    path: Path | None,
    *,
    writer: str,
    overwrite: bool,
    stopping: Stopping,
    attributes: Mapping[str, Any],
    command_of: str | None = None,
) -> Found:
    """Find a path, and compute the losses along it and along the straight line. Collective.

    Args:
        request: What to connect, and how.
        ranks: Who computes.
        path: The file, whose lock the caller holds on rank 0; None to say the plan only.
        writer: `auto`, `parallel` or `root`.
        overwrite: Whether what another run has left may be replaced.
        stopping: Asked between rounds and batches.
        attributes: More for the file to say of itself.
        command_of: The configuration's file, for the command of the plane through the path; None without.

    Raises:
        AgreedError: A premise does not hold, a loss on the path is not finite, or files belong to another run.
    """
    begun = ranks.share(ranks.on_root(lambda: _decided(path, overwrite=overwrite)))
    with placed(request.problem, ranks, request.compute, Decisions(batch_size=begun)) as seat:
        end = _end(request, seat, ranks)
        with ranks.together():
            where = f"{request.where}: connect"
            space = space_of(seat.problem.model, state_of(seat.problem.model), end.state, where=where)
            batch_norm = chosen_batch_norm(request.compute.batch_norm, seat)
        defined_by = of_path(request, seat)
        of_file = of_losses(defined_by, request.settings, batch_norm)
        before = None
        if path is not None:
            folder = files.folder_of(path)
            ranks.on_root(lambda: _prepare(path, of_file, overwrite=overwrite))
            before = read_before(folder, defined_by, ranks)
        curve, passes = line(space.vector(space.start), space.vector(space.end)), None
        if request.settings.method != "line":
            with ranks.together():
                batches = batches_of(request, seat, ranks, before)
                passes = _passes(request, seat, space, batches, ranks)
                check_called(passes, curve)
                search = search_of(request.settings, curve.controls[0], curve.controls[1], batches)
        say_plan(request, seat, space, curve, passes, batch_norm, ranks)
        if path is None:
            return Found()
        if passes is not None:
            facts = {"piece_size": passes.batches.piece_size or 0, "batch_size": seat.batch_size}
            kept = Kept(folder=folder, identity=defined_by, facts=facts, before=before)
            reason = find(search, passes, kept, ranks, stopping=stopping)
            if reason is not None:
                return Found(stopped=reason)
            curve = search.curve
        return _evaluate(
            request, seat, space, curve, passes, ranks, path,
            defined_by=of_file, batch_norm=batch_norm, writer=writer, stopping=stopping, attributes={**attributes, **end.facts},
            command_of=command_of,
        )  # fmt: skip


def _evaluate(
    request: Request,
    seat: Placed,
    space: Space,
    curve: Curve,
    passes: Passes | None,
    ranks: Ranks,
    path: Path,
    *,
    defined_by: Mapping[str, str],
    batch_norm: str,
    writer: str,
    stopping: Stopping,
    attributes: Mapping[str, Any],
    command_of: str | None,
) -> Found:
    """Checkpoints of the pivots, then the losses."""
    folder, places = files.folder_of(path), places_of(curve, request.settings.num_points)
    size = None if passes is None else len(passes.batches.feed)
    said = {
        **attributes,
        **({"batch_norm": batch_norm} if has_statistics(seat) else {}),
        "gradient_passes": 0.0 if passes is None else passes.examples[True] / (size or 1),
        "loss_passes": 0.0 if passes is None else passes.examples[False] / (size or 1),
    }
    plane = "" if command_of is None else plane_command(command_of, curve, folder, path)
    if plane:
        said["plane_command"] = plane
    contents = None
    if ranks.is_root:
        contents = contents_of(
            request, seat, space, curve, places, folder=folder, defined_by=defined_by, attributes=said
        )
    kept = ItemFile(path, contents, what=WHAT, kind=KIND, identity=defined_by, overwrite=False)
    with anywhere(seat) as network:
        along = Along(placed=seat, network=network, space=space, curve=curve, batch_norm=batch_norm)
        # At how many points losses are kept is nothing to a checkpoint.
        of = "; ".join(f"{name} {text}" for name, text in defined_by.items() if name != "num_points")
        ending = complete(pivots_job(along, folder, of), None, ranks, stopping=stopping)
        if ending.stopped is None:
            ending = complete(job_along(along, places), kept, ranks, writer=writer, stopping=stopping)
    if ending.stopped is not None:
        return Found(stopped=ending.stopped)
    barriers = ranks.on_root(lambda: _finished(path, ranks))
    return Found(barriers=ranks.share(barriers or {}), plane=plane)


def _finished(path: Path, ranks: Ranks) -> dict[str, float]:
    """Barriers into the file, and a word on losses that are no numbers."""
    barriers, found = write_barriers(path), read_connection(path)
    for name, values in found.values.items():
        broken = np.flatnonzero(~np.isfinite(values))
        if name.endswith("_loss") and broken.size:
            ranks.say(
                f"warning: {name} is {values[broken[0]]} at t = {found.t[broken[0]]:.6g}, and at {broken.size} points in all"
            )
    return barriers


def _decided(path: Path | None, *, overwrite: bool) -> int | None:
    """The batch size of files that may be gone on with."""
    if path is None or overwrite:
        return None
    if not path.exists():
        return files.decided_batch(files.folder_of(path))
    with open_item_file(path, "r", kind=KIND, what=WHAT) as file:
        size = int(read_item_attributes(path, file).get("batch_size", 0))
    return size if size > 0 else None


def _prepare(path: Path, defined_by: Mapping[str, str], *, overwrite: bool) -> None:
    """The folder, and nothing of another run in it or in the file."""
    folder = files.folder_of(path)
    files.make(folder)
    if overwrite:
        files.clear(folder)
        path.unlink(missing_ok=True)
    elif path.exists():
        ItemFile(path, None, what=WHAT, kind=KIND, identity=defined_by, overwrite=False).check()


def _end(request: Request, seat: Placed, ranks: Ranks) -> AlignedEnd:
    """The end on the device, in the types that the network has there; next to the start where that is asked for. Collective."""
    end: Mapping[str, Tensor] = {
        name: request.end[name].to(tensor.device, tensor.dtype)
        for name, tensor in state_of(seat.problem.model).items()
    }
    if request.settings.align == "permutation":
        return aligned_end(seat, end, ranks, where=f"{request.where}: connect")
    return AlignedEnd(state=end, facts={})


def _passes(request: Request, seat: Placed, space: Space, batches: Batches, ranks: Ranks) -> Passes:
    return Passes(
        model=seat.problem.model,
        loss=seat.problem.loss,
        space=space,
        batches=batches,
        ranks=ranks,
        seed=request.settings.said("seed"),
        gradients=seat.gradients,
        threads=1 if request.compute.threads == "auto" else request.compute.threads,
        computing=seat.precision.computing,
    )
