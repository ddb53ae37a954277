"""What rank 0 knows of an exact surface: which tiles are in, and the values of the points that are complete."""

from __future__ import annotations

from collections.abc import Iterator

from mpi_landscape.errors import LandscapeError
from mpi_landscape.plan.grid import Grid
from mpi_landscape.plan.quantities import Quantities
from mpi_landscape.plan.tiles import Plan
from mpi_landscape.storage.cells import Published, Row
from mpi_landscape.storage.surface.tiles import Totals, published


class Exact:
    """Every tile, in the order of the plan; a point has its values when the last of its shards is in.

    Args:
        grid: The points.
        plan: Without samples.
        quantities: What is known at a point.
        unfinished: What an unfinished surface is refused with; None to go on with it.
    """

    def __init__(
        self, grid: Grid, plan: Plan, quantities: Quantities, *, unfinished: str | None = None
    ) -> None:
        self._grid, self._plan, self._quantities, self._unfinished = grid, plan, quantities, unfinished
        self._totals = Totals(plan, len(quantities.columns))
        self._known: list[Published] = []

    def take_over(self, item: int, row: Row) -> None:
        """Note a tile that was done before; all of them before `begin`."""
        known = self.add(item, row)
        if known is not None:
            self._known.append(known)

    def begin(self) -> Iterator[Published]:
        """What is known of each chunk and split that was finished before.

        Raises:
            LandscapeError: The surface is unfinished, and may not be gone on with.
        """
        if self._unfinished is not None and self.num_left:
            raise LandscapeError(self._unfinished)
        return iter(self._known)

    def add(self, item: int, row: Row) -> Published | None:
        """Take note of a result; the values of its points when it was their last."""
        tile = self._plan.tile(item)
        whole = self._totals.add(tile, row.reshape(tile.num_points, -1))
        return None if whole is None else published(self._grid, tile, self._quantities.values(whole))

    def __iter__(self) -> Iterator[int]:
        """The tiles to do."""
        return self._totals.left()

    @property
    def num_left(self) -> int:
        """How many tiles are left."""
        return self._totals.num_left

    @property
    def num_done(self) -> int:
        """How many tiles are done."""
        return self._plan.num_tiles - self.num_left

    @property
    def summary(self) -> str:
        """What is known, in words."""
        return "complete"
