"""The right number: the user's own network and loss, moved in place.

The loss at a point is what the user's objects give in one process and one thread when the parameters are set, in the memory that
they have, to θ* + αδ + βη, and the loss is called on the data in order. Nothing is copied and nothing rewired: a closure, a hook,
a view, a second name for the same memory see the point as the network does. Everything faster is compared with this.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from torch import nn

from mpi_landscape.errors import LandscapeError
from mpi_landscape.evaluation.calling import call, is_out_of_memory, raised, sizes_taken
from mpi_landscape.evaluation.engine.description import PLAIN, Engine
from mpi_landscape.evaluation.moves import Moves, write
from mpi_landscape.evaluation.sums import NUM_SUMS, Floats, add_in_order, example_sums
from mpi_landscape.evaluation.vectors import Point, check_point
from mpi_landscape.loading.batches import Batch
from mpi_landscape.loading.results import LossFunction, losses_of
from mpi_landscape.loading.sharing import Pause


class Reference:
    """The loss at points of a plane, by the network that the user gave; as `Evaluator`, whose place it takes.

    Between two calls the network is at the center, bit for bit, whatever a call raised.

    Args:
        model: The network at the center, in evaluation mode, where it is to be evaluated.
        loss: As for `Evaluator`.
        moves: How it gets to a point and back.
        returned: Names of the further numbers per example that are summed, too.
        gradients: Whether the loss takes derivatives itself.

    Raises:
        LandscapeError: A parameter cannot be written to.

    Example:
        >>> import torch
        >>> from mpi_landscape.evaluation.moves import InPlace
        >>> from mpi_landscape.geometry.layout import layout_of
        >>> model = nn.Linear(1, 1, bias=False)
        >>> _ = model.weight.data.fill_(3)
        >>> view = model.weight.data  # another way to the parameter
        >>> moves = InPlace(model, layout_of(model), torch.tensor([3.0]), [torch.tensor([2.0])])
        >>> reference = Reference(model, lambda model, x: (view * x)[:, 0], moves)
        >>> reference.example_losses(Batch(data=torch.tensor([[1.0], [10.0]]), valid=2), (0.5,)), model.weight.item()
        (array([ 4., 40.]), 3.0)
    """

    def __init__(
        self,
        model: nn.Module,
        loss: LossFunction,
        moves: Moves,
        *,
        returned: Sequence[str] = (),
        gradients: bool = False,
    ) -> None:
        self._model, self._loss, self._gradients = model, loss, gradients
        self._returned = tuple(returned)
        self._moves, self._point, self._here = moves, tuple[float, ...](), tuple[float, ...]()

    def __enter__(self) -> Reference:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    @property
    def engine(self) -> Engine:
        """None of its steps."""
        return PLAIN

    @property
    def network(self) -> nn.Module:
        """The user's network."""
        return self._model

    @contextmanager
    def at(self, point: Point) -> Iterator[nn.Module]:
        """The network at a point, until the end of the `with`; then it is at the center again.

        Raises:
            LandscapeError: The point lies off the plane, or a parameter cannot be written to.
        """
        self.check(point)
        here, self._here = self._here, tuple(point)
        buffers = [(each, each.detach().clone()) for each in self._model.buffers()]
        try:
            self._moves.go(point)
            yield self._model
        finally:
            self._here = here
            self._moves.back()
            moved = {id(tensor) for tensor in self._moves.tensors}
            for buffer, before in buffers:
                if id(buffer) not in moved:
                    write("buffer", buffer, before)

    def check(self, point: Point) -> None:
        """Refuse a point off the plane.

        Raises:
            LandscapeError: A coordinate that is not zero has no direction.
        """
        check_point(point, self._moves.number)

    def move(self, *coordinates: float) -> None:
        """The point of `batch_sums`."""
        self.check(coordinates)
        self._point = coordinates

    def batch_sums(self, batches: Sequence[Batch], between: Pause | None = None) -> Floats:
        """(len(batches), NUM_SUMS + len(returned)) float64 at the current point; as `Evaluator.batch_sums`."""
        with self.at(self._point):
            return self._sums(batches, between)

    def example_losses(self, batch: Batch, point: Point) -> Floats:
        """(batch.valid,) float64: the loss of every example of a batch at one point."""
        return self.losses([batch], point)

    def losses(self, batches: Iterable[Batch], point: Point) -> Floats:
        """The loss of every example of some batches at one point, float64, in their order."""
        with self.at(point):
            return self.losses_here(batches)

    def losses_here(self, batches: Iterable[Batch]) -> Floats:
        """The loss of every example of some batches by the network as it is now, float64, in their order."""
        parts = []
        for batch in batches:
            result = self._result(batch)
            parts.append(losses_of(result)[: batch.valid].double().cpu().numpy())
        return np.concatenate(parts)

    def tile(
        self, pieces: Iterable[Sequence[Batch]], points: Sequence[Point], between: Pause | None = None
    ) -> Floats:
        """(len(points), NUM_SUMS + len(returned)) float64: sums over the batches at several points; as `Evaluator.tile`."""
        sums = np.zeros((len(points), NUM_SUMS + len(self._returned)))
        for piece in pieces:
            for row, point in enumerate(points):
                with self.at(point):
                    found = self._sums(piece, between)
                sums[row] = add_in_order(np.concatenate([sums[row : row + 1], found]))
        return sums

    def _result(self, batch: Batch) -> Any:
        """What the loss returns for a batch, by the network as it is now.

        Raises:
            LandscapeError: It raised something, which the text says, and where.
        """
        try:
            return call(self._loss, self._model, batch.data, gradients=self._gradients)
        except LandscapeError:
            raise
        except Exception as error:
            if is_out_of_memory(error):
                raise
            sizes = (
                ""
                if any(self._here)
                else sizes_taken(self._loss, self._model, batch.data, gradients=self._gradients)
            )
            raise raised(error, batch.data, self._here, sizes=sizes) from error

    def _sums(self, batches: Sequence[Batch], between: Pause | None) -> Floats:
        rows = np.zeros((len(batches), NUM_SUMS + len(self._returned)))
        for number, batch in enumerate(batches):
            rows[number] = example_sums(self._result(batch), batch.valid, self._returned).cpu().numpy()
            if between is not None:
                between()
        return rows
