"""The loss at many points: one network, one flat vector, resident data."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from types import TracebackType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mpi_landscape.errors import LandscapeError
from mpi_landscape.evaluation.resident import Batch, one_line
from mpi_landscape.geometry.layout import Layout

# Loss sum, correct count, example count, sum of squared losses: what a mean and its standard error need.
NUM_SUMS = 4

LossFunction = Callable[[nn.Module, Any], Any]


class Evaluator:
    """Sums of the loss over batches, at any point center + alpha * d1 + beta * d2 (Li et al. 2018, equation 1).

    The network is a copy whose parameters are views of one flat vector, so that moving is vector arithmetic, always
    from the center. Cores are kept busy with one batch per thread, each thread with a copy of the network's modules
    that shares its parameters: the shapes of every operation, and so the bits, do not depend on the number of
    threads (within `exact_arithmetic`, which keeps the caller's own operations on one thread, too).

    Args:
        model: Any network; it is copied and left untouched. Put into evaluation mode.
        loss: Called as `loss(model, batch)`; one value per example, or a mapping with `loss` and perhaps `correct`.
        layout: The order of the flat vector.
        center: (n,) the trained parameters.
        directions: One or two rows of shape (n,).
        device: Where to compute.
        dtype: torch.float32 or torch.float64.
        threads: Batches evaluated at once; 1 on a GPU.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: LossFunction,
        layout: Layout,
        center: Tensor,
        directions: Sequence[Tensor],
        *,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
        threads: int = 1,
    ) -> None:
        self._loss = loss
        self._device = device
        self._center = center.to(device, dtype)
        self._directions = [direction.to(device, dtype) for direction in directions]
        self._point = self._center.clone()
        network = own_copy(model).to(device=device, dtype=dtype).eval()
        attach(network, layout.views(self._point))
        self._networks = [network]
        if device.type == "cpu":
            self._networks += [_sharing_copy(network) for _ in range(threads - 1)]
        # OpenMP keeps the number per thread: set where they start, the caller's own stays as it is.
        self._pool = ThreadPoolExecutor(
            max_workers=max(1, len(self._networks) - 1), initializer=torch.set_num_threads, initargs=(1,)
        )
        self._cancelled = threading.Event()

    def __enter__(self) -> Evaluator:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown()

    @property
    def network(self) -> nn.Module:
        """The network at the current point."""
        return self._networks[0]

    def move(self, *coordinates: float) -> None:
        """Go to center + sum of coordinate * direction.

        Args:
            coordinates: One per direction; a missing or zero one leaves its direction out, so that (0, 0) is the
                center bit for bit, even where a direction holds an infinite value.

        Raises:
            LandscapeError: A coordinate that is not zero has no direction.
        """
        if any(coordinates[len(self._directions) :]):
            raise LandscapeError(
                f"point {coordinates} lies off the {len(self._directions)} direction(s) of this evaluator; "
                f"valid is one coordinate per direction"
            )
        self._point.copy_(self._center)
        for coordinate, direction in zip(coordinates, self._directions, strict=False):
            if coordinate != 0:
                self._point.add_(direction, alpha=coordinate)

    def batch_sums(
        self, batches: Sequence[Batch], between: Callable[[], None] | None = None
    ) -> NDArray[np.float64]:
        """Loss sum, correct count, example count and sum of squared losses of each batch at the current point.

        Args:
            batches: Any of a split's batches.
            between: Called in the caller's thread after each batch of its own; what it raises ends the
                evaluation, after which this evaluator can be used again.

        Returns:
            (len(batches), NUM_SUMS) float64; the correct count is NaN where the loss gives none.

        Raises:
            Exception: What the network, the loss or `between` raised, in whichever thread.
        """
        results: list[Tensor | None] = [None] * len(batches)
        todo = iter(range(len(batches)))  # shared by all threads: next() on it is atomic
        self._cancelled.clear()
        helpers = [
            self._pool.submit(self._sweep, network, batches, todo, results, None)
            for network in self._networks[1 : len(batches)]
        ]
        try:
            self._sweep(self._networks[0], batches, todo, results, between)
            for helper in helpers:
                helper.result()
        except BaseException:
            self._cancelled.set()
            raise
        finally:
            wait(helpers)
        # One transfer per point: on a GPU nothing waits for a batch.
        return torch.stack([row for row in results if row is not None]).cpu().numpy()

    def tile(
        self,
        pieces: Iterable[Sequence[Batch]],
        points: Sequence[tuple[float, ...]],
        between: Callable[[], None] | None = None,
    ) -> NDArray[np.float64]:
        """Sums over the batches at each of several points, added in the order of the batches.

        Args:
            pieces: One shard of a split, as `Examples.pieces` gives it: each piece is used for all points before the next
                one is taken.
            points: Coordinates, one tuple per point.
            between: As for `batch_sums`.

        Returns:
            (len(points), NUM_SUMS) float64: loss sum, correct count, example count, sum of squared losses.
        """
        sums = np.empty((len(points), 0, NUM_SUMS))
        for piece in pieces:
            running = np.empty((len(points), 1, NUM_SUMS))
            for row, coordinates in enumerate(points):
                self.move(*coordinates)
                # The sums so far come first: where a piece ends leaves no trace.
                running[row] = add_in_order(np.concatenate([sums[row], self.batch_sums(piece, between)]))
            sums = running
        return sums[:, 0]

    def _sweep(
        self,
        network: nn.Module,
        batches: Sequence[Batch],
        todo: Iterator[int],
        results: list[Tensor | None],
        between: Callable[[], None] | None,
    ) -> None:
        try:
            with torch.no_grad():
                for index in todo:
                    if self._cancelled.is_set():
                        return
                    result = self._loss(network, batches[index].data)
                    results[index] = example_sums(result, batches[index].valid)
                    if between is not None:
                        between()
        except BaseException:
            self._cancelled.set()  # no other thread need finish what is lost
            raise


def example_sums(result: Any, valid: int) -> Tensor:
    """(NUM_SUMS,) float64: the sums over the first `valid` examples of what a loss function returned."""
    loss = result["loss"] if isinstance(result, Mapping) else result
    correct = result.get("correct") if isinstance(result, Mapping) else None
    counted = loss[:valid].double()
    total = counted.sum()
    right = total.new_full((), torch.nan) if correct is None else correct[:valid].sum(dtype=torch.float64)
    return torch.stack([total, right, total.new_full((), float(valid)), counted.square().sum()])


def add_in_order(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """The sum of rows, one after the other: numpy's own sum may add pairwise, in an order of its own."""
    with np.errstate(invalid="ignore", over="ignore"):
        return np.cumsum(rows, axis=0)[-1]  # type: ignore[no-any-return]


def attach(network: nn.Module, views: Mapping[str, Tensor]) -> None:
    """Make parameters and buffers of a network views of other memory.

    Args:
        network: Changed in place.
        views: Parameter or buffer name to a tensor of its shape, type and device.
    """
    parameters, buffers = dict(network.named_parameters()), dict(network.named_buffers())
    for name, view in views.items():
        target = parameters[name] if name in parameters else buffers[name]
        target.data = view


def own_copy(model: nn.Module) -> nn.Module:
    """A copy that shares nothing with the original.

    Raises:
        LandscapeError: The model does not support copying.
    """
    try:
        return copy.deepcopy(model)
    except Exception as error:
        raise LandscapeError(
            f"model: {type(model).__name__} cannot be copied ({type(error).__name__}: {one_line(error)}); "
            f"it must support copy.deepcopy, so that the original stays untouched"
        ) from error


def _sharing_copy(network: nn.Module) -> nn.Module:
    """A copy of the modules only: forward passes that keep things on `self` do not meet, parameters are the same."""
    shared = [*network.parameters(), *network.buffers()]
    return copy.deepcopy(network, memo={id(tensor): tensor for tensor in shared})
