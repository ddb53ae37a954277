"""Rank 0 hands out tiles, every rank (rank 0 too) evaluates them, nobody waits for anybody.

Plain two-sided messages of fixed size. A worker asks for its next tile before it starts on the current one, so that no
round trip is ever waited for; rank 0 answers between its own batches. The kinds of message:

    REQUEST  worker -> 0   "I can take one more tile"; answered by exactly one ORDER
    ORDER    0 -> worker   the number of a tile, or NOTHING_LEFT
    RESULT   worker -> 0   the number of a tile and its sums
    LEAVING  worker -> 0   the worker takes no more: 1 when it was told to stop from outside, 0 when all is done
    CLOSE    0 -> worker   exactly once: at the end, or in the middle of the work when the job stops
    ALIVE    both ways     once in a while: from a worker between its batches, from rank 0 to those that wait for it
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from mpi_landscape.parallel.ranks import Ranks
from mpi_landscape.parallel.root import Coordinator, sleep
from mpi_landscape.parallel.stopping import Reason
from mpi_landscape.parallel.worker import Between, Sums, work


def run(
    ranks: Ranks,
    *,
    tiles: Iterator[int],
    num_tiles: int,
    sums_size: int,
    evaluate: Callable[[int, Between], Sums],
    keep: Callable[[int, Sums], None],
    record: Callable[[int, Sums], None],
    stopping: Reason,
    ahead: bool = True,
    tile_seconds: float | None = None,
) -> str | None:
    """Evaluate every tile exactly once, on whichever rank is free. Collective.

    Args:
        ranks: The job.
        tiles: On rank 0, the tiles to do, in the order in which to begin them; not used elsewhere. WAIT among them, only
            while a result is still to come, lets whoever asks wait for the next result.
        num_tiles: How many they are, at most: the job is complete when they end, too.
        sums_size: The most float64 values that a tile can have as its result.
        evaluate: Tile number and a function to call between batches -> the tile's sums, any shape.
        keep: Called on the rank that evaluated a tile, with its number and sums.
        record: Called on rank 0, for every tile, after `keep`.
        stopping: Asked between batches on every rank; a reason on any of them stops all.
        ahead: Whether a rank gets its next tile while it is still busy with one, so that it never waits. Not for tiles
            of very different cost: one would wait behind a long one while other ranks are idle.
        tile_seconds: What a tile is expected to take; None where nothing is known. A rank that is silent for many times
            as long is lost.

    Returns:
        None when every tile is done; otherwise why the job stopped, the same words on every rank.

    Raises:
        LostRankError: A rank is silent; the others may wait for it, so whoever meets this ends the job.
    """
    complete = True
    others = range(1, ranks.size) if ranks.is_root else [0]
    watch = ranks.watch
    silence = None if watch is None else watch.silence(others, watch.patience(tile_seconds))
    if ranks.is_root:
        coordinator = Coordinator(
            ranks, tiles, num_tiles, sums_size, record, stopping, ahead=ahead, silence=silence
        )
        complete, own = coordinator.run(evaluate, keep)
    else:
        own = work(ranks, sums_size, evaluate, keep, stopping, sleep, silence)
    if silence is not None:
        silence.over()
    if ranks.share(complete):
        # A reason that came after the last tile stops nothing.
        return None
    rank, reason = next((rank, text) for rank, text in enumerate(ranks.gather(own)) if text is not None)
    return reason if rank == 0 else f"{reason} on rank {rank}"
