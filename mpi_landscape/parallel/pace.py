"""How fast each rank is, and whether it may take one more tile: the end of a job waits for its slowest tile.

A pure account: nothing here sends, waits or looks at a clock.
"""

from __future__ import annotations

# A rank that has finished nothing yet may be this much slower than the others: it gets a second tile early only when
# even then the others have something to do until it is done with both.
UNKNOWN = 8.0


class Pace:
    """Seconds per tile of every rank, from when it began and ended its tiles.

    Args:
        size: Number of ranks.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._since: dict[int, float] = {}
        self._busy: dict[int, float] = {}
        self._done: dict[int, int] = {}
        # Tiles per second of all ranks that have finished one: kept as a sum, so that no answer costs more on many ranks.
        self._rate = 0.0

    def begins(self, rank: int, now: float) -> None:
        """A rank begins with a tile.

        Args:
            rank: Which one.
            now: Seconds, of any clock that only goes forward.
        """
        self._since[rank] = now

    def ends(self, rank: int, now: float) -> None:
        """A rank has finished the tile that it began last."""
        before = self._done.get(rank, 0)
        if before:
            self._rate -= before / self._busy[rank]
        # A tile cannot take no time, but two looks at a clock can fall together.
        self._busy[rank] = self._busy.get(rank, 0.0) + max(now - self._since[rank], 1e-9)
        self._done[rank] = before + 1
        self._rate += (before + 1) / self._busy[rank]

    def slowness(self, rank: int) -> float | None:
        """Seconds per tile of a rank, in those of a typical one (the harmonic mean); None when it has finished none."""
        done = self._done.get(rank, 0)
        return self._busy[rank] / done * self._rate / len(self._done) if done else None

    def may_take(self, rank: int, in_hand: int, left: int) -> bool:
        """Whether a tile is done sooner when this rank takes it than when it is left to the others.

        A typical rank is done with all that is left in left / size of its tiles, and with one more that it is busy
        with in one tile more. A rank that would take longer lets the others have it. The fastest rank is never refused
        a first tile, so nothing is left over.

        Args:
            rank: Which one.
            in_hand: Tiles that it has, the one that it is busy with included.
            left: Tiles that nobody has yet, at least 1.
        """
        slowness = self.slowness(rank)
        if slowness is None:
            slowness = UNKNOWN if in_hand else 1.0
        return (in_hand + 1) * slowness <= 1 + left / self._size
