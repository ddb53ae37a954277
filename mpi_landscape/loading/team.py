"""The processes that hold a data set together: those of one node, or one process alone."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

T = TypeVar("T")


class Team(Protocol):
    """Processes that share memory; `mpi_landscape.parallel.shared_memory` has those of a node."""

    @property
    def rank(self) -> int:
        """This process, from 0 to size - 1."""

    @property
    def size(self) -> int:
        """Number of processes."""

    def share(self, value: T) -> T:
        """Process 0's small value, in every process. Collective."""

    def gather(self, value: T) -> list[T]:
        """One small value of every process, in every process. Collective."""

    def together(self) -> AbstractContextManager[None]:
        """Run the body of a `with` in every process; where one refuses, all refuse with its words. Collective."""

    def has_room(self, num_bytes: int) -> bool:
        """Whether so many bytes can be shared. Collective; the same answer in every process."""

    def allocate(self, num_bytes: int) -> NDArray[np.uint8]:
        """(num_bytes,) of the same memory in every process, aligned to 64 bytes. Collective."""

    def release(self, memory: NDArray[np.uint8]) -> None:
        """Give such memory back, which no process uses any more. Collective."""


class Alone:
    """A team of one, with memory of its own."""

    rank = 0
    size = 1

    def share(self, value: T) -> T:
        """The value."""
        return value

    def gather(self, value: T) -> list[T]:
        """The value alone."""
        return [value]

    def together(self) -> AbstractContextManager[None]:
        """Run the body."""
        return nullcontext()

    def has_room(self, num_bytes: int) -> bool:  # noqa: ARG002 - as in `Team`
        """Always true: how much memory there is has been asked before."""
        return True

    def allocate(self, num_bytes: int) -> NDArray[np.uint8]:
        """Memory of this process."""
        # numpy's own is aligned to 16 bytes only.
        return torch.empty(num_bytes, dtype=torch.uint8).numpy()

    def release(self, memory: NDArray[np.uint8]) -> None:
        """Do nothing: the memory goes with its last user."""
