"""From a request to a finished trajectory file, or to the plan alone. Collective."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mpi_landscape.errors import LandscapeError
from mpi_landscape.geometry.moving import describe
from mpi_landscape.parallel.ranks import Ranks
from mpi_landscape.parallel.stopping import Stopping
from mpi_landscape.placement.placing import placed
from mpi_landscape.plan.decisions import Decisions
from mpi_landscape.storage.item_file import decided
from mpi_landscape.storage.trajectory.reader import KIND, WHAT, read_attributes
from mpi_landscape.trajectories.axes import Located, Opened, locate, open_all
from mpi_landscape.trajectories.contents import contents_of, identity_of
from mpi_landscape.trajectories.losses import Losses, columns_of, losses_of, values_of
from mpi_landscape.trajectories.request import Request
from mpi_landscape.wording import duration, volume
from mpi_landscape.work.item_file import EachItem, ItemFile
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
    """Find the axes, place the checkpoints on them, and compute their losses. Collective.

    Args:
        request: What to compute.
        ranks: Who computes.
        path: The file, whose lock the caller holds on rank 0; None to say the plan only.
        writer: `auto`, `parallel` or `root`.
        overwrite: Whether a file of another run may be replaced.
        stopping: Asked between batches.
        attributes: More for the file to say of itself.

    Returns:
        Why it stopped, if it did, and what the file holds now.

    Raises:
        AgreedError: A premise does not hold, or the file belongs to another run or cannot be written.
    """
    with stopping.at_once():
        opened = open_all(request, ranks)
        readings = 2 if request.said.axes == "pca" else 1
        ranks.say(
            f"axes        {request.said.axes}: {len(opened.vectors)} checkpoints of {opened.center.layout.size:,} numbers, "
            f"{volume(opened.bytes)}, read {'twice' if readings == 2 else 'once'} by {ranks.size} "
            f"rank{'s' if ranks.size > 1 else ''} together"
        )
        located = None if path is None else locate(request, opened, ranks)
        if located is not None:
            for line in _lines(request, located):
                ranks.say(line)
    before = (
        ranks.share(ranks.on_root(lambda: decided(None if overwrite else path, read_attributes)))
        or Decisions()
    )
    with (
        placed(request.problem, ranks, request.compute, before) as seat,
        losses_of(request, seat, located) as losses,
    ):
        with stopping.at_once():
            seconds = ranks.share(losses.seconds())
        left_out = seat.quantities.computed
        if left_out:
            ranks.say(f"quantities  without {', '.join(left_out)}, which surfaces alone have")
        number = len(request.paths)
        ranks.say(
            f"expected    {duration(number * seconds / min(ranks.size, number))} for the losses of {number} checkpoints, "
            f"and of their places in the plane"
        )
        if path is None or located is None:
            return Ending()
        with ranks.together():
            _check_time_limit(stopping.limit, seconds)
        return _complete(
            losses, opened, located, ranks, path, writer, overwrite, stopping, attributes, seconds
        )


def _complete(
    losses: Losses,
    opened: Opened,
    located: Located,
    ranks: Ranks,
    path: Path,
    writer: str,
    overwrite: bool,
    stopping: Stopping,
    attributes: Mapping[str, Any],
    seconds: float,
) -> Ending:
    quantities, splits = losses.quantities, losses.placed.splits
    identity = identity_of(losses, opened, located) if ranks.is_root else {}
    contents = (
        contents_of(losses, located, {**attributes, "ranks": str(ranks.size)}, identity)
        if ranks.is_root
        else None
    )
    number = len(losses.request.paths)
    job = Job(
        num_items=number,
        row_size=len(columns_of(quantities, splits)),
        evaluate=losses.row,
        account=lambda: EachItem(number, lambda _item, row: values_of(quantities, splits, row)),
        seconds=seconds,
        units="checkpoints",
        points="checkpoints",
    )
    kept = ItemFile(path, contents, what=WHAT, kind=KIND, identity=identity, overwrite=overwrite)
    return complete(job, kept, ranks, writer=writer, stopping=stopping)


def _check_time_limit(limit: float | None, seconds: float) -> None:
    """Refuse a job that would stop before its first checkpoint every time that it is run.

    Raises:
        LandscapeError: So it is.
    """
    if limit is not None and limit < seconds:
        raise LandscapeError(
            f"--time-limit: {limit:g} s is shorter than a checkpoint, which is expected to take {duration(seconds)}, so that "
            f"nothing would ever be done; valid is a longer limit"
        )


def _lines(request: Request, located: Located) -> list[str]:
    """What the axes are, for people."""
    lines = [] if request.said.axes == "random" else list(describe(located.plane))
    shares = ", ".join(f"{name} {100 * share:.1f} %" for name, share in located.shares.items())
    lines.append(f"variation   {shares} of the variance of the checkpoints")
    furthest = int(located.distances.argmax())
    lines.append(
        f"distance    out of the plane at most {located.distances[furthest]:.4g}, at {request.paths[furthest]}"
    )
    return lines
