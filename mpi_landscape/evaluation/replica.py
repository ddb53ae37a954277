"""Copies of the network that follow a flat vector, rewritten as the engine says, and share batches out."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mpi_landscape.errors import LandscapeError
from mpi_landscape.evaluation.calling import call
from mpi_landscape.evaluation.conversion import converted
from mpi_landscape.evaluation.engine.description import Engine
from mpi_landscape.evaluation.sums import Floats, example_sums
from mpi_landscape.evaluation.vectors import Point, Vectors
from mpi_landscape.geometry.filters import is_normalization
from mpi_landscape.geometry.memory import tie
from mpi_landscape.loading.batches import Batch
from mpi_landscape.loading.nests import map_tensors
from mpi_landscape.loading.results import LossFunction, losses_of
from mpi_landscape.loading.sharing import Pause, Workers
from mpi_landscape.wording import one_line


class Replica:
    """A copy of the network for one thread.

    Args:
        network: A copy for this replica alone, in evaluation mode on its device; its parameters become views of
            `vectors`.
        loss: As for `Evaluator`.
        vectors: The point that the network follows.
        engine: How the network is rewritten.
        lower: Type of 16 bits in which the network computes; None for that of the vectors.
        returned: As for `Evaluator`.
        gradients: As for `Evaluator`.
    """

    def __init__(
        self,
        network: nn.Module,
        loss: LossFunction,
        vectors: Vectors,
        engine: Engine,
        *,
        lower: torch.dtype | None,
        returned: Sequence[str],
        gradients: bool = False,
    ) -> None:
        self._loss, self._gradients, self.vectors = loss, gradients, vectors
        normalizations = _normalization_parameters(network)
        if lower is not None:
            _lower_buffers(network, lower)
        attach(network, vectors.point_views(lower, keep=normalizations))
        self._attached = network
        network = engine.on_network(network, vectors, lower)
        if lower is not None:
            network.register_forward_pre_hook(_cast_inputs(lower), with_kwargs=True)
            network.register_forward_hook(_raise_outputs)
        self.network = called = engine.on_call(network)
        # A method of this object would be such a circle.
        self._sums = engine.on_sums(
            lambda data, valid: example_sums(call(loss, called, data, gradients=gradients), valid, returned)[
                None
            ]
        )

    def close(self) -> None:
        """Let go of the point, which circles of references, as torch.fx leaves, would hold until they are collected."""
        for tensor in (*self._attached.parameters(), *self._attached.buffers()):
            tensor.data = tensor.new_empty(0)

    def sums(self, batch: Batch) -> Tensor:
        """(1, columns) float64 of a batch at the vectors' point."""
        return self._sums(batch.data, batch.valid)

    def sums_of_points(self, batch: Batch, points: Sequence[Point], pause: Pause) -> Tensor:
        """(len(points), columns) float64 of a batch at several points, what they share being made once."""
        self.vectors.begin()
        rows = []
        for coordinates in points:
            self.vectors.move(coordinates)
            rows.append(self.sums(batch))
            pause()
        return torch.cat(rows)

    def losses(self, batch: Batch, coordinates: Point) -> Tensor:
        """(batch.valid,) float64: every example's loss at one point."""
        return self.losses_of_points(batch, [coordinates])[0]

    def losses_of_points(self, batch: Batch, points: Sequence[Point]) -> Tensor:
        """(len(points), batch.valid) float64: likewise at several points, what they share being made once."""
        self.vectors.begin()
        rows = []
        for coordinates in points:
            self.vectors.move(coordinates)
            result = call(self._loss, self.network, batch.data, gradients=self._gradients)
            rows.append(losses_of(result)[: batch.valid].double())
        return torch.stack(rows)


class Replicas:
    """Copies of the network that follow one point together, or, where points share work, go through them one by one.

    Arguments are those of `Replica`, and the number of replicas, each for a thread.
    """

    def __init__(
        self,
        network: nn.Module,
        loss: LossFunction,
        vectors: Vectors,
        engine: Engine,
        *,
        number: int,
        lower: torch.dtype | None,
        returned: Sequence[str],
        gradients: bool = False,
    ) -> None:
        self._vectors, self._apart = vectors, engine.shares_points
        # Before the first one is rewritten.
        networks = [network, *(sharing_copy(network) for _ in range(number - 1))]
        points = [vectors, *(Vectors(vectors.rows) if self._apart else vectors for _ in networks[1:])]
        self._replicas = [
            Replica(each, loss, point, engine, lower=lower, returned=returned, gradients=gradients)
            for each, point in zip(networks, points, strict=True)
        ]
        self.first, self._workers = self._replicas[0], Workers(self._replicas)

    def close(self) -> None:
        """End the threads, and let go of the point."""
        self._workers.close()
        for replica in self._replicas:
            replica.close()

    def rows(self, batches: Sequence[Batch], points: Sequence[Point], between: Pause | None) -> Floats:
        """(batches, points, columns): sums at as many points as share work, otherwise at one."""

        def row(replica: Replica, batch: Batch, pause: Pause) -> Tensor:
            if self._apart:
                return replica.sums_of_points(batch, points, pause)
            sums = replica.sums(batch)
            pause()
            return sums

        if not self._apart:
            self._vectors.move(points[0])
        rows = self._workers.share_out(batches, row, between)
        # One transfer for all: on a GPU nothing waits for a batch.
        return torch.stack(rows).cpu().numpy()


def attach(network: nn.Module, views: Mapping[str, Tensor]) -> None:
    """Make parameters and buffers of a network views of other memory, by name, in place."""
    parameters, buffers = dict(network.named_parameters()), dict(network.named_buffers())
    for name, view in views.items():
        target = parameters[name] if name in parameters else buffers[name]
        target.data = view


def own_copy(model: nn.Module) -> nn.Module:
    """A copy that shares nothing with the original.

    Raises:
        LandscapeError: The model does not support copying.
    """
    return tie(_copy(model, {}), model)


def sharing_copy(model: nn.Module) -> nn.Module:
    """A copy with buffers of its own, whose parameters lie where the original's do: to be called, or attached elsewhere."""
    return _copy(model, {id(each): type(each)(each.data, each.requires_grad) for each in model.parameters()})


def network_on(model: nn.Module, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """A `sharing_copy` in evaluation mode; what is of another device or type gets memory of its own."""
    network = in_type(sharing_copy(model), device, dtype)
    # Not twice: an adapter may merge itself into a weight there.
    return network.eval() if any(module.training for module in network.modules()) else network


def in_type(network: nn.Module, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """A network on a device and in a type, in place; see `converted`."""
    return converted(network.to(device), dtype)


def _copy(model: nn.Module, memo: dict[int, Any]) -> nn.Module:
    try:
        return copy.deepcopy(model, memo)
    except Exception as error:
        raise LandscapeError(
            f"model: {type(model).__name__} cannot be copied ({type(error).__name__}: {one_line(error)}); "
            f"it must support copy.deepcopy, so that the original stays untouched"
        ) from error


def _normalization_parameters(network: nn.Module) -> set[str]:
    """Scales and biases of normalizations: they stay in 32 bits, as in mixed-precision training."""
    return {
        f"{prefix}.{name}".removeprefix(".")
        for prefix, module in network.named_modules()
        if is_normalization(module)
        for name, _ in module.named_parameters(recurse=False)
    }


def _lower_buffers(network: nn.Module, dtype: torch.dtype) -> None:
    for module in network.modules():
        if not is_normalization(module):
            for name, buffer in module.named_buffers(recurse=False):
                # One of 64 bits is so on purpose.
                if buffer.dtype == torch.float32:
                    setattr(module, name, buffer.to(dtype))


def _cast_inputs(dtype: torch.dtype) -> Callable[..., Any]:
    def cast(tensor: Tensor) -> Tensor:
        return tensor.to(dtype) if tensor.is_floating_point() else tensor

    def before(_: nn.Module, arguments: Any, named: Any) -> Any:
        return map_tensors(cast, arguments), map_tensors(cast, named)

    return before


def _raise_outputs(_: nn.Module, __: Any, outputs: Any) -> Any:
    return map_tensors(lambda tensor: tensor.float() if tensor.is_floating_point() else tensor, outputs)
