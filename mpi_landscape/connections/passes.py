"""Losses and gradients at points of a curve: a task is one rank's from beginning to end, and all ranks have its answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from mpi_landscape.connections.batches import Batches
from mpi_landscape.connections.curve import Curve
from mpi_landscape.connections.searching.rounds import Answer, Round, Task
from mpi_landscape.connections.space import Space
from mpi_landscape.errors import LandscapeError
from mpi_landscape.evaluation.calling import is_out_of_memory, raised
from mpi_landscape.loading import nests
from mpi_landscape.loading.results import LossFunction, counts_of, losses_of
from mpi_landscape.parallel.exchange import exchanged, owner
from mpi_landscape.parallel.ranks import Ranks
from mpi_landscape.training.randomness import STEP, mixed, seed_all


class _Called(nn.Module):
    """A network with its loss, so that one call stands for both."""

    def __init__(self, network: nn.Module, loss: LossFunction) -> None:
        super().__init__()
        self.network, self._loss = network, loss

    def forward(self, batch: Any) -> Any:
        return self._loss(self.network, batch)


class LossAt:
    """The loss of a network as a function of parameters that are handed to it; its own stay as they are.

    Args:
        model: In any mode, on its device.
        loss: Called as `loss(model, batch)`.
    """

    def __init__(self, model: nn.Module, loss: LossFunction) -> None:
        self._called = _Called(model, loss)

    def __call__(self, tensors: Mapping[str, Tensor], batch: Any) -> Any:
        """What the loss function returns for a batch, with these parameters and buffers in place of the network's own.

        Args:
            tensors: By name; tied ones once. Buffers may be written to.
            batch: Its containers stay as they are.
        """
        named = {f"network.{name}": tensor for name, tensor in tensors.items()}
        try:
            return functional_call(self._called, named, (nests.fresh(batch),))
        except LandscapeError:
            raise
        except Exception as error:
            if is_out_of_memory(error):
                raise
            raise raised(error, batch) from error


@contextmanager
def in_training(model: nn.Module) -> Iterator[None]:
    """The network in training mode: batch normalization by the batch, dropout on; modes are afterwards what they were."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        model.train()
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextmanager
def _threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(number)
        yield
    finally:
        torch.set_num_threads(before)


@dataclass(kw_only=True)
class Passes:
    """What answers rounds.

    Attributes:
        model: The network, on its device; its own parameters and buffers stay as they are.
        loss: Called as `loss(model, batch)`.
        space: What moves.
        batches: The data.
        ranks: Who computes.
        seed: Of what the network draws.
        gradients: Whether the loss takes derivatives itself.
        threads: Of an operation on a CPU: a part of the bits.
        computing: Makes the context of a computation, such as that of TF32.
        examples: How many have gone through the network with a gradient (True) and without (False), on all ranks together.
    """

    model: nn.Module
    loss: LossFunction
    space: Space
    batches: Batches
    ranks: Ranks
    seed: int
    gradients: bool = False
    threads: int = 1
    computing: Callable[[], AbstractContextManager[None]] = nullcontext
    examples: dict[bool, int] = field(default_factory=lambda: {True: 0, False: 0})

    def __post_init__(self) -> None:
        self.loss_at = LossAt(self.model, self.loss)
        self._buffers = [name for name, _ in self.model.named_buffers()]

    def answers(self, curve: Curve, asked: Round) -> list[Answer]:
        """The answers to a round's tasks, in their order, the same bits on every rank and for any number of them. Collective.

        Raises:
            AgreedError: The network or the loss raised for a batch.
        """
        ranks, own = self.ranks, dict[int, Answer]()
        refusal: LandscapeError | None = None
        try:
            for number, task in enumerate(asked.tasks):
                if owner(number, ranks) == ranks.rank:
                    own[number] = self._answer(curve, task, asked.step)
        except LandscapeError as error:
            refusal = error
        # Refusals travel with the sums: every further meeting would be one in every step.
        everywhere = ranks.gather(
            (refusal is None, {number: (answer.loss, answer.count) for number, answer in own.items()})
        )
        if not all(fine for fine, _ in everywhere):
            with ranks.together():
                if refusal is not None:
                    raise refusal
        sums = {number: pair for _, each in everywhere for number, pair in each.items()}
        gradients = self._gradients(own, asked.tasks)
        sizes = self.batches.pieces_of(asked.step)
        for task in asked.tasks:
            self.examples[task.gradient] += sum(sizes) if task.piece is None else sizes[task.piece]
        return [
            Answer(loss=sums[number][0], count=sums[number][1], gradient=gradients.get(number))
            for number in range(len(asked.tasks))
        ]

    def _gradients(self, own: Mapping[int, Answer], tasks: Sequence[Task]) -> dict[int, Tensor]:
        """The gradient of every task that has one, by its number."""
        mine = {number: answer.gradient for number, answer in own.items() if answer.gradient is not None}
        wanted = [number for number, task in enumerate(tasks) if task.gradient]
        if self.ranks.size == 1 or not wanted:
            return mine
        kind = "f8" if self.space.dtype == torch.float64 else "f4"
        rows = {number: gradient.cpu().numpy() for number, gradient in mine.items()}
        device = next(self.model.parameters()).device
        found = exchanged(rows, wanted, self.ranks, size=self.space.size, dtype=kind)
        return {
            number: mine[number] if number in mine else torch.from_numpy(row).to(device)
            for number, row in zip(wanted, found, strict=True)
        }

    def _answer(self, curve: Curve, task: Task, step: int | None) -> Answer:
        """One task, piece after piece."""
        point = curve.point(task.t).requires_grad_(task.gradient)
        size = sum(self.batches.pieces_of(step))
        gradient: Tensor | None = None
        shares, counts = [], []
        with in_training(self.model), self.computing(), _threads(self.threads):
            for number, batch in enumerate(self.batches.read(step, task.piece)):
                piece = task.piece if task.piece is not None else number
                # Every point of a round draws the same, so that pivots differ by where they are alone.
                seed_all(mixed(STEP, self.seed, -1 if step is None else step, piece))
                share, count = self._share(point, task, batch, size)
                shares.append(share.detach())
                counts.append(count)
                if task.gradient:
                    found = _gradient(share, point)
                    gradient = found if gradient is None else gradient.add_(found)
        # Added here, one after the other in float64: on a GPU nothing waits for a piece.
        return Answer(
            loss=sum(torch.stack(shares).double().tolist()),
            count=sum(torch.stack(counts).double().tolist()) / size,
            gradient=gradient,
        )

    def _share(self, point: Tensor, task: Task, batch: Any, size: int) -> tuple[Tensor, Tensor]:
        """The sum of the losses of a piece over the size of the batch, and what it counts."""
        buffers = self.space.straight(self._buffers, task.t)
        tensors = {
            # A network in training mode writes to its buffers.
            **{name: buffer.clone() for name, buffer in buffers.items()},
            **self.space.parameters(point, task.t),
        }
        with torch.set_grad_enabled(task.gradient or self.gradients):
            result = self.loss_at(tensors, batch)
            losses, counts = losses_of(result), counts_of(result)
            share = losses.sum() / size
        number = losses.new_full((), len(losses)) if counts is None else counts.detach().sum()
        return share, number


def _gradient(share: Tensor, point: Tensor) -> Tensor:
    if not share.requires_grad:
        raise LandscapeError(
            "loss: does not depend on the trained parameters in a way that torch can follow; valid is a loss with a gradient"
        )
    (gradient,) = torch.autograd.grad(share, point, allow_unused=True)
    return torch.zeros_like(point) if gradient is None else gradient.detach()
