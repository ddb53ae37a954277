"""The one loop: create or resume, share out, evaluate, keep. Collective, and free of torch."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, closing, nullcontext
from dataclasses import dataclass

from mpi_landscape.errors import LandscapeError, LostFileError
from mpi_landscape.parallel import coordinator, in_turn
from mpi_landscape.parallel.ranks import Ranks
from mpi_landscape.parallel.stopping import Reason
from mpi_landscape.storage.cells import Cells, Published
from mpi_landscape.storage.held import Held
from mpi_landscape.storage.writer import choose_writer
from mpi_landscape.work.job import Account, Job, Row
from mpi_landscape.work.kept import Kept
from mpi_landscape.work.progress import Progress


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How a computation ended.

    Attributes:
        stopped: Why it stopped before its end; None at its end.
        summary: What is known then, in words; only on rank 0.
    """

    stopped: str | None = None
    summary: str = ""


@dataclass(frozen=True, kw_only=True)
class _Writer:
    """Who writes: the rank that evaluated an item, or rank 0 for all; nobody where nothing is kept."""

    store: Cells | None = None
    by_all: bool = False
    held: Held | None = None

    def keep(self, item: int, row: Row) -> None:
        """On the rank that evaluated it."""
        if self.by_all and self.store is not None:
            self.store.write(item, row)

    def record(self, item: int, row: Row) -> None:
        """On rank 0, after `keep`."""
        if self.held is not None:
            self.held.look()
        if not self.by_all and self.store is not None:
            self.store.write(item, row)

    def publish(self, known: Published) -> None:
        """On rank 0."""
        if self.store is not None:
            self.store.publish(known)


def complete(job: Job, kept: Kept | None, ranks: Ranks, *, writer: str = "root", stopping: Reason) -> Ending:
    """Evaluate every item of a job that is not done. Collective.

    Args:
        job: The items.
        kept: Their file, whose lock the caller holds on rank 0; None where the account alone keeps them.
        ranks: Who evaluates.
        writer: `auto`, `parallel` or `root`.
        stopping: Asked between batches.

    Returns:
        Why it stopped, if it did, and what is known now.

    Raises:
        AgreedError: The file belongs to another run or cannot be written, or the writer is not possible.
        LostFileError: On rank 0 alone: the file has gone, or was written to by something else.
    """
    if kept is None:
        account = job.account() if ranks.is_root else None
        num_left = ranks.share(account.num_left if account else 0)
        return _evaluate(job, account, num_left, _Writer(), ranks, stopping)
    with ranks.together():
        kind, reason = choose_writer(writer, ranks.size)
    ranks.on_root(kept.ensure)
    # Not before the file, which is refused where a job is too large: the account has a mark for every item.
    account = job.account() if ranks.is_root else None
    unpublished, settled = ranks.on_root(lambda: _take_over(kept, account)) or ([], False)
    num_left, num_done = ranks.share((account.num_left, account.num_done) if account else (0, 0))
    is_complete = num_left == 0 and not ranks.share(bool(unpublished))
    if not is_complete:
        before = f", {num_done} of them done before" if num_done else ""
        ranks.say(f"{kept.path}: {job.num_items} {job.units}{before}; {kind} writer ({reason})")
    if is_complete and ranks.share(settled):
        # It is not even opened for writing: a finished file stays as it is.
        return Ending(summary=account.summary if account else "")
    by_all = kind == "parallel"
    # Opening and closing a file together cannot be left from within.
    in_time = ranks.watch.in_time if ranks.watch is not None and by_all else nullcontext
    with in_time(), ranks.together():
        store = kept.open(ranks.comm if by_all else None, "r+") if by_all or ranks.is_root else None
    with ExitStack() as finding:
        held = finding.enter_context(closing(Held(kept.path))) if ranks.is_root else None
        with ExitStack() as leaving, store if store is not None else nullcontext():
            if store is not None and ranks.is_root:
                for name, value in kept.notes.items():
                    store.note(name, value)
                for known in unpublished:
                    store.publish(known)
            writing = _Writer(store=store, by_all=by_all, held=held)
            ending = _evaluate(job, account, num_left, writing, ranks, stopping)
            leaving.enter_context(in_time())
        if held is not None:
            held.check()
            if ending.stopped is None:
                _check_complete(job, kept)
    return ending


def _check_complete(job: Job, kept: Kept) -> None:
    """Whoever runs the same command now finds nothing to do: that is what a complete file is.

    Raises:
        LostFileError: Something else has written to it.
    """
    account = job.account()
    try:
        kept.check()
        unpublished, settled = _take_over(kept, account)
    except LandscapeError as error:
        raise LostFileError(f"{error} (it was written to by something else while this ran)") from error
    if account.num_left or unpublished or not settled:
        missing = (
            f"{account.num_left:,} of {job.num_items:,} finished {job.units} are"
            if account.num_left
            else "results are"
        )
        raise LostFileError(
            f"{kept.path}: {missing} no longer in it, something else has written to it; run the same command again"
        )


def _take_over(kept: Kept, account: Account | None) -> tuple[Sequence[Published], bool]:
    """Note every item of a file whose checksum fits.

    Returns:
        What is known but not shown by the file yet: a kill may have come between an item and what it makes known. And
        whether the file has this run's notes.
    """
    assert account is not None
    with kept.open(None, "r") as store:
        for item in store.marked():
            row = store.read(int(item))
            if row is not None:
                account.take_over(int(item), row)
        unpublished = [known for known in account.begin() if not store.holds(known)]
        return unpublished, all(store.noted(name) == value for name, value in kept.notes.items())


def _evaluate(
    job: Job, account: Account | None, num_left: int, writer: _Writer, ranks: Ranks, stopping: Reason
) -> Ending:
    """Evaluate what is left, each row kept by the rank that evaluated it or by rank 0."""

    def record(item: int, row: Row) -> None:
        assert account is not None
        writer.record(item, row)
        known = account.add(item, row)
        if known is not None:
            writer.publish(known)
        progress.advance()
        line = job.line(item, row, account.num_done)
        if line is not None:
            progress.say(line)

    with Progress(
        job.num_items,
        initial=job.num_items - num_left,
        points_per_unit=(job.num_points or job.num_items) / job.num_items,
        units=f"{job.units} at most" if job.at_most else job.units,
        points=job.points,
        shown=ranks.is_root and job.is_shown,
    ) as progress:
        tiles = iter(account or ())
        if job.together:
            stopped = in_turn.run(
                ranks, tiles=tiles, evaluate=job.evaluate, keep=writer.keep, record=record, stopping=stopping
            )
        else:
            stopped = coordinator.run(
                ranks,
                tiles=tiles,
                num_tiles=num_left,
                sums_size=job.row_size,
                evaluate=job.evaluate,
                keep=writer.keep,
                record=record,
                stopping=stopping,
                ahead=job.alike,
                tile_seconds=job.seconds,
            )
    if account is None:
        return Ending(stopped=stopped)
    left = f"with {account.num_left:,} of {job.num_items:,} {job.units} left"
    return Ending(stopped=stopped, summary=account.summary if stopped is None else left)
