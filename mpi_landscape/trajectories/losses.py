"""The losses of a trajectory: of each checkpoint as it is, and of the point of the plane that is nearest to it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mpi_landscape.evaluation.anywhere import Anywhere
from mpi_landscape.evaluation.calling import is_out_of_memory
from mpi_landscape.placement.anywhere import anywhere, recompute, rows_of_splits
from mpi_landscape.placement.columns import state_of
from mpi_landscape.placement.memory import out_of_memory
from mpi_landscape.placement.placing import Placed
from mpi_landscape.plan.quantities import Quantities, units_of
from mpi_landscape.trajectories.axes import Located
from mpi_landscape.trajectories.request import Request

IN_PLANE = "_in_plane"


@dataclass(frozen=True, kw_only=True)
class Losses:
    """Of the checkpoints of a request; a resource that is closed at the end of `with`.

    Attributes:
        request: What was asked for.
        placed: The problem on its device.
        network: It, to be put anywhere.
        located: Where the checkpoints are; None where only the cost is asked for.
    """

    request: Request
    placed: Placed
    network: Anywhere
    located: Located | None

    def __enter__(self) -> Losses:
        self.network.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self.network.__exit__(*error)

    @property
    def quantities(self) -> Quantities:
        """What is known of a checkpoint."""
        return summable(self.placed.quantities)

    def row(self, item: int, between: Callable[[], None]) -> NDArray[np.float64]:
        """(2, num_splits, num_columns) float64: sums at a checkpoint, and at its place in the plane.

        Raises:
            LandscapeError: Memory does not suffice, or the network or the loss raises.
        """
        path = self.request.paths[item]
        try:
            # What a checkpoint does not hold, such as a buffer that is not saved, is that of the center.
            self.network.put_back()
            self.network.put(state_of(self.placed.problem.model, self.request.source(path)))
            true = rows_of_splits(self.network, self.placed, between)
            self.network.put_back()
            self._put_in_plane(item)
            if self.request.compute.batch_norm == "recomputed":
                recompute(self.network, self.placed, between)
            return np.stack([true, rows_of_splits(self.network, self.placed, between)])
        except Exception as error:
            if is_out_of_memory(error):
                raise out_of_memory(error, f"checkpoint {path}", self.placed.batch_size) from error
            raise

    def _put_in_plane(self, item: int) -> None:
        """Go to a checkpoint's place in the plane, from the center and with its statistics, as a surface does."""
        assert self.located is not None
        plane, coordinates = self.located.plane, self.located.coordinates[item]
        wide = torch.float64 if self.placed.precision.data == torch.float64 else torch.float32
        vector = plane.center.to(wide, copy=True)
        for coordinate, direction in zip(coordinates.tolist(), plane.directions.values(), strict=True):
            vector.add_(direction.to(wide), alpha=coordinate)
        self.network.put(plane.layout.views(vector))

    def seconds(self) -> float:
        """What a checkpoint takes this rank, from a batch for each of its threads."""
        total = 0.0
        for examples in self.placed.splits.values():
            count = min(max(1, self.placed.threads), examples.num_batches)
            start = time.perf_counter()
            with self.placed.precision.computing(), closing(examples.pieces(0, count)) as pieces:
                self.network.sums(pieces)
            total += (time.perf_counter() - start) * examples.num_batches / count
        return 2 * total


def losses_of(request: Request, placed: Placed, located: Located | None) -> Losses:
    """What evaluates them; to be entered with `with`."""
    return Losses(request=request, placed=placed, network=anywhere(placed), located=located)


def summable(quantities: Quantities) -> Quantities:
    """Those of them that are sums over examples."""
    return replace(quantities, computed=())


def columns_of(quantities: Quantities, splits: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of a row's numbers."""
    return tuple(
        f"{split}_{column}{place}"
        for place in ("", IN_PLANE)
        for split in splits
        for column in quantities.columns
    )


def results_of(quantities: Quantities, splits: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """What a row makes known, by dataset: units and meaning."""
    found = {}
    for split in splits:
        for kind in quantities.kinds:
            units, words = units_of(kind, quantities.loss_units), f"{split} {kind.replace('_', ' ')}"
            found[f"trajectory/{split}_{kind}"] = (units, f"{words} of the checkpoint")
            found[f"trajectory/{split}_{kind}{IN_PLANE}"] = (units, f"{words} at its place in the plane")
    return found


def values_of(
    quantities: Quantities, splits: Mapping[str, Any], row: NDArray[np.float64]
) -> dict[str, float]:
    """The results of a row, by dataset."""
    sums = row.reshape(2, len(splits), len(quantities.columns))
    return {
        f"trajectory/{split}_{kind}{place}": float(value)
        for place, of_place in zip(("", IN_PLANE), sums, strict=True)
        for split, of_split in zip(splits, of_place, strict=True)
        for kind, value in quantities.values(of_split).items()
    }
