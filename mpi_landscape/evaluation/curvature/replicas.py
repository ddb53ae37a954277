"""All replicas of a network, each with a thread, in the way that has been chosen."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import nn

from mpi_landscape.evaluation.curvature.compiled import compiled_hessian
from mpi_landscape.evaluation.curvature.operators import Hessian, Operator
from mpi_landscape.evaluation.curvature.parts import GaussNewton, Remainder
from mpi_landscape.evaluation.curvature.replica import Replica
from mpi_landscape.evaluation.curvature.space import Space
from mpi_landscape.evaluation.curvature.way import Way
from mpi_landscape.evaluation.replica import sharing_copy
from mpi_landscape.loading.results import LossFunction
from mpi_landscape.loading.sharing import Workers

OPERATORS: Mapping[str, Operator] = {"hessian": Hessian, "gauss_newton": GaussNewton, "remainder": Remainder}


class Replicas:
    """Replicas of a network, and the operator that each of them is asked for.

    Args:
        model: In evaluation mode on its device; where copies are as good, a replica is one of it on the same memory.
        loss: As for `Products`.
        space: Which parameters count.
        operator: As for `Products`.
        threads: Batches computed at once; 1 on a GPU.

    Attributes:
        threads: How many are asked for.
        can_compile: Whether there is a compiled form of the operator.
        plain: The operator, not compiled.
        operator: The operator in the way that has been chosen.
        all: None before `begin`.
        workers: Their threads; after `begin`.
    """

    def __init__(
        self, model: nn.Module, loss: LossFunction, space: Space, *, operator: str, threads: int
    ) -> None:
        self._model, self._loss, self._space, self.threads = model, loss, space, threads
        self.plain: Operator = OPERATORS[operator]
        self.operator = self.plain
        self.can_compile = operator == "hessian"
        self._compiled = compiled_hessian()
        self.all: list[Replica] = []
        # Compiling takes a minute: what was compiled for a trial is used for all.
        self._slow: Replica | None = None
        self.workers: Workers[Replica]

    def __len__(self) -> int:
        return len(self.all)

    @property
    def first(self) -> Replica:
        """That of the caller's thread."""
        return self.all[0]

    @contextmanager
    def tried(self, way: Way) -> Iterator[Replica]:
        """One more, for a trial where the network is now."""
        replica = self._made(way)
        try:
            replica.take(dict(self._model.named_buffers()))
            yield replica
        finally:
            if replica is not self._slow:
                replica.close()

    def _made(self, way: Way) -> Replica:
        if way.compiled and self._slow is not None:
            return self._slow
        network = sharing_copy(self._model) if way.copies else self._model
        replica = Replica(network, self._loss, self._space, way)
        if way.compiled:
            self._slow = replica
        return replica

    def operator_of(self, way: Way) -> Operator:
        """What makes of a batch the operator of a batch."""
        return self._compiled if way.compiled else self.plain

    def begin(self, way: Way) -> None:
        """As many as there are threads; compiled code is one thread's."""
        self.operator = self.operator_of(way)
        number = self.threads if way.copies and not (way.compiled or way.alone) else 1
        self.all = [self._made(way) for _ in range(number)]
        self.hand_on()
        self.workers = Workers(self.all)

    def close(self) -> None:
        """End the threads, and leave the network as it was."""
        if self.all:
            self.workers.close()
        for replica in (*self.all, *([self._slow] if self._slow is not None else [])):
            replica.close()
        self.all, self._slow = [], None

    def hand_on(self) -> None:
        """Buffers of the network into those of its copies; parameters they share."""
        buffers: dict[str, torch.Tensor] = dict(self._model.named_buffers())
        for replica in self.all:
            replica.take(buffers)
