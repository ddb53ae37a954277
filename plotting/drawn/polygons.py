"""Polygons and triangles of a field as matplotlib takes them."""

import numpy as np
from matplotlib.path import Path
from matplotlib.tri import Triangulation
from numpy.typing import NDArray

from plotting.picture.field import Field


def polygons_path(polygons: NDArray[np.float64]) -> Path:
    """Polygons, (n, corners, 2) float64, as one compound path."""
    closed = np.concatenate([polygons, polygons[:, :1]], axis=1)
    codes = np.full(closed.shape[:2], Path.LINETO, dtype=np.uint8)
    codes[:, 0], codes[:, -1] = Path.MOVETO, Path.CLOSEPOLY
    return Path(closed.reshape(-1, 2), codes.reshape(-1))


def triangulate(field: Field, shown: NDArray[np.bool_]) -> Triangulation | None:
    """The finished points of a partial field, joined to triangles.

    A point whose result cannot be shown is a corner all the same, and its triangles are masked: nothing is
    interpolated across it.

    Returns:
        The triangulation over `numpy.nonzero(field.done)`; None with fewer than three points, or all in one row.
    """
    alpha, beta = field.plane
    rows, columns = np.nonzero(field.done)
    if min(len(np.unique(rows)), len(np.unique(columns))) < 2 or _collinear(rows, columns):
        return None
    # Triangles are chosen among indices, where the grid is square: axes of unlike length would give slivers.
    triangles = Triangulation(rows.astype(np.float64), columns.astype(np.float64)).triangles
    mask = ~shown[field.done][triangles].all(axis=1)
    return Triangulation(alpha[rows], beta[columns], triangles, mask=mask)


def _collinear(rows: NDArray[np.int64], columns: NDArray[np.int64]) -> bool:
    across, along = rows - rows[0], columns - columns[0]
    farthest = int(np.argmax(np.abs(across) + np.abs(along)))
    return bool((across * along[farthest] == along * across[farthest]).all())
