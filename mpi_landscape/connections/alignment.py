"""The end of a path next to its start: the same function of its inputs, by other parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from mpi_landscape.errors import LandscapeError


def aligned(
    _model: nn.Module, _start: Mapping[str, Tensor], _end: Mapping[str, Tensor], _batch: Any
) -> dict[str, Tensor]:
    """The end with its units permuted so that its weights are near those of the start.

    Args:
        _model: The network, at the start.
        _start: Parameters and buffers by name.
        _end: Likewise.
        _batch: Some examples, collated, for tracing.

    Raises:
        LandscapeError: It is not known how.
    """
    raise LandscapeError("connect.align: permutation is not known yet; valid is none")
