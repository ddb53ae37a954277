"""From a configuration, or from objects in Python, to a job: the same network, vectors and data on every rank."""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from mpi_landscape.configuration.sections.plane import (
    AxisConfiguration,
    DirectionsConfiguration,
    GridConfiguration,
)
from mpi_landscape.configuration.sections.sources import LossConfiguration
from mpi_landscape.configuration.sections.whole import Configuration
from mpi_landscape.configuration.sections.work import ComputeConfiguration
from mpi_landscape.errors import LandscapeError
from mpi_landscape.evaluation.replica import attach
from mpi_landscape.geometry.layout import layout_of
from mpi_landscape.loading.resident import Examples, Resident
from mpi_landscape.parallel.broadcast import broadcast
from mpi_landscape.parallel.ranks import Ranks
from mpi_landscape.placement.plane import build_directions, flat_state
from mpi_landscape.plan.grid import Axis, Grid
from mpi_landscape.problem import losses
from mpi_landscape.problem.build import Problem, build
from mpi_landscape.problem.checkpoints import load_state, read_state
from mpi_landscape.problem.datasets.table import build_splits
from mpi_landscape.problem.networks.table import build_network
from mpi_landscape.surfaces.losses import Job

# Labels of a streamed split that are looked at, the first ones.
_LABELS = 1024


def job_of_configuration(configuration: Configuration, ranks: Ranks, where: str) -> Job:
    """What a configuration describes, with its checkpoint read by rank 0. Collective.

    Args:
        configuration: All of it.
        ranks: The job's ranks.
        where: Its file, for messages; targets are also found beside it.

    Raises:
        AgreedError: Something of it is bad.
    """
    folders = [Path(where).resolve().parent]
    # What is fetched is fetched once for all; then it is there.
    if configuration.model.arguments.get("download"):
        ranks.on_root(lambda: build_network(configuration.model, where=where, folders=folders))
    if configuration.data.download:
        ranks.on_root(lambda: build_splits(configuration.data, where=where, folders=folders))
        configuration = replace(configuration, data=replace(configuration.data, download=False))
    # Parameters that no checkpoint gives are those that a training of the same file would start from.
    torch.manual_seed(configuration.training.seed if configuration.training else 0)
    with ranks.together():
        problem = build(configuration, where=where, folders=folders)
    checkpoint = configuration.model.checkpoint
    if checkpoint is not None:
        if configuration.training is not None and not Path(checkpoint).exists():
            ranks.on_root(lambda: _refuse_untrained(checkpoint, where))
        ranks.on_root(lambda: load_state(problem.model, read_state(checkpoint), where=checkpoint))
    else:
        ranks.say(
            f"warning: {where}: model.checkpoint is not given; the parameters at the center are untrained",
        )
    return assemble(
        problem,
        configuration.directions,
        configuration.grid,
        configuration.compute,
        ranks,
        loss_text=_loss_text(configuration.loss),
        check_labels=label_check(configuration.loss.name, where),
        where=where,
    )


def _refuse_untrained(checkpoint: str, where: str) -> None:
    raise LandscapeError(
        f"{checkpoint}: no such checkpoint (working folder {Path.cwd()}); python -m mpi_landscape.train {where} makes it"
    )


def assemble(
    problem: Problem,
    directions: DirectionsConfiguration,
    grid: GridConfiguration,
    compute: ComputeConfiguration,
    ranks: Ranks,
    *,
    loss_text: str,
    check_labels: Callable[[nn.Module, Examples], None],
    where: str,
) -> Job:
    """Give every rank rank 0's network, and the directions that rank 0 builds. Collective.

    Args:
        problem: The same on every rank but for the values in the network; those of rank 0 count.
        directions: What to build around the network.
        grid: The points.
        compute: How to evaluate.
        ranks: The job's ranks.
        loss_text: What identifies the loss.
        check_labels: See `Job`.
        where: For messages.

    Raises:
        AgreedError: The network has no flat vector, or a direction cannot be built.
    """
    model = problem.model
    with ranks.together():
        layout = layout_of(model, normalization_buffers=directions.normalization_buffers)
    _share_buffers(model, ranks)
    root_center = flat_state(model, layout).numpy() if ranks.is_root else None
    center = torch.from_numpy(broadcast(ranks, root_center))
    # From here on the network at the center is the center: one vector less in memory.
    attach(model, layout.views(center))
    built = ranks.on_root(lambda: build_directions(directions, model, layout, center, where=where))
    names = ranks.share(list(built or {}))
    vectors = {
        name: torch.from_numpy(broadcast(ranks, built[name].numpy() if built else None)) for name in names
    }
    return Job(
        problem=problem,
        layout=layout,
        center=center,
        directions=vectors,
        grid=Grid(_axis(grid.alpha), _axis(grid.beta) if grid.beta else None),
        compute=compute,
        texts={"loss": loss_text},
        check_labels=check_labels,
    )


def _share_buffers(model: nn.Module, ranks: Ranks) -> None:
    """Rank 0's buffers (running statistics and the like) on every rank."""
    if ranks.size == 1:
        return
    packed = None
    if ranks.is_root:
        stream = io.BytesIO()
        torch.save(dict(model.named_buffers()), stream)
        packed = np.frombuffer(stream.getvalue(), dtype=np.uint8)
    received = broadcast(ranks, packed)
    if not ranks.is_root:
        state = torch.load(io.BytesIO(received.tobytes()), weights_only=True)
        for name, buffer in model.named_buffers():
            buffer.copy_(state[name])


def label_check(name: str | None, where: str) -> Callable[[nn.Module, Examples], None]:
    """What refuses labels that a named loss cannot take; of another loss nothing is known.

    On a GPU such a label would end the whole process, so this comes before the first loss.

    Args:
        name: Of the loss; None for a user's own.
        where: For messages.

    Returns:
        A function of the network and a split, which raises `LandscapeError`.
    """

    def check(network: nn.Module, examples: Examples) -> None:
        if name is None:
            return
        stop = examples.num_batches
        if not isinstance(examples, Resident):
            # Reading all of a split that is not kept costs as much as a point.
            stop = min(stop, -(-_LABELS // examples.batch_size))
        outputs = None
        with closing(examples.pieces(0, stop)) as pieces:
            for number, batch in enumerate(batch for piece in pieces for batch in piece):
                inputs, targets = losses.split_batch(batch.data)
                if outputs is None:
                    with torch.no_grad():
                        outputs = network(inputs)
                place = f"{where}: data, split {examples.split}, batch {number} of {examples.batch_size}"
                losses.check_targets(name, outputs, targets, where=place)

    return check


def _axis(axis: AxisConfiguration) -> Axis:
    return Axis(axis.min, axis.max, axis.num)


def _loss_text(loss: LossConfiguration) -> str:
    arguments: dict[str, Any] = dict(sorted(loss.arguments.items()))
    return f"{loss.name or loss.target}({', '.join(f'{key}={value!r}' for key, value in arguments.items())})"
