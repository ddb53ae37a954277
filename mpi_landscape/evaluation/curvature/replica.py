"""A network whose products are taken, rewritten as a way says, for one thread."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mpi_landscape.evaluation.curvature.folded import fold
from mpi_landscape.evaluation.curvature.operators import OfBatch, Recorded, Tensors
from mpi_landscape.evaluation.curvature.space import Space
from mpi_landscape.evaluation.curvature.way import Way
from mpi_landscape.loading.batches import Batch
from mpi_landscape.loading.nests import map_tensors
from mpi_landscape.loading.results import LossFunction


class Replica:
    """A network with its loss; its parameters lie where those of the network are that is put somewhere.

    Args:
        network: That itself, or a copy for this replica alone, whose modules are rewritten.
        loss: As for `Products`.
        space: Which parameters count.
        way: How it is rewritten.
    """

    def __init__(self, network: nn.Module, loss: LossFunction, space: Space, way: Way) -> None:
        self._network, self._loss, self._space = network, loss, space
        own = dict(network.named_parameters())
        self._buffers = dict(network.named_buffers())
        self._parameters = [own[name] for group in space.groups for name in group]
        fold(network, way.folded)
        self._hooks = []
        if way.channels_last:
            self._hooks.append(network.register_forward_pre_hook(_channels_last, with_kwargs=True))
        if way.precise:
            self._hooks.append(network.register_forward_hook(_in_float64))

    def close(self) -> None:
        """Take hooks away."""
        for hook in self._hooks:
            hook.remove()

    def take(self, buffers: Mapping[str, Tensor]) -> None:
        """Give its buffers the values of others."""
        with torch.no_grad():
            for name, buffer in self._buffers.items():
                if buffer is not buffers[name]:
                    buffer.copy_(buffers[name])

    def function(self, batch: Batch) -> OfBatch:
        """The loss of a batch, to be differentiated."""
        return OfBatch(network=self._network, loss=self._loss, batch=batch, parameters=self._parameters)

    def products(self, recorded: Recorded, rows: Tensor, *, keep: bool = False) -> Tensor:
        """(k, n), of the network's type: what a recorded operator gives of vectors (k, n), and whether it is used again."""
        found = []
        for number, row in enumerate(rows):
            tensors = self._space.tensors(row)
            vector = [tensors[group[0]] for group in self._space.groups for _ in group]
            last = not keep and number == len(rows) - 1
            found.append(self.gathered(recorded.times(vector, last=last), row))
        return torch.stack(found) if found else rows.new_zeros(0, self._space.size)

    def gathered(self, parts: Tensors, like: Tensor) -> Tensor:
        """(n,): what belongs to parameters on one memory is added."""
        numbers, places = [], iter(parts)
        for entry, group in zip(self._space.entries, self._space.groups, strict=True):
            together: Tensor | None = None
            for _ in group:
                part = next(places)
                if part is not None:
                    together = part if together is None else together + part
            if together is None:
                numbers.append(like.new_zeros(entry.size))
                continue
            dense = together.detach().to_dense() if together.is_sparse else together.detach()
            real = torch.view_as_real(dense.resolve_conj()) if dense.is_complex() else dense
            numbers.append(real.reshape(-1))
        return torch.cat(numbers).to(like.dtype)


def _channels_last(_: nn.Module, arguments: Any, named: Any) -> Any:
    def turned(tensor: Tensor) -> Tensor:
        if tensor.ndim != 4 or not tensor.is_floating_point():
            return tensor
        return tensor.contiguous(memory_format=torch.channels_last)

    return map_tensors(turned, arguments), map_tensors(turned, named)


def _in_float64(_: nn.Module, __: Any, outputs: Any) -> Any:
    """Plain containers alone: others may hold more than what is seen of them."""
    if isinstance(outputs, Tensor):
        return outputs.double() if outputs.dtype == torch.float32 else outputs
    if type(outputs) in (list, tuple):
        return type(outputs)(_in_float64(_, __, each) for each in outputs)
    if type(outputs) is dict:
        return {name: _in_float64(_, __, each) for name, each in outputs.items()}
    return outputs
