"""Tiles that all ranks evaluate together, one after another: for work whose parts are too few, or follow from each other."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from mpi_landscape.parallel.ranks import Ranks
from mpi_landscape.parallel.stopping import Reason, Stopped
from mpi_landscape.parallel.worker import Between, Sums


def run(
    ranks: Ranks,
    *,
    tiles: Iterator[int],
    evaluate: Callable[[int, Between], Sums],
    keep: Callable[[int, Sums], None],
    record: Callable[[int, Sums], None],
    stopping: Reason,
) -> str | None:
    """Evaluate every tile once, all ranks at the same one; rank 0's result counts. Collective.

    Args:
        ranks: The job.
        tiles: On rank 0, the tiles to do in their order; not used elsewhere.
        evaluate: Tile number and a function to call between batches -> its sums. Collective. Raises `Stopped` on all ranks or on
            none, with the same words.
        keep: Called on rank 0 with a tile's number and sums.
        record: Called on rank 0 after `keep`.
        stopping: Asked between batches on every rank.

    Returns:
        None when every tile is done; otherwise why the job stopped, the same words on every rank.

    Raises:
        AgreedError: As `evaluate` does.
    """

    def between() -> None:
        reason = stopping.reason
        if reason is not None:
            raise Stopped(reason)

    while True:
        tile = ranks.share(next(tiles, None) if ranks.is_root else None)
        if tile is None:
            return None
        try:
            sums = evaluate(tile, between)
        except Stopped as stop:
            return str(stop)
        if ranks.is_root:
            keep(tile, sums)
            record(tile, sums)
