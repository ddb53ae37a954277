"""Quantities that are computed at a point besides the sums of the loss, each in a module of its own."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from torch import nn

from mpi_landscape.evaluation.gradient_norm import GradientNorm, check_differentiable
from mpi_landscape.evaluation.sums import Floats
from mpi_landscape.evaluation.vectors import Point
from mpi_landscape.loading.batches import Batch
from mpi_landscape.loading.results import LossFunction
from mpi_landscape.loading.sharing import Pause

# Gives the batches of a split from the first on, each time that it is called.
Pieces = Callable[[], Generator[Sequence[Batch], None, None]]
# Bytes that the points of a tile may take at once.
_MOST_BYTES = 2**28


class Computing(Protocol):
    """Computes columns of a tile's rows in one pass; a resource that is closed at the end of `with`."""

    bytes_per_point: int

    def __enter__(self) -> Any: ...

    def __exit__(self, *_: object) -> None: ...

    def row(
        self, pieces: Iterable[Sequence[Batch]], points: Sequence[Point], between: Pause | None = None
    ) -> Floats:
        """(len(points), columns) float64 over all batches of a split."""


@runtime_checkable
class Rereading(Protocol):
    """Likewise, but reads the data as often as it likes, and says itself how long that takes."""

    def __enter__(self) -> Any: ...

    def __exit__(self, *_: object) -> None: ...

    def row(self, pieces: Pieces, points: Sequence[Point], between: Pause | None = None) -> Floats:
        """(len(points), columns) float64 over all batches of a split."""

    def seconds(self, pieces: Pieces) -> float:
        """What a point is expected to take with these batches."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """How a quantity is computed.

    Attributes:
        made: Makes what computes it, from the arguments of `Evaluator` but for its engine.
        check: Tries loss and network on a batch; raises a `LandscapeError` where the quantity cannot be computed.
    """

    made: Callable[..., Computing]
    check: Callable[[LossFunction, nn.Module, Batch], None]


# By the names of `vocabulary.COMPUTED`, but for those of the Hessian, which are found together.
KINDS: Mapping[str, Kind] = {"gradient_norm": Kind(made=GradientNorm, check=check_differentiable)}


def columns(
    computing: Computing | Rereading,
    pieces: Pieces,
    points: Sequence[Point],
    between: Pause | None = None,
    *,
    losses: Floats | None = None,
) -> Floats:
    """(len(points), columns) float64 of what is computed at any number of points, as many at once as memory should hold.

    What reads the data again and again does so only where `losses`, (len(points),), are finite; elsewhere it is NaN.
    """
    if isinstance(computing, Rereading):
        usable = np.full(len(points), True) if losses is None else np.isfinite(losses)
        found = computing.row(pieces, [points[place] for place in np.flatnonzero(usable).tolist()], between)
        row: Floats = np.full((len(points), found.shape[1]), np.nan)
        row[usable] = found
        return row
    size = max(1, _MOST_BYTES // max(1, computing.bytes_per_point))
    parts = []
    for start in range(0, len(points), size):
        # Closed in any case: data that stream have threads, which would go on reading after a stop.
        with closing(pieces()) as batches:
            parts.append(computing.row(batches, points[start : start + size], between))
    return np.concatenate(parts)
