"""The losses of a placed problem with any parameters: one pass over every split, wherever its network is put."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

import numpy as np
from torch import Tensor

from mpi_landscape.evaluation.anywhere import Anywhere
from mpi_landscape.evaluation.sums import Floats
from mpi_landscape.placement.placing import Placed

# The split whose statistics batch normalization gets, where there is one of the name.
TRAINING = "train"


def anywhere(placed: Placed) -> Anywhere:
    """The problem's own network, to be put anywhere; to be entered with `with`."""
    return Anywhere(
        placed.problem.model,
        placed.problem.loss,
        threads=1 if placed.on_gpu else placed.threads,
        returned=placed.quantities.returned,
        gradients=placed.gradients,
    )


def training_split(placed: Placed) -> str:
    """The split over which `recomputed` statistics are gathered: `train`, or the first one."""
    return TRAINING if TRAINING in placed.splits else next(iter(placed.splits))


def recompute(
    network: Anywhere, placed: Placed, between: Callable[[], None] | None = None
) -> dict[str, Tensor]:
    """Give normalizations the statistics of the whole training split where the network is now, and return them.

    Raises:
        LandscapeError: A module gathers them in a way of its own, or the network raised for a batch.
    """
    examples = placed.splits[training_split(placed)]
    with placed.precision.computing(), closing(examples.pieces(0, examples.num_batches, between)) as pieces:
        return network.recompute_statistics(pieces, between)


def rows_of_splits(network: Anywhere, placed: Placed, between: Callable[[], None] | None = None) -> Floats:
    """(num_splits, num_columns) float64: the sums of every split where the network is now; `placed.quantities.values` reads them.

    Raises:
        LandscapeError: The network or the loss raised for a batch.
    """
    rows = []
    for examples in placed.splits.values():
        with (
            placed.precision.computing(),
            closing(examples.pieces(0, examples.num_batches, between)) as pieces,
        ):
            rows.append(network.sums(pieces, between))
    return np.stack(rows)
