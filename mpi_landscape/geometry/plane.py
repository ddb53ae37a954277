"""A plane of flat vectors: an affine map from coordinates to parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from mpi_landscape.geometry.layout import Layout


@dataclass(frozen=True, kw_only=True)
class Plane:
    """center + sum of coordinate * direction (Li et al. 2018, arXiv:1712.09913, equation 1)."""

    layout: Layout
    center: Tensor
    directions: Mapping[str, Tensor]
