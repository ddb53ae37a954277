"""Principal axes of the way of an optimizer, and where it is in a plane, from products of vectors alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from mpi_landscape.errors import LandscapeError

# A second component with less of the variation than this is the rounding of float32.
_LINE = 1e-12
# Variances below this share of the largest square are rounding.
_SAME = 1e-14
# Below this, the smallest eigenvalue of the cosines between axes is rounding: they span less than they are.
_DEPENDENT = 1e-9


@dataclass(frozen=True, kw_only=True)
class Principal:
    """The first two principal components of rows.

    Attributes:
        weights: (2, num_rows) float64: a component is the sum of these times the rows, and has length 1.
        variation: (num_rows,) float64: the share of every component in the variance of the rows, falling, of sum 1.
    """

    weights: NDArray[np.float64]
    variation: NDArray[np.float64]


def principal(products: NDArray[np.float64]) -> Principal:
    """The principal components of rows of which the products with each other are known.

    The components of a matrix D of few long rows follow from the small matrix D Dᵀ: with the mean row subtracted, that is
    J D Dᵀ J with J = 1 - 1/m, and with its eigenvectors u and eigenvalues s² the components are Dᵀ J u / s (the method of
    snapshots: Sirovich 1987). Variances are around the mean row, as those of sklearn.decomposition.PCA, by which Li et al.
    (2018, arXiv:1712.09913, section 7.2) drew their figure 9. The sign is that with which the first row lies at a positive
    coordinate (where it lies at 0, the row that is furthest out).

    Args:
        products: (num_rows, num_rows) float64, at least three rows.

    Raises:
        LandscapeError: The rows are all the same, or lie on a line.

    Example:
        >>> rows = np.array([[3.0, 0, 0], [0, 1, 0], [0, -1, 0], [1, 0, 0]])
        >>> found = principal(rows @ rows.T)
        >>> np.allclose(found.weights @ rows, np.eye(3)[:2]), found.variation.round(3).tolist()
        (True, [0.75, 0.25, 0.0, 0.0])
    """
    size = len(products)
    rows = products.mean(axis=1, keepdims=True)
    around_mean = products - rows - rows.T + rows.mean()
    # By torch, whose bits do not depend on the number of cores within `exact_arithmetic`.
    squares, vectors = (each.numpy() for each in torch.linalg.eigh(torch.from_numpy(around_mean)))
    squares, vectors = np.maximum(squares[::-1], 0.0), vectors[:, ::-1]
    if not squares[0] > _SAME * products.diagonal().max():
        raise LandscapeError("all of them are the same, so that there is no direction in which they vary")
    variation = squares / squares.sum()
    if size < 3 or variation[1] < _LINE:
        raise LandscapeError("all of them lie on one line, so that there is no second axis")
    weights = (vectors[:, :2] / np.sqrt(squares[:2])).T
    weights -= weights.mean(axis=1, keepdims=True)
    coordinates = weights @ products
    for axis in range(2):
        row = 0 if abs(coordinates[axis, 0]) > 1e-6 * abs(coordinates[axis]).max() else None
        row = int(np.argmax(abs(coordinates[axis]))) if row is None else row
        if coordinates[axis, row] < 0:
            weights[axis] *= -1
    return Principal(weights=weights, variation=variation)


def nearest(
    squares: NDArray[np.float64], with_axes: NDArray[np.float64], of_axes: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The points of a plane that are nearest to vectors, by least squares, as `Plane.project` finds them one by one.

    Args:
        squares: (num_vectors,) ‖v‖², of vectors from the center.
        with_axes: (num_axes, num_vectors) ⟨d, v⟩.
        of_axes: (num_axes, num_axes) ⟨d, d'⟩; the axes need be neither orthogonal nor of length 1.

    Returns:
        (num_vectors, num_axes) float64 in units of the axes, and (num_vectors,) the distances that are left, which are 0 where
        they are below 1e-8 of the length: rounding.

    Raises:
        LandscapeError: An axis is zero, or the axes are linearly dependent.
    """
    lengths = np.sqrt(np.diag(of_axes))
    if not lengths.all():
        raise LandscapeError("an axis is zero everywhere, so that nothing would move along it")
    cosines = of_axes / lengths / lengths[:, None]
    if not np.linalg.eigvalsh(cosines)[0] > _DEPENDENT:
        raise LandscapeError(f"the axes are parallel (cosine {cosines[0, -1]:.6f}) and span no plane")
    unit = with_axes / lengths[:, None]
    coordinates = np.linalg.solve(cosines, unit)
    left = np.maximum(squares - np.sum(unit * coordinates, axis=0), 0.0)
    distances = np.where(left <= 1e-16 * squares, 0.0, np.sqrt(left))
    return np.ascontiguousarray((coordinates / lengths[:, None]).T), distances
