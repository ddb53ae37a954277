"""Gradient descent on a network, epoch by epoch, from wherever it was interrupted."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from mpi_landscape.configuration.sections.training import Phase
from mpi_landscape.loading.results import LossFunction, counts_of, losses_of
from mpi_landscape.training.augmentation import Augment
from mpi_landscape.training.divergence import DivergedError, LossWatch
from mpi_landscape.training.feed import Feed
from mpi_landscape.training.look import look_at, weight_norm
from mpi_landscape.training.memory import in_channels_last
from mpi_landscape.training.premises import check_smallest_pieces
from mpi_landscape.training.randomness import ORDER, STEP, generator, mixed, seed_all
from mpi_landscape.training.recipe import (
    Recipe,
    batch_sizes,
    learning_rate,
    make_optimizer,
    num_epochs,
    piece_sizes,
    place,
)


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """What one epoch gave.

    Attributes:
        number: 0 for the initial network, then 1, 2, ...
        phase: Index of its phase, from 0; 0 for the initial network.
        learning_rate: The rate of its steps; 0 for the initial network.
        values: Loss (nats per example) and accuracy (fraction) per split, `<split>_loss` and `<split>_accuracy`.
        weight_norm: Euclidean norm of all parameters.
        seconds: Time that its training steps took.
    """

    number: int
    phase: int
    learning_rate: float
    values: Mapping[str, float]
    weight_norm: float
    seconds: float


class Training:
    """A network on its way.

    Everything random follows from the seed of the recipe, the epoch and the step, so a training that goes on from
    `state` gives the same bits as one that was never interrupted. For that, the generators of Python, numpy and torch
    are set before every step.

    Args:
        model: On `device`; trained in place.
        loss: Called as `loss(model, batch)`; one value per example, or a mapping with `loss` and perhaps `correct`.
        feeds: The split `train`, and any others to look at after each epoch.
        recipe: How to train.
        device: Where the model is.
        channels_last: Whether images and filters lie in memory with their channels last.
        look_size: Examples that go through the network at once when it is looked at.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: LossFunction,
        feeds: Mapping[str, Feed],
        recipe: Recipe,
        *,
        device: torch.device,
        channels_last: bool = False,
        look_size: int = 256,
    ) -> None:
        self._model = model.to(memory_format=torch.channels_last) if channels_last else model
        self._loss, self._feeds, self._recipe = loss, feeds, recipe
        self._prepare: Callable[[Any], Any] = in_channels_last if channels_last else lambda batch: batch
        self._look_size = look_size
        self._completed, self._step, self._seconds = 0, 0, 0.0
        self._optimizer: torch.optim.Optimizer | None = None
        self._begun = False
        self._watch = LossWatch(device)

    def state(self) -> dict[str, Any]:
        """Everything that the rest of the training depends on, without copying any of it.

        Returns:
            `epoch`, those completed; `step`, those made in the next epoch, and the `seconds` they took; `model` and
            `optimizer`, state dicts, the latter None where the next step begins with a new one; `begun`, whether the
            look before the first epoch is done.

        Raises:
            DivergedError: A loss that had not been read yet is not finite.
        """
        self._watch.read()
        optimizer = self._optimizer
        return {
            "epoch": self._completed,
            "step": self._step,
            "seconds": self._seconds,
            "begun": self._begun,
            "model": self._model.state_dict(),
            "optimizer": None if optimizer is None or self._begins_a_phase() else optimizer.state_dict(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go to a state of the same training; the mapping itself is not kept."""
        self._model.load_state_dict(state["model"])
        self._completed, self._step = int(state["epoch"]), int(state["step"])
        self._seconds = float(state.get("seconds", 0.0))
        self._optimizer, self._begun = None, bool(state.get("begun", True))
        if state["optimizer"] is not None:
            last = min(self._completed + 1, num_epochs(self._recipe))
            phase = self._recipe.phases[place(self._recipe, last)[0]]
            self._optimizer = make_optimizer(self._model.parameters(), phase)
            self._optimizer.load_state_dict(dict(state["optimizer"]))

    def look(self, looking: Callable[[], None] = lambda: None) -> Epoch:
        """The network as it is after the last completed epoch, or before the first."""
        return self._look(self._completed, looking, seconds=0.0)

    def epochs(
        self, between: Callable[[], None] = lambda: None, *, looking: Callable[[], None] = lambda: None
    ) -> Iterator[Epoch]:
        """Train; yields after every epoch, and once before the first unless a state was restored.

        Args:
            between: Called after every step. It may raise anything; `state` is then that after the step.
            looking: Called after every batch of a look at the network; likewise.

        Raises:
            DivergedError: The loss is not finite at a step, which the message names, or after an epoch; that epoch is
                not yielded.
            LandscapeError: Batch normalization cannot take the smallest batch.
        """
        check_smallest_pieces(
            self._model, self._loss, self._feeds["train"], self._recipe, prepare=self._prepare
        )
        if not self._begun:
            first = self.look(looking)
            self._begun = True
            yield first
        while self._completed < num_epochs(self._recipe):
            yield self._epoch(self._completed + 1, between, looking)

    def _epoch(self, number: int, between: Callable[[], None], looking: Callable[[], None]) -> Epoch:
        try:
            self._train(number, between)
        finally:
            # What was raised in between may be a wish to keep the state, which must not be one that diverged unseen.
            self._watch.read()
        epoch = self._look(number, looking, seconds=self._seconds)
        # The last step may have gone too far, with no loss after it to show that: such a network must not be kept.
        if not math.isfinite(epoch.values["train_loss"]):
            raise DivergedError(f"the training loss is {epoch.values['train_loss']} after epoch {number}")
        self._completed, self._step, self._seconds = number, 0, 0.0
        return epoch

    def _train(self, number: int, between: Callable[[], None]) -> None:
        """Make the steps that are left of an epoch."""
        index, inner = place(self._recipe, number)
        phase = self._recipe.phases[index]
        optimizer = self._optimizer_for(phase, learning_rate(phase, inner))
        sizes = batch_sizes(phase, len(self._feeds["train"]))
        cuts = [piece_sizes(size, self._recipe.piece_size) for size in sizes]
        pieces = self._pieces(phase, number, cuts)
        self._model.train()
        last = time.perf_counter()
        for cut in cuts[self._step :]:
            self._make_step(optimizer, itertools.islice(pieces, len(cut)), sum(cut), number)
            self._seconds += time.perf_counter() - last
            between()
            last = time.perf_counter()
        self._watch.read()  # a GPU may still be at work
        self._seconds += time.perf_counter() - last

    def _make_step(
        self, optimizer: torch.optim.Optimizer, pieces: Iterator[Any], size: int, number: int
    ) -> None:
        """One step along the gradient of the mean loss of a batch."""
        seed_all(mixed(STEP, self._recipe.seed, number, self._step))
        optimizer.zero_grad(set_to_none=True)
        shares, totals = [], []
        for piece in pieces:
            result = self._loss(self._model, self._prepare(piece))
            counts, losses = counts_of(result), losses_of(result)
            share = losses.sum() if counts is not None else losses.sum() / size
            torch.autograd.backward(share)
            shares.append(share.detach())
            if counts is not None:
                totals.append(counts.sum())
        loss = torch.stack(shares).sum()
        if totals:
            # By how much a batch counts is known after its last piece alone.
            total = torch.stack(totals).sum()
            loss = loss / total
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    if parameter.grad is not None:
                        parameter.grad.div_(total)
        self._watch.note(loss, step=self._step + 1, epoch=number)
        optimizer.step()
        self._step += 1

    def _pieces(self, phase: Phase, number: int, cuts: Sequence[Sequence[int]]) -> Iterator[Any]:
        """The pieces that are left of an epoch's batches."""
        feed, seed = self._feeds["train"], self._recipe.seed
        order = torch.randperm(len(feed), generator=generator(ORDER, seed, number))
        sizes = [size for cut in cuts[self._step :] for size in cut]
        changes = phase.augmentation
        augment = Augment(seed=seed, epoch=number, shift=changes.shift, flip=changes.flip)
        return iter(feed.batches(order[len(order) - sum(sizes) :], sizes, augment))

    def _optimizer_for(self, phase: Phase, rate: float) -> torch.optim.Optimizer:
        """The present optimizer, or a new one where a phase begins, with the learning rate of an epoch."""
        if self._optimizer is None or self._begins_a_phase():
            self._optimizer = make_optimizer(self._model.parameters(), phase)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        return self._optimizer

    def _begins_a_phase(self) -> bool:
        """Whether the next step is the first of its phase."""
        begun = self._step > 0 or self._completed >= num_epochs(self._recipe)
        return not begun and place(self._recipe, self._completed + 1)[1] == 1

    def _look(self, number: int, looking: Callable[[], None], *, seconds: float) -> Epoch:
        values = look_at(
            self._model, self._loss, self._feeds, size=self._look_size, prepare=self._prepare, between=looking
        )
        index, rate = 0, 0.0
        if number > 0:
            index, inner = place(self._recipe, number)
            rate = learning_rate(self._recipe.phases[index], inner)
        return Epoch(
            number=number,
            phase=index,
            learning_rate=rate,
            values=values,
            weight_norm=weight_norm(self._model),
            seconds=seconds,
        )
