"""Graphs of batches that are kept between products, up to a budget in bytes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from mpi_landscape.evaluation.curvature.operators import Recorded
from mpi_landscape.loading import nests
from mpi_landscape.loading.batches import Batch


class Graphs:
    """Recorded operators of batches by number, of one place and one set of data.

    Which are kept changes no bit: recorded again, they are the same.

    Args:
        budget: Bytes that all of them may take.

    Attributes:
        price: Bytes that a graph takes for each byte of its batch; None before `measure`.
    """

    def __init__(self, budget: int) -> None:
        self._budget, self._left = budget, budget
        self.price: float | None = None
        self._kept: dict[int, Recorded] = {}
        self._pieces: Any = None
        self._most, self._complete = 0, False
        self._lock = threading.Lock()

    def forget(self) -> None:
        """Let go of all of them: the network is put elsewhere."""
        self._kept.clear()
        self._left, self._pieces, self._complete = self._budget, None, False

    def begin(self, pieces: Any) -> int | None:
        """Begin a pass over data; how many batches there are where all are kept, None where they must be read."""
        if pieces != self._pieces:  # a method is another object each time
            self.forget()
            self._pieces = pieces
        self._most = 0
        if self._complete:
            self._most = len(self._kept)
            return self._most
        return None

    def passed(self) -> None:
        """A pass has come to its end."""
        self._complete = 0 < self._most == len(self._kept)

    def get(self, number: int) -> Recorded | None:
        """What is kept of a batch."""
        with self._lock:
            self._most = max(self._most, number + 1)
        return self._kept.get(number)

    def takes(self, number: int, batch: Batch) -> bool:
        """Whether there is room for the graph of a batch, which is then taken."""
        cost = (self.price or 0.0) * num_bytes(batch)
        with self._lock:
            if not cost or cost > self._left or number in self._kept:
                return False
            self._left -= int(cost)
            return True

    def keep(self, number: int, recorded: Recorded) -> None:
        """Keep what has been recorded of a batch."""
        self._kept[number] = recorded

    def measure(
        self, batch: Batch, record: Callable[[], Recorded], *, besides: Iterable[Tensor], more: int
    ) -> None:
        """Find the price by recording a batch.

        Args:
            batch: One as all others.
            record: Records it.
            besides: Tensors that are there without it.
            more: Bytes of what is not saved for a derivative: the gradient.
        """
        data = [tensor for _, tensor in nests.tensors(batch.data)]
        self.price = (graph_bytes(record, [*besides, *data]) + more) / num_bytes(batch) + 1.0


def num_bytes(batch: Batch) -> int:
    """Of a batch's tensors."""
    return max(1, nests.num_bytes(batch.data))


def graph_bytes(record: Callable[[], Recorded], besides: Iterable[Tensor]) -> int:
    """Bytes of the tensors that a graph holds, each memory once and that of some others not; the graph is let go."""
    known = {tensor.untyped_storage().data_ptr() for tensor in besides}
    seen: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        memory = tensor.untyped_storage()
        seen[memory.data_ptr()] = memory.nbytes()
        # Not itself: a node that held its own result would never be freed.
        return tensor.detach()

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        recorded = record()
    found = sum(size for place, size in seen.items() if place not in known)
    del recorded
    return found
