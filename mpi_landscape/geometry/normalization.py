"""Normalization of directions against the center, filter by filter.

Li et al. 2018 (arXiv:1712.09913), section 4. Scaling a ReLU network's filters up in one layer and down in
the next leaves its outputs alone but changes how far a step of fixed length takes it. A direction
whose filters have the norms of the center's filters does not see that, so surfaces of different
networks can be compared. Sums run in numpy and float64, for the reason given in `directions`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mpi_landscape.errors import LandscapeError
from mpi_landscape.geometry.layout import Entry, Layout
from mpi_landscape.vocabulary import Normalization


def normalize(direction: Tensor, center: Tensor, layout: Layout, *, how: Normalization) -> Tensor:
    """A direction d scaled to the center θ.

    - `filter`: d_f ← d_f·‖θ_f‖/‖d_f‖ for every filter f of every tensor (Li et al. 2018, section 4);
    - `layer`: the same with every tensor as one filter;
    - `weight`: d_i ← d_i·|θ_i| for every element, which keeps the sign of d_i;
    - `none`: d as it is.

    A filter of zeros in d stays zero (what was ignored stays ignored), and a filter of zeros in θ
    makes it zero.

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
    result = np.empty(layout.size, dtype=np.float32)
    directions, centers = _pieces(direction, layout, "direction"), _pieces(center, layout, "center")
    for (entry, moved), (_, fixed) in zip(directions, centers, strict=True):
        # What overflows float32 is reported below, in words.
        with np.errstate(over="ignore", invalid="ignore"):
            scaled = _scaled(entry, moved, fixed, how).astype(np.float32).reshape(-1)
        if not np.isfinite(scaled).all():
            raise LandscapeError(
                f"normalize: tensor {entry.name} is not finite; look for NaN or infinity in the checkpoint"
            )
        result[entry.offset : entry.stop] = scaled
    return torch.from_numpy(result)


def filter_norms(vector: Tensor, layout: Layout) -> NDArray[np.float64]:
    """Euclidean norm of every filter.

    Args:
        vector: 1D tensor of shape (n,).
        layout: The order of the flat vectors.

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
    pieces = _pieces(vector, layout, "vector")
    return np.concatenate([_norms(tensor, entry.filter_axes).reshape(-1) for entry, tensor in pieces])


def norm_ratios(direction: Tensor, center: Tensor, layout: Layout) -> NDArray[np.float64]:
    """‖d_f‖/‖θ_f‖ of every filter: 1 everywhere after filter normalization, 0 where ignored.

    Args:
        direction: 1D tensor of shape (n,).
        center: 1D tensor of shape (n,).
        layout: The order of the flat vectors.

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


def _pieces(vector: Tensor, layout: Layout, where: str) -> Iterator[tuple[Entry, NDArray[np.float64]]]:
    """Every tensor as a float64 array in its filter view, one at a time."""
    layout.check(vector, where=where)
    array = vector.detach().cpu().numpy()
    for entry in layout.entries:
        yield entry, array[entry.offset : entry.stop].astype(np.float64).reshape(entry.filter_view)


def _norms(tensor: NDArray[np.float64], filter_axes: tuple[int, ...]) -> NDArray[np.float64]:
    """Norms over all axes but these, kept as axes of length 1."""
    axes = tuple(axis for axis in range(tensor.ndim) if axis not in filter_axes)
    norms: NDArray[np.float64] = np.sqrt(np.sum(tensor * tensor, axis=axes, keepdims=True))
    return norms


def _scaled(
    entry: Entry, direction: NDArray[np.float64], center: NDArray[np.float64], how: Normalization
) -> NDArray[np.float64]:
    if how == "none":
        return direction
    if how == "weight":
        return direction * np.abs(center)
    axes = entry.filter_axes if how == "filter" else ()
    lengths, targets = _norms(direction, axes), _norms(center, axes)
    ratios = np.divide(targets, lengths, out=np.zeros_like(targets), where=lengths != 0)
    return direction * ratios
