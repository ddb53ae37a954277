"""The plain network on a few real examples: what engines are tried on, and compared with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mpi_landscape.evaluation.conversion import converted
from mpi_landscape.evaluation.engine.description import PLAIN, Engine
from mpi_landscape.evaluation.evaluator import Evaluator
from mpi_landscape.evaluation.replica import attach, network_on, sharing_copy
from mpi_landscape.evaluation.sums import Floats, example_sums
from mpi_landscape.evaluation.vectors import Point, row_blocks
from mpi_landscape.geometry.layout import Layout, empty_vector
from mpi_landscape.loading import nests
from mpi_landscape.loading.batches import Batch
from mpi_landscape.loading.results import LossFunction

# Relative, of the loss summed over the examples tried. Another order of float32 additions stays below it except where the
# loss itself is rounding; there float64 says which of the two is nearer.
TOLERANCES = {torch.float32: 1e-5, torch.float64: 1e-11}
# As many examples as show a difference; a network of a hundred layers takes seconds for more.
MOST_EXAMPLES = 32


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What an evaluation needs besides its engine; see `Evaluator`."""

    model: nn.Module
    loss: LossFunction
    layout: Layout
    center: Tensor
    directions: Sequence[Tensor]
    device: torch.device

    def sums(
        self, engine: Engine, dtype: torch.dtype, batches: Sequence[Batch], points: Sequence[Point]
    ) -> Floats:
        """(len(points), NUM_SUMS) of these batches by an evaluator of its own."""
        given = (self.model, self.loss, self.layout, self.center, self.directions)
        with Evaluator(*given, device=self.device, dtype=dtype, engine=engine) as evaluator:
            return evaluator.tile([batches], points)

    def network_at(self, point: Point, dtype: torch.dtype) -> nn.Module:
        """The plain network at a point; directions stay in the type that they have."""
        vector = empty_vector(self.layout.size, dtype, self.device).copy_(self.center)
        for coordinate, direction in zip(point, self.directions, strict=False):
            if coordinate != 0:
                for block, step in zip(row_blocks(vector), row_blocks(direction), strict=True):
                    block.add_(step.to(block), alpha=coordinate)
        network = sharing_copy(self.model)
        attach(network, self.layout.views(vector))
        return converted(network.to(self.device), dtype).eval()


class NetworkProbe:
    """A `Probe` for the steps: the plain network at a few points on a few examples, which have the type `dtype`."""

    def __init__(self, setting: Setting, batch: Batch, points: Sequence[Point], dtype: torch.dtype) -> None:
        self._setting, self._batch, self._points = setting, batch, points
        self.layout, self.directions = setting.layout, setting.directions
        self.device, self.dtype = setting.device, dtype

    @cached_property
    def network(self) -> nn.Module:
        """The network at the center."""
        return network_on(self._setting.model, self.device, self.dtype)

    def run(self, network: nn.Module) -> Any:
        """The loss of the examples."""
        return self._setting.loss(network, self._batch.data)

    def elsewhere(self) -> nn.Module:
        """A network that differs from it in every parameter."""
        network = self._setting.network_at((), self.dtype)
        for parameter in network.parameters():
            parameter.data.add_(0.5)
        return network

    def objection(self, engine: Engine) -> str | None:
        """Why an engine is not to be used; None if its sums are those of the plain network."""
        tolerance = TOLERANCES[self.dtype]
        found = self._setting.sums(engine, self.dtype, [self._batch], self._points)
        for point, one, other in zip(self._points, found, self._plain, strict=True):
            if np.array_equal(np.isfinite(one), np.isfinite(other)) and _close(one, other, tolerance):
                continue
            exact = self._exact(point)
            # Rounding may be as large where losses are large or tiny; it is then as large in the plain network.
            if exact is None or not _close(one, exact, tolerance, slack=4 * np.abs(other - exact)):
                return f"at {point} the loss is {one[0] / one[2]:.9g}, of the plain network {other[0] / other[2]:.9g}"
        return None

    @cached_property
    def _plain(self) -> Floats:
        return self._setting.sums(PLAIN, self.dtype, [self._batch], self._points)

    def _exact(self, point: Point) -> Floats | None:
        """In float64; None where that cannot be had, or where it is what is being checked."""
        if self.dtype == torch.float64:
            return None
        data = nests.map_tensors(lambda t: t.double() if t.is_floating_point() else t, self._batch.data)
        try:
            with torch.no_grad():
                result = self._setting.loss(self._setting.network_at(point, torch.float64), data)
            exact: Floats = example_sums(result, self._batch.valid).cpu().numpy()
        except Exception:  # a network that insists on float32
            return None
        return exact if np.isfinite(exact[[0, 3]]).all() else None


def _close(one: Floats, other: Floats, tolerance: float, slack: Any = 0.0) -> bool:
    """Whether loss sums and sums of squares agree; correct counts may differ where two outputs are equal."""
    slack = np.broadcast_to(slack, one.shape)
    columns = [0, 3]
    with np.errstate(invalid="ignore"):
        gap = np.abs(one - other)[columns]
        allowed = (tolerance * np.abs(other) + slack)[columns]
        same = (gap <= allowed) | (one == other)[columns] | ~np.isfinite(other)[columns]
    return bool(same.all())


def fewer(batch: Batch, most: int = MOST_EXAMPLES) -> Batch:
    """The first examples of a batch."""
    count = min(batch.valid, most)
    return Batch(data=nests.rows(batch.data, 0, count), valid=count)


def probe_points(axes: Sequence[tuple[float, float]]) -> list[Point]:
    """Where engines are compared on axes of (min, max): the center, a corner, and a place between off the diagonal."""
    corner = tuple(axis[1 - number] for number, axis in enumerate(axes))
    between = tuple((0.4, 0.3)[number] * axis[number] for number, axis in enumerate(axes))
    return [(0.0,) * len(axes), corner, between]
