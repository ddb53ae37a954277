"""The minima of a surface and how deep they are: persistence of its sublevel sets, by gudhi."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mpi_landscape.errors import LandscapeError


@dataclass(frozen=True, kw_only=True)
class Basin:
    """A minimum, born as the level rises to it, and dead as its basin joins that of a lower one.

    Attributes:
        birth: The loss at the minimum.
        death: The loss at the pass; infinite for a basin that joins no lower one.
        place: Indices of the minimum.
        saddle: Indices of the pass; None where there is none.
    """

    birth: float
    death: float
    place: tuple[int, ...]
    saddle: tuple[int, ...] | None

    @property
    def depth(self) -> float:
        """By how much the loss must rise on the way to a lower minimum."""
        return self.death - self.birth


def basins_of(values: NDArray[np.float64], done: NDArray[np.bool_]) -> list[Basin]:
    """The minima of a grid or a line, the deepest first; minima of depth zero are left out.

    A way leads from a point to its neighbors along the axes (0-dimensional persistent homology of the lower-star filtration of
    a cubical complex whose vertices are the points: Edelsbrunner and Harer 2010, chapter VII). So a pass is the lowest that ways
    through evaluated points have, and at most as low as that of the loss itself. Points that are not done, NaN or infinite are no
    part of any basin.

    Args:
        values: (num_alpha, num_beta) or (num_alpha,).
        done: The same shape: where there is a result.

    Raises:
        LandscapeError: gudhi is not installed, or no value is finite.

    Example:
        >>> [(basin.birth, basin.death) for basin in basins_of(np.array([1.0, 4, 0, 3, 2]), np.ones(5, dtype=bool))]
        [(0.0, inf), (1.0, 4.0), (2.0, 3.0)]
    """
    known = done & np.isfinite(values)
    if not known.any():
        raise LandscapeError("persistence: there is no finite value yet, so no minimum")
    try:
        import gudhi
    except ImportError as error:
        raise LandscapeError(
            "persistence needs gudhi: pip install 'mpi_landscape[persistence]', or pip install gudhi"
        ) from error
    heights = np.where(known, values, np.inf)
    complex_ = gudhi.CubicalComplex(vertices=heights)
    complex_.compute_persistence()
    finite, endless = complex_.vertices_of_persistence_pairs()

    def at(flat: int) -> tuple[int, ...]:
        return tuple(int(each) for each in np.unravel_index(flat, heights.shape, order="F"))

    pairs = [(at(birth), at(death)) for birth, death in (finite[0] if finite else [])]
    found = [
        Basin(
            birth=float(heights[birth]),
            death=float(heights[death]),
            place=birth,
            saddle=death if np.isfinite(heights[death]) else None,
        )
        for birth, death in pairs
    ]
    found += [
        Basin(birth=float(heights[at(birth)]), death=np.inf, place=at(birth), saddle=None)
        for birth in (endless[0] if endless else [])
    ]
    kept = [basin for basin in found if np.isfinite(basin.birth)]
    return sorted(kept, key=lambda basin: (-basin.depth, basin.birth, basin.place))
