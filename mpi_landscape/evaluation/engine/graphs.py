"""Passes that go without Python: compiled, or recorded once on a GPU and replayed, so that no operation waits.

A network of a hundred small kernels leaves a GPU idle between them. A CUDA graph launches all at once; it reads its inputs and
the parameters at fixed addresses, which suits parameters that move in place. What cannot be recorded, as a loss that looks at a
value, raises here, and the step is dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from mpi_landscape.evaluation.engine.description import Step
from mpi_landscape.loading.nests import leaves, map_tensors, tensors

# Passes before recording, in which libraries choose their kernels and take their memory.
_WARM_UP = 3

Replay = Callable[[], None]


class Graphs:
    """Work on batches that is recorded for each kind of batch and then replayed.

    Args:
        work: Batch and count of valid examples -> a tensor.
        record: Calls a function so that its work can be done again: returns how, and where the result then lies.
    """

    def __init__(
        self,
        work: Callable[[Any, int], Tensor],
        record: Callable[[Callable[[], Tensor]], tuple[Replay, Tensor]] | None = None,
    ) -> None:
        self._work = work
        self._record = record or record_on_gpu
        self._known: dict[Any, tuple[Any, Replay, Tensor]] = {}

    def __call__(self, data: Any, valid: int) -> Tensor:
        """The work's result for this batch, a tensor of its own."""
        kind = (valid, tuple((place, each.shape, each.dtype) for place, each in tensors(data)))
        if kind not in self._known:
            if any(not isinstance(leaf, Tensor) for _, leaf in leaves(data)):
                raise TypeError("a batch holds texts, which a recorded pass cannot take from the next batch")
            inputs = map_tensors(torch.clone, data)
            self._known[kind] = (inputs, *self._record(lambda: self._work(inputs, valid)))
        inputs, replay, result = self._known[kind]
        for (_, place), (_, value) in zip(tensors(inputs), tensors(data), strict=True):
            place.copy_(value)
        replay()
        return result.clone()


def record_on_gpu(work: Callable[[], Tensor]) -> tuple[Replay, Tensor]:
    """Record what a function launches on the current GPU; what cannot be recorded raises RuntimeError."""
    beside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    beside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(beside):
        for _ in range(_WARM_UP):
            work()
    torch.cuda.current_stream().wait_stream(beside)
    graph = torch.cuda.CUDAGraph()
    with _generator_apart(), _stream_back(), torch.cuda.graph(graph):
        result = work()
    return graph.replay, result


@contextmanager
def _generator_apart() -> Iterator[None]:
    """The GPU's random numbers in a state of their own meanwhile: a recording that fails leaves its state unusable."""
    generator = torch.cuda.default_generators[torch.cuda.current_device()]
    usual = generator.graphsafe_get_state()
    generator.graphsafe_set_state(generator.clone_state())
    try:
        yield
    finally:
        generator.graphsafe_set_state(usual)


@contextmanager
def _stream_back() -> Iterator[None]:
    """The current stream again afterwards, which torch forgets where a recording fails."""
    stream = torch.cuda.current_stream()
    try:
        yield
    finally:
        torch.cuda.set_stream(stream)


def compiled(network: nn.Module) -> nn.Module:
    """The network, compiled at its first call for each shape of batch, by the C++ compiler that must be there."""
    # A kernel for each shape: one for all, which is made at the second shape, has other bits than one for the first,
    # and which of them a batch met would depend on what came before it.
    return torch.compile(network, dynamic=False)  # type: ignore[return-value]


COMPILED = Step(name="compiled", proposal=lambda *_: True, words=lambda _: "compiled", on_call=compiled)
GRAPHED = Step(
    name="graphed",
    proposal=lambda _, probe: True if probe.device.type == "cuda" else None,
    words=lambda _: "passes replayed as CUDA graphs",
    on_sums=Graphs,
)
