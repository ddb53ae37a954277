"""Points and cells of a field as polygons: what can be drawn, what cannot, and where it lies."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from plotting.picture.field import Field


def edges(axis: NDArray[np.float64]) -> NDArray[np.float64]:
    """The borders of the cells around the points of an axis, half-way between neighbors.

    Args:
        axis: (n,) float64, ascending; a single point gets a cell of width one.

    Returns:
        (n + 1,) float64.

    Example:
        >>> edges(np.array([0.0, 1.0, 3.0])).tolist()
        [-0.5, 0.5, 2.0, 4.0]
    """
    if len(axis) == 1:
        return np.array([axis[0] - 0.5, axis[0] + 0.5])
    middles = (axis[:-1] + axis[1:]) / 2
    first, last = axis[0] - (middles[0] - axis[0]), axis[-1] + (axis[-1] - middles[-1])
    return np.concatenate([[first], middles, [last]])


def runs(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The runs of True along beta in a mask, (num_alpha, num_beta) bool: a large region is few rectangles.

    Returns:
        (n, 3) int64: index along alpha, first and one past the last index along beta.

    Example:
        >>> runs(np.array([[True, True, False, True], [False, True, False, False]])).tolist()
        [[0, 0, 2], [0, 3, 4], [1, 1, 2]]
    """
    padded = np.zeros((mask.shape[0], mask.shape[1] + 2), dtype=np.int8)
    padded[:, 1:-1] = mask
    steps = np.diff(padded, axis=1)
    rows, starts = np.nonzero(steps == 1)
    _, stops = np.nonzero(steps == -1)
    return np.stack([rows, starts, stops], axis=1).astype(np.int64)


def rectangles(
    mask: NDArray[np.bool_], across: NDArray[np.float64], along: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The rectangles of a (m, n) mask, runs along beta joined, between m + 1 and n + 1 borders.

    Returns:
        (number, 4, 2) float64, corners in data coordinates (alpha, beta).

    Example:
        >>> rectangles(np.array([[True, True]]), np.array([0.0, 1.0]), np.array([0.0, 10.0, 20.0])).tolist()
        [[[0.0, 0.0], [1.0, 0.0], [1.0, 20.0], [0.0, 20.0]]]
    """
    row, start, stop = runs(mask).T
    left, right, low, high = across[row], across[row + 1], along[start], along[stop]
    corners = [(left, low), (right, low), (right, high), (left, high)]
    return np.stack([np.stack(corner, axis=-1) for corner in corners], axis=1)


def gaps(field: Field, shown: NDArray[np.bool_], cause: NDArray[np.bool_]) -> NDArray[np.float64]:
    """What contours leave empty between the points of a complete grid that are `shown`, as polygons.

    Of a mesh with one corner that cannot be shown matplotlib draws the opposite triangle; of others nothing.
    Here are the meshes that touch a point of `cause`.

    Returns:
        (number, 4, 2) float64; a triangle repeats its last corner.
    """
    alpha, beta = field.plane
    corners = [
        (slice(None, -1), slice(None, -1)),
        (slice(1, None), slice(None, -1)),
        (slice(1, None), slice(1, None)),
        (slice(None, -1), slice(1, None)),
    ]
    bad = np.stack([~shown[corner] for corner in corners])
    touched = np.any([cause[corner] for corner in corners], axis=0)
    polygons = [rectangles(touched & (bad.sum(axis=0) >= 2), alpha, beta)]
    places = np.stack(np.meshgrid(alpha, beta, indexing="ij"), axis=-1)
    for k in range(4):
        single = touched & bad[k] & (bad.sum(axis=0) == 1)
        ring = [places[corners[(k + step) % 4]][single] for step in (-1, 0, 1, 1)]
        polygons.append(np.stack(ring, axis=1))
    return np.concatenate(polygons)


def thin(field: Field, limit: int) -> tuple[Field, str | None]:
    """A field with at most `limit` points per axis, and a note for the picture if any were left out.

    A kept point takes over "undefined" from any point that it stands for, so no such region is lost.
    """
    if field.beta is None or max(field.values.shape) <= limit:
        return field, None
    rows = _kept(field.done.sum(axis=1), limit)
    columns = _kept(field.done.sum(axis=0), limit)
    values = field.values[np.ix_(rows, columns)].copy()
    undefined = np.logical_or.reduceat(field.undefined, _first_of(rows, field.values.shape[0]), axis=0)
    undefined = np.logical_or.reduceat(undefined, _first_of(columns, field.values.shape[1]), axis=1)
    values[undefined] = np.nan
    done = field.done[np.ix_(rows, columns)] | undefined
    thinned = replace(field, alpha=field.alpha[rows], beta=field.beta[columns], values=values, done=done)
    all_points = " × ".join(map(str, field.values.shape))
    return thinned, f"drawn with {len(rows)} × {len(columns)} of {all_points} points"


def _kept(finished: NDArray[np.int64], limit: int) -> NDArray[np.int64]:
    """Choose evenly when every row has as many finished points, else the rows that have most."""
    rows = np.arange(len(finished)) if len(finished) <= limit else np.nonzero(finished)[0]
    if len(rows) == 0:
        rows = np.arange(len(finished))
    if len(rows) <= limit:
        return rows
    if (finished[rows] == finished[rows[0]]).all():
        return rows[np.round(np.linspace(0, len(rows) - 1, limit)).astype(np.int64)]
    return np.sort(rows[np.argsort(-finished[rows], kind="stable")[:limit]])


def _first_of(kept: NDArray[np.int64], num: int) -> NDArray[np.int64]:
    """Where the points begin that each kept one stands for: half-way to the one before."""
    first = np.zeros(len(kept), dtype=np.int64)
    first[1:] = np.minimum((kept[:-1] + kept[1:] + 1) // 2, num - 1)
    return first
