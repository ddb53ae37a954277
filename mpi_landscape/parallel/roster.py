"""Which worker holds which tiles, and whether it may have one more. Nothing here sends or receives."""

from __future__ import annotations

from collections.abc import Callable

from mpi_landscape.parallel.pace import Pace


class Roster:
    """Rank 0's account of who is at work on what.

    Args:
        size: Number of ranks.
        ahead: Whether tiles are alike, so that the next one can be given out early.
        clock: Seconds, to tell slow ranks from fast ones.
        held: By worker, the tiles that it holds, the first being the one in work; filled here, for others to look at.
    """

    def __init__(
        self, size: int, *, ahead: bool, clock: Callable[[], float], held: dict[int, list[int]] | None = None
    ) -> None:
        self._ahead, self._clock = ahead, clock
        self._pace = Pace(size)
        self._held = {} if held is None else held
        self._held.update({worker: [] for worker in range(1, size)})
        self._num_held = 0

    @property
    def workers(self) -> set[int]:
        """All ranks but rank 0."""
        return set(self._held)

    def begins(self) -> None:
        """Rank 0 begins with a tile of its own."""
        self._pace.begins(0, self._clock())

    def ends(self) -> None:
        """Rank 0 has finished it."""
        self._pace.ends(0, self._clock())

    def gives(self, worker: int, tile: int) -> None:
        """A worker gets a tile."""
        if not self._held[worker]:
            self._pace.begins(worker, self._clock())
        self._held[worker].append(tile)
        self._num_held += 1

    def finished(self, worker: int) -> None:
        """A worker has finished the first of its tiles, and begins with the next one, if it has one."""
        now = self._clock()
        self._pace.ends(worker, now)
        self._held[worker].pop(0)
        self._num_held -= 1
        if self._held[worker]:
            self._pace.begins(worker, now)

    def may_take(self, rank: int, left: int) -> bool:
        """Near the end a tile goes to whoever will have finished it first, and nobody holds a second one.

        Args:
            rank: Which one.
            left: Tiles that nobody has yet, at least 1.
        """
        in_hand = len(self._held.get(rank, ()))
        if not self._ahead:
            return in_hand == 0
        return self._num_held == 0 or self._pace.may_take(rank, in_hand, left)
