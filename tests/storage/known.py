"""What tiles make known, by the real code, for tests that write surfaces."""

from mpi_landscape.storage.cells import Published
from mpi_landscape.storage.surface.creation import Contents
from mpi_landscape.storage.surface.tiles import Totals, published


def totals_of(made: Contents) -> Totals:
    """The sums over shards of a surface, none of which is in."""
    return Totals(made.plan, len(made.quantities.columns))


def known(made: Contents, tile, whole) -> Published:
    """The values of a tile's points from their sums over a whole split."""
    return published(made.grid, tile, made.quantities.values(whole))
