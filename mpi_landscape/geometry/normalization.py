"""Normalization of directions against the center, filter by filter.

Li et al. 2018 (arXiv:1712.09913), section 4. Scaling a ReLU network's filters up in one layer and down in
the next leaves its outputs alone but changes how far a step of fixed length takes it. A direction
whose filters have the norms of the center's filters does not see that, so surfaces of different
networks can be compared. Sums run in numpy and float64, for the reason given in `directions`.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from math import prod
from typing import get_args

import numpy as np
import torch
from numpy.typing import NDArray

from mpi_landscape.errors import LandscapeError
from mpi_landscape.geometry.directions import array_of
from mpi_landscape.geometry.layout import Entry, Layout, empty_vector
from mpi_landscape.vocabulary import Normalization

# Numbers of a tensor that are in float64 at a time: a few MB beside the vectors.
_PIECE = 2**18
_Floats = NDArray[np.floating]


def normalize(
    direction: torch.Tensor, center: torch.Tensor, layout: Layout, *, how: Normalization
) -> torch.Tensor:
    """A direction d scaled to the center θ.

    - `filter`: d_f ← d_f·‖θ_f‖/‖d_f‖ for every filter f of every tensor (Li et al. 2018, section 4);
    - `layer`: the same with every tensor as one filter;
    - `weight`: d_i ← d_i·|θ_i| for every element, which keeps the sign of d_i;
    - `none`: d as it is.

    A filter of zeros in d stays zero (what was ignored stays ignored), and a filter of zeros in θ makes it zero.

    Args:
        direction: 1D tensor of shape (n,).
        center: 1D tensor of shape (n,).
        layout: The order of the flat vectors.
        how: One of the above.

    Returns:
        A new 1D tensor of shape (n,), float32, on the CPU; computed in float64.

    Raises:
        LandscapeError: A vector has another shape or is not finite, or `how` is unknown.

    Example:
        Two filters of the center, (3, 4) and (0, 2), have the norms 5 and 2.

            >>> from torch import nn
        >>> from mpi_landscape.geometry.layout import layout_of
        >>> layout = layout_of(nn.Linear(2, 2, bias=False))
        >>> center, direction = torch.tensor([3.0, 4, 0, 2]), torch.tensor([1.0, 0, 0, -4])
        >>> normalize(direction, center, layout, how="filter")
        tensor([ 5.,  0.,  0., -2.])
        >>> normalize(direction, center, layout, how="weight")
        tensor([ 3.,  0.,  0., -8.])
    """
    if how not in get_args(Normalization):
        raise LandscapeError(
            f"normalize: unknown value {how!r}; valid values are {', '.join(get_args(Normalization))}"
        )
    layout.check(direction, where="direction")
    layout.check(center, where="center")
    result = empty_vector(layout.size)
    arrays = array_of(direction), array_of(center), result.numpy()
    for entry in layout.entries:
        moved, fixed, into = (_tensor(entry, array) for array in arrays)
        # What overflows float32 is reported below, in words.
        with np.errstate(over="ignore", invalid="ignore"):
            finite = _scale(into, moved, fixed, entry.filter_axes if how == "filter" else (), how)
        if not finite:
            raise LandscapeError(
                f"normalize: tensor {entry.name} is not finite; look for NaN or infinity in the checkpoint"
            )
    return result


def filter_norms(vector: torch.Tensor, layout: Layout) -> NDArray[np.float64]:
    """Euclidean norm of every filter of a vector (n,).

    Returns:
        (num_filters,) float64, in the order of the entries, C order within an entry.

    Raises:
        LandscapeError: The vector has another shape.

    Example:
            >>> from torch import nn
        >>> from mpi_landscape.geometry.layout import layout_of
        >>> filter_norms(torch.tensor([3.0, 4, 0, 2]), layout_of(nn.Linear(2, 2, bias=False)))
        array([5., 2.])
    """
    layout.check(vector)
    array = array_of(vector)
    return np.concatenate(
        [_norms(_tensor(entry, array), entry.filter_axes).reshape(-1) for entry in layout.entries]
    )


def norm_ratios(direction: torch.Tensor, center: torch.Tensor, layout: Layout) -> NDArray[np.float64]:
    """‖d_f‖/‖θ_f‖ of every filter, of vectors (n,): 1 everywhere after filter normalization, 0 where ignored.

    Returns:
        (num_filters,) float64; NaN where both norms are zero, infinity where only the center's is.

    Raises:
        LandscapeError: A vector has another shape.

    Example:
            >>> from torch import nn
        >>> from mpi_landscape.geometry.layout import layout_of
        >>> center, direction = torch.tensor([3.0, 4, 0, 2]), torch.tensor([6.0, 8, 0, 0])
        >>> norm_ratios(direction, center, layout_of(nn.Linear(2, 2, bias=False)))
        array([2., 0.])
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios: NDArray[np.float64] = filter_norms(direction, layout) / filter_norms(center, layout)
    return ratios


def _tensor(entry: Entry, array: _Floats) -> _Floats:
    """A view of one tensor of a flat array, as its filters lie."""
    return array[entry.offset : entry.stop].reshape(entry.filter_view)


def _scale(into: _Floats, moved: _Floats, fixed: _Floats, axes: tuple[int, ...], how: Normalization) -> bool:
    """Write a tensor scaled by the filters that `axes` enumerate; returns whether all of it is finite."""
    ratios = np.ones([1] * moved.ndim)
    if how in ("filter", "layer"):
        lengths, targets = _norms(moved, axes), _norms(fixed, axes)
        ratios = np.divide(targets, lengths, out=np.zeros_like(targets), where=lengths != 0)
    ratios, finite = np.broadcast_to(ratios, moved.shape), True
    for part in _parts(moved.shape, int(np.argmax(moved.shape))):
        factors = np.abs(fixed[part].astype(np.float64)) if how == "weight" else ratios[part]
        into[part] = moved[part].astype(np.float64) * factors
        finite = finite and bool(np.isfinite(into[part]).all())
    return finite


def _norms(tensor: _Floats, axes: tuple[int, ...]) -> NDArray[np.float64]:
    """Norms over all axes but these, kept as axes of length 1."""
    if not axes:
        return np.full([1] * tensor.ndim, np.sqrt(_sum_of_squares(tensor.reshape(-1))))
    norms = np.empty([length if axis in axes else 1 for axis, length in enumerate(tensor.shape)])
    over = tuple(axis for axis in range(tensor.ndim) if axis not in axes)
    axis = max(axes, key=lambda axis: tensor.shape[axis])
    # numpy would add up a single filter of an inner axis in another order.
    for part in _parts(tensor.shape, axis, least=1 if axis == 0 else 2):
        squares = np.square(tensor[part], dtype=np.float64)
        norms[part] = np.sqrt(np.sum(squares, axis=over, keepdims=True))
    return norms


def _sum_of_squares(numbers: _Floats) -> np.float64:
    """The sum over a 1D array, added pairwise as numpy adds the squares of all of it at once."""
    if numbers.size <= _PIECE:
        return np.float64(np.sum(np.square(numbers, dtype=np.float64)))
    half = numbers.size // 2 // 8 * 8
    return _sum_of_squares(numbers[:half]) + _sum_of_squares(numbers[half:])


def _parts(shape: tuple[int, ...], axis: int, *, least: int = 1) -> Iterator[tuple[slice, ...]]:
    """Indices that cut an array along an axis into parts of about `_PIECE` numbers, at least so wide."""
    count = max(1, min(shape[axis] // least, prod(shape) // _PIECE))
    edges = [shape[axis] * number // count for number in range(count + 1)]
    for start, stop in pairwise(edges):
        yield (*[slice(None)] * axis, slice(start, stop))
