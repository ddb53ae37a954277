"""What a training will be and cost, measured on a few of its steps."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise

import torch
from torch.utils.data import Subset

from mpi_landscape.configuration.sections.training import CONSTANT_RATE
from mpi_landscape.parallel.stopping import Stopped
from mpi_landscape.solutions.member import PreparedTraining
from mpi_landscape.solutions.preparing import Splits
from mpi_landscape.training.feed import make_feed
from mpi_landscape.training.recipe import largest_batch, num_epochs, num_steps
from mpi_landscape.wording import duration

_TRIED_STEPS = 3


def describe(prepared: PreparedTraining, splits: Splits) -> list[str]:
    """The plan and what it will cost, in lines for people; trains a few steps of a copy of it."""
    recipe, data = prepared.recipe, prepared.feeds
    step, look = _seconds_per_example(prepared, splits)
    trained = num_epochs(recipe) * len(data["train"])
    looked = (num_epochs(recipe) + 1) * sum(len(each) for each in data.values())
    phases = [
        f"{phase.epochs} epochs of {num_steps(phase, len(data['train']))} steps ({phase.optimizer}, batch "
        f"{'of all' if phase.batch_size == 'all' else phase.batch_size}, learning rate {phase.learning_rate:g})"
        for phase in recipe.phases
    ]
    pieces = f", {recipe.piece_size} examples at once" if recipe.piece_size else ""
    layout = "channels last" if prepared.channels_last else "as given"
    return [
        f"folder      {prepared.member.folder}",
        f"network     {prepared.member.title}: {prepared.facts['num_parameters']:,} parameters; images {layout}",
        f"data        {', '.join(f'{name} ({len(each)} examples)' for name, each in data.items())}",
        f"training    {', then '.join(phases)}{pieces}",
        f"expected    {duration(trained * step + looked * look)} on {prepared.facts['device']}: "
        f"{1e3 * step:.3g} ms an example and epoch, {1e3 * look:.3g} ms to look at one",
    ]


def _seconds_per_example(prepared: PreparedTraining, splits: Splits) -> tuple[float, float]:
    """Seconds per example of a training step and of an evaluation, measured on the first examples."""
    phase = prepared.recipe.phases[0]
    total = len(prepared.feeds["train"])
    batch = min(largest_batch(phase, total), prepared.recipe.piece_size or total)
    count = min(total, batch * _TRIED_STEPS)
    first = Subset(splits["train"], range(count))
    feed = make_feed("train", first, device=prepared.device, dtype=torch.float32, mode="resident")
    tried = replace(phase, epochs=1, batch_size=min(batch, count), schedule=CONSTANT_RATE)
    recipe = replace(prepared.recipe, phases=(tried,))
    training = replace(prepared, feeds={"train": feed}, recipe=recipe).training()
    times: list[float] = []

    def note() -> None:
        times.append(time.perf_counter())
        if len(times) > _TRIED_STEPS:
            raise Stopped

    training.look()
    start = time.perf_counter()
    training.look()
    look = (time.perf_counter() - start) / count
    epochs = training.epochs(note)
    next(epochs)
    times[:] = [time.perf_counter()]
    with suppress(Stopped):
        next(epochs)
    steps = [after - before for before, after in pairwise(times)]
    return sorted(steps)[len(steps) // 2] / min(batch, count), look
