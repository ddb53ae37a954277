"""The user's network on a few real examples: what engines are tried on, and compared with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mpi_landscape.evaluation.calling import call
from mpi_landscape.evaluation.engine.description import Engine
from mpi_landscape.evaluation.evaluator import Evaluator
from mpi_landscape.evaluation.lending import moved_to
from mpi_landscape.evaluation.moves import InPieces, InPlace
from mpi_landscape.evaluation.reference import Reference
from mpi_landscape.evaluation.replica import attach, in_type, network_on, sharing_copy
from mpi_landscape.evaluation.sums import Floats
from mpi_landscape.evaluation.vectors import Point, row_blocks
from mpi_landscape.geometry.kept import KeptPlane
from mpi_landscape.geometry.layout import Layout, empty_vector
from mpi_landscape.loading import nests
from mpi_landscape.loading.batches import Batch, Examples
from mpi_landscape.loading.results import LossFunction
from mpi_landscape.wording import rounded

# Relative, of an example's loss or of the mean where that is larger. Another order of float32 additions stays below it except
# where the loss itself is rounding; there float64 says which of the two is nearer.
TOLERANCES = {torch.float32: 1e-5, torch.float64: 1e-11}
# Of the network itself in float32: beyond this, float64 is not another rounding of the same thing but something else.
_ROUNDING = 1e-3
# As many examples as show a difference; a network of a hundred layers takes seconds for more.
MOST_EXAMPLES = 32
# Points at which engines are compared.
NUM_POINTS = 10


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What an evaluation needs besides its engine; see `Evaluator`.

    Attributes:
        gradients: Whether the loss takes derivatives itself.
        returned: Names of the loss's further numbers.
        kept: The plane of a network whose tensors keep their types: it is moved itself, and there are no flat vectors.
        threads: That move it then.
    """

    model: nn.Module
    loss: LossFunction
    layout: Layout
    center: Tensor = field(default_factory=lambda: torch.empty(0))
    directions: Sequence[Tensor] = ()
    device: torch.device
    gradients: bool = False
    returned: tuple[str, ...] = ()
    kept: KeptPlane | None = None
    threads: int = 1

    def evaluator(
        self, engine: Engine, dtype: torch.dtype, *, threads: int = 1, points_at_once: int = 1
    ) -> Evaluator:
        """A fast evaluator with an engine, which the caller closes."""
        return Evaluator(
            self.model, self.loss, self.layout, self.center, self.directions,
            device=self.device, dtype=dtype, threads=threads, engine=engine, points_at_once=points_at_once,
            returned=self.returned, gradients=self.gradients,
        )  # fmt: skip

    def reference(self) -> Reference:
        """The network itself, moved in place."""
        moves = (
            InPlace(self.model, self.layout, self.center, self.directions)
            if self.kept is None
            else InPieces(self.model, self.kept, threads=self.threads)
        )
        return Reference(self.model, self.loss, moves, returned=self.returned, gradients=self.gradients)

    def sums(
        self, engine: Engine, dtype: torch.dtype, batches: Sequence[Batch], points: Sequence[Point]
    ) -> Floats:
        """(len(points), NUM_SUMS + further) of these batches by an evaluator of its own."""
        with self.evaluator(engine, dtype) as evaluator:
            return evaluator.tile([batches], points)

    def network_at(self, point: Point, dtype: torch.dtype) -> nn.Module:
        """A copy of the network at a point; directions stay in the type that they have."""
        vector = empty_vector(self.layout.size, dtype, self.device).copy_(self.center)
        for coordinate, direction in zip(point, self.directions, strict=False):
            if coordinate != 0:
                for block, step in zip(row_blocks(vector), row_blocks(direction), strict=True):
                    block.add_(step.to(block), alpha=coordinate)
        network = sharing_copy(self.model)
        attach(network, self.layout.views(vector))
        return in_type(network, self.device, dtype)


class NetworkProbe:
    """A `Probe` for the steps: the network at a few points on a few examples, which have the type `dtype`."""

    def __init__(
        self, setting: Setting, batches: Sequence[Batch], points: Sequence[Point], dtype: torch.dtype
    ) -> None:
        self._setting, self._batches, self._points = setting, list(batches), list(points)
        self.layout, self.directions = setting.layout, setting.directions
        self.device, self.dtype, self.gradients = setting.device, dtype, setting.gradients

    @cached_property
    def network(self) -> nn.Module:
        """A copy of the network at the center."""
        return network_on(self._setting.model, self.device, self.dtype)

    def run(self, network: nn.Module) -> Any:
        """The loss of the examples."""
        return [
            call(self._setting.loss, network, batch.data, gradients=self._setting.gradients)
            for batch in self._batches[:1]
        ]

    def elsewhere(self) -> nn.Module:
        """A network that differs from it in every parameter."""
        network = self._setting.network_at((), self.dtype)
        for parameter in network.parameters():
            parameter.data.add_(0.5)
        return network

    def objection(self, engine: Engine, *, threads: int = 1) -> str | None:
        """Why an engine is not to be used; None if every example's loss is that of the network itself, at every point."""
        with self._setting.evaluator(engine, self.dtype, threads=threads) as evaluator:
            # In another order than the network's own, and along the path of a tile, whose points share what they can.
            order = list(range(len(self._points)))[::-1]
            points = [self._points[place] for place in order]
            found = np.concatenate(
                [evaluator.losses_of_points(batch, points) for batch in self._batches], axis=1
            )
            objection = self._compared(order, found)
            if objection is None:
                objection = self._compared_sums(evaluator, dict(zip(order, found, strict=True)))
        return objection

    def _compared(self, order: Sequence[int], found: Floats) -> str | None:
        for place, losses in zip(order, found, strict=True):
            wanted, point = self.wanted[place], self._points[place]
            wrong = differing(losses, wanted, TOLERANCES[self.dtype])
            if wrong is not None and self._is_rounding(place, losses):
                continue
            if wrong is not None:
                return (
                    f"at {rounded(point)} the loss of an example is {losses[wrong]:.9g}, of the network "
                    f"itself {wanted[wrong]:.9g}"
                )
        return None

    def _compared_sums(self, evaluator: Evaluator, found: Mapping[int, Floats]) -> str | None:
        """The sums of a tile, at two of the points: they are made in another way than the losses of examples."""
        chosen = [len(self._points) - 1, 0]
        tile = evaluator.tile([self._batches], [self._points[place] for place in chosen])
        for place, sums in zip(chosen, tile, strict=True):
            losses = found[place]
            if not np.isfinite(losses).all():
                continue
            allowed = TOLERANCES[self.dtype] * float(np.sum(np.abs(losses)))
            if not abs(sums[0] - float(np.sum(losses))) <= allowed or sums[2] != self._number:
                return f"at {self._points[place]} the sum of losses is {sums[0]:.9g}, of its examples {np.sum(losses):.9g}"
        return None

    @cached_property
    def _number(self) -> float:
        """What the sums are divided by: the examples, or by how much they count."""
        with moved_to(self._setting.model, self.device, self.dtype):
            sums = self._setting.reference().tile([self._batches], [self._points[0]])
        return float(sums[0, 2])

    @cached_property
    def wanted(self) -> Floats:
        """(points, examples) float64: the right losses."""
        with moved_to(self._setting.model, self.device, self.dtype):
            reference = self._setting.reference()
            return np.stack([reference.losses(self._batches, point) for point in self._points])

    def _is_rounding(self, place: int, losses: Floats) -> bool:
        """Whether the network in float64 says that rounding alone is as large as the difference."""
        exact = (
            self._exact.get(place)
            if place in self._exact
            else self._exact.setdefault(place, self._in_double(place))
        )
        if exact is None:
            return False
        wanted, scale = self.wanted[place], _scale(exact)
        with np.errstate(invalid="ignore"):
            rounding = np.abs(wanted - exact)
            allowed = TOLERANCES[self.dtype] * scale + 4 * rounding
            return bool(np.all(rounding <= _ROUNDING * scale) and np.all(np.abs(losses - exact) <= allowed))

    @cached_property
    def _exact(self) -> dict[int, Floats | None]:
        return {}

    def _in_double(self, place: int) -> Floats | None:
        """The losses in float64; None where that cannot be had, or where it is what is being checked."""
        if self.dtype == torch.float64:
            return None
        return losses_in(torch.float64, self._setting, self._batches, self._points[place])


def losses_in(dtype: torch.dtype, setting: Setting, batches: Sequence[Batch], point: Point) -> Floats | None:
    """The loss of every example at a point by the network itself in a type; None where it cannot be had, or is not finite."""
    try:
        with moved_to(setting.model, setting.device, dtype):
            found = setting.reference().losses(in_type_of(dtype, batches), point)
    except Exception:  # a network that insists on its own
        return None
    return found if np.isfinite(found).all() else None


def in_type_of(dtype: torch.dtype, batches: Iterable[Batch]) -> Iterator[Batch]:
    """The same with floating-point numbers in a type."""
    for batch in batches:
        data = nests.map_tensors(lambda t: t.to(dtype) if t.is_floating_point() else t, batch.data)
        yield Batch(data=data, valid=batch.valid)


def differing(found: Floats, wanted: Floats, tolerance: float) -> int | None:
    """The example whose loss differs most, of those beyond the tolerance; None where there is none.

    Args:
        found: (N,) losses.
        wanted: (N,) the right ones.
        tolerance: Relative, of an example's loss or of the mean where that is larger.

    Example:
        >>> differing(np.array([1.0, 5.0, 0.1]), np.array([1.0, 5.1, 0.1000001]), 1e-5)
        1
    """
    with np.errstate(invalid="ignore", over="ignore"):
        gap = np.abs(found - wanted) / (tolerance * _scale(wanted))
    both = np.isfinite(found) & np.isfinite(wanted)
    same = (found == wanted) | (np.isnan(found) & np.isnan(wanted))
    gap = np.where(same, 0.0, np.where(both, gap, np.inf))
    worst = int(np.argmax(gap))
    return worst if gap[worst] > 1 else None


def _scale(losses: Floats) -> Floats:
    """(N,) what a difference is relative to."""
    finite = np.abs(losses[np.isfinite(losses)])
    mean = float(finite.mean()) if finite.size else 0.0
    scale: Floats = np.maximum(np.maximum(np.abs(losses), mean), np.finfo(np.float32).tiny)
    return scale


def fewer(batch: Batch, most: int = MOST_EXAMPLES) -> Batch:
    """The first examples of a batch."""
    count = min(batch.valid, most)
    return Batch(data=nests.rows(batch.data, 0, count), valid=count)


def trial_examples(examples: Examples, most: int = MOST_EXAMPLES) -> list[int]:
    """A few examples from all of a split, evenly spaced."""
    return nests.evenly_spaced(examples.num_examples, most)


def grouped(examples: Examples, indices: Sequence[int], size: int, most: int) -> list[Batch]:
    """Batches of so many of these examples, `most` at most."""
    size = max(1, min(size, most))
    parts = [indices[start : start + size] for start in range(0, len(indices), size)]
    return [Batch(data=examples.together(part), valid=len(part)) for part in parts]


def probe_points(axes: Sequence[tuple[float, float]], number: int = NUM_POINTS) -> list[Point]:
    """Where engines are compared on axes of (min, max): center, corners, edges, and places between."""
    corner = tuple(axis[1 - place] for place, axis in enumerate(axes))
    between = tuple((0.4, 0.3)[place] * axis[place] for place, axis in enumerate(axes))
    low, high = np.array(axes, dtype=float).T
    corners = list(product(*axes))
    draws = np.random.default_rng(0).uniform(size=(number, len(axes)))
    # No difference of the ends: it may be beyond float64.
    inner = [tuple(((1 - draw) * low + draw * high).tolist()) for draw in draws]
    # One coordinate on an edge.
    inner[::3] = [(axes[0][0], *point[1:]) if len(axes) > 1 else point for point in inner[::3]]
    found = dict.fromkeys([(0.0,) * len(axes), corner, between, *corners, *inner])
    return list(found)[:number]
