"""The minima of a field as a persistence diagram shows them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mpi_landscape.measures.persistence import Basin, basins_of
from plotting.picture.field import Field


@dataclass(frozen=True, kw_only=True)
class Diagram:
    """Births and deaths of the minima.

    Attributes:
        basins: The deepest first.
        low: The least birth.
        high: The greatest death that is finite, or birth.
    """

    basins: Sequence[Basin]
    low: float
    high: float

    @property
    def joined(self) -> NDArray[np.float64]:
        """(n, 2) float64: birth and death of the basins that join a lower one."""
        pairs = [(each.birth, each.death) for each in self.basins if np.isfinite(each.death)]
        return np.array(pairs).reshape(-1, 2)

    @property
    def endless(self) -> NDArray[np.float64]:
        """(m,) float64: births of those that join none."""
        return np.array([each.birth for each in self.basins if not np.isfinite(each.death)])


def diagram_of(field: Field) -> Diagram | None:
    """The diagram of a field; None where it has no finite value.

    Raises:
        LandscapeError: gudhi is not installed.
    """
    if not field.finite.any():
        return None
    basins = basins_of(field.values, field.done)
    ends = [end for each in basins for end in (each.birth, each.death) if np.isfinite(end)]
    return Diagram(basins=basins, low=min(ends), high=max(ends))
