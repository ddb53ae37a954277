"""One copy of the network that follows a flat vector, rewritten as the engine says."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from mpi_landscape.errors import LandscapeError
from mpi_landscape.evaluation.engine import folding
from mpi_landscape.evaluation.engine.description import Engine
from mpi_landscape.evaluation.engine.first_layer import FirstLayer, install
from mpi_landscape.evaluation.engine.fusing import fuse
from mpi_landscape.evaluation.engine.graphs import Graphs
from mpi_landscape.evaluation.sums import example_sums
from mpi_landscape.evaluation.vectors import Vectors
from mpi_landscape.geometry.filters import is_normalization
from mpi_landscape.loading.batches import Batch
from mpi_landscape.loading.nests import map_tensors
from mpi_landscape.wording import one_line

LossFunction = Callable[[nn.Module, Any], Any]


class Seat:
    """A place at which one thread evaluates.

    Args:
        network: A copy for this seat alone, in evaluation mode on its device; its parameters become views of `vectors`.
        loss: As for `Evaluator`.
        vectors: What the network follows.
        engine: How the network is rewritten.
        lower: Type of 16 bits in which the network computes; None for that of the vectors.
    """

    def __init__(
        self,
        network: nn.Module,
        loss: LossFunction,
        vectors: Vectors,
        engine: Engine,
        lower: torch.dtype | None,
    ) -> None:
        self._loss = loss
        self.vectors = vectors
        normalizations = _normalization_parameters(network)
        if lower is not None:
            _lower_buffers(network, lower)
        attach(network, vectors.point_views(lower, keep=normalizations))
        folding.rewire(engine.folded, network, vectors.point_views(lower, keep=set()))
        # A bias that took a normalisation's place in the vector has another name there.
        self._places = {f"{layer}.bias": f"{norm}.bias" for layer, norm in engine.folded}
        if engine.fused:
            network = fuse(network)
        self._first: list[FirstLayer] = install(
            engine.first_layer, network, vectors.layout, vectors.center, vectors.directions, lower
        )
        if lower is not None:
            network.register_forward_pre_hook(_cast_inputs(lower), with_kwargs=True)
            network.register_forward_hook(_raise_outputs)
        self._replayed = Graphs(self._sums) if engine.graphed else None
        # A kernel for each shape: one for all, which is made at the second shape, has other bits than one for the first, and
        # which of them a batch met would depend on what came before it.
        self.network: nn.Module = torch.compile(network, dynamic=False) if engine.compiled else network  # type: ignore[assignment]

    def sums(self, batch: Batch) -> Tensor:
        """(1, NUM_SUMS) float64 of a batch at the vectors' point."""
        return (self._replayed or self._sums)(batch.data, batch.valid)

    def _sums(self, data: Any, valid: int) -> Tensor:
        return example_sums(self._loss(self.network, data), valid)[None]

    def sums_of_points(
        self, batch: Batch, points: Sequence[tuple[float, ...]], between: Callable[[], None] | None
    ) -> Tensor:
        """(len(points), NUM_SUMS) float64 of a batch at several points, the first layer's products made once."""
        for layer in self._first:
            layer.begin()
        rows = []
        for coordinates in points:
            self.vectors.move(coordinates)
            for layer in self._first:
                layer.move(coordinates)
            rows.append(self.sums(batch))
            if between is not None:
                between()
        return torch.cat(rows)

    def losses(self, batch: Batch, coordinates: tuple[float, ...]) -> Tensor:
        """(batch.valid,) float64: every example's loss at one point."""
        for layer in self._first:
            layer.begin()
            layer.move(coordinates)
        self.vectors.move(coordinates)
        result = self._loss(self.network, batch.data)
        losses: Tensor = result["loss"] if isinstance(result, Mapping) else result
        return losses[: batch.valid].double()

    def sums_together(self, batch: Batch, points: Tensor) -> Tensor:
        """(G, NUM_SUMS) float64 of a batch at G points in one pass.

        Args:
            batch: The examples.
            points: (G, n) flat vectors.
        """
        stacked = self.vectors.layout_views(points)
        parameters = {
            name: stacked[place]
            for name, _ in self.network.named_parameters()
            if (place := name if name in stacked else self._places.get(name, "")) in stacked
        }

        def one(values: Mapping[str, Tensor]) -> Tensor:
            return example_sums(self._loss(_At(self.network, values), batch.data), batch.valid)

        result: Tensor = vmap(one)(parameters)
        return result


class _At(nn.Module):
    """A network with other parameters, called like the network."""

    def __init__(self, network: nn.Module, values: Mapping[str, Tensor]) -> None:
        super().__init__()
        self._network, self._values = (
            [network],
            dict(values),
        )  # in a list: no submodule, its hooks are its own

    def forward(self, *arguments: Any, **named: Any) -> Any:
        return functional_call(self._network[0], self._values, arguments, named)


def attach(network: nn.Module, views: Mapping[str, Tensor]) -> None:
    """Make parameters and buffers of a network views of other memory.

    Args:
        network: Changed in place.
        views: Parameter or buffer name to a tensor of its shape and device.
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


def sharing_copy(network: nn.Module) -> nn.Module:
    """A copy of the modules that holds the same parameters and buffers."""
    held = [*network.parameters(), *network.buffers()]
    return copy.deepcopy(network, {id(tensor): tensor for tensor in held})


def _normalization_parameters(network: nn.Module) -> set[str]:
    """Scales and biases of normalisations: they stay in 32 bits, as in mixed-precision training."""
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
                if buffer.is_floating_point():
                    setattr(module, name, buffer.to(dtype))


def _cast_inputs(dtype: torch.dtype) -> Callable[..., Any]:
    def cast(tensor: Tensor) -> Tensor:
        return tensor.to(dtype) if tensor.is_floating_point() else tensor

    def before(_: nn.Module, arguments: Any, named: Any) -> Any:
        return map_tensors(cast, arguments), map_tensors(cast, named)

    return before


def _raise_outputs(_: nn.Module, __: Any, outputs: Any) -> Any:
    return map_tensors(lambda tensor: tensor.float() if tensor.is_floating_point() else tensor, outputs)
