"""One way to compute products with a Hessian on all ranks."""

from __future__ import annotations

from mpi_landscape.errors import LandscapeError
from mpi_landscape.evaluation.curvature.way import Way
from mpi_landscape.parallel.ranks import Ranks


def agree_on(way: Way, ranks: Ranks) -> None:
    """Refuse ranks that would compute products in other ways, and say what was dropped. Collective.

    Raises:
        AgreedError: They would, as on processors of several kinds.
    """
    found = ranks.share(way.words())
    with ranks.together():
        if way.words() != found:
            raise LandscapeError(
                f"engine: here it is {way.words()!r}, and on rank 0 {found!r}: products would be others; valid are ranks on "
                f"processors of one kind"
            )
    for line in way.dropped:
        ranks.say(f"engine      {line}")
