"""What a surface is asked for: a problem at its center, the directions, the points, and how to compute. Collective."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from mpi_landscape.configuration.sections.plane import DirectionsConfiguration, RandomDirection
from mpi_landscape.configuration.sections.whole import Configuration
from mpi_landscape.configuration.sections.work import ComputeConfiguration
from mpi_landscape.errors import LandscapeError
from mpi_landscape.parallel.ranks import Ranks
from mpi_landscape.plan.grid import Grid
from mpi_landscape.problem.build import Problem, build
from mpi_landscape.problem.checkpoints import Source, load
from mpi_landscape.problem.datasets.table import build_splits
from mpi_landscape.problem.networks.table import brings_weights, build_network


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is to be computed, the same on every rank but for the values in the network; those of rank 0 count.

    Attributes:
        problem: Network at the center, loss, data.
        directions: What to build around it.
        checkpoint: The file of the center, for the names of points; None where there is none.
        grid: The points.
        compute: Precision, device, batch and tile sizes.
    """

    problem: Problem
    directions: DirectionsConfiguration
    grid: Grid
    compute: ComputeConfiguration
    checkpoint: str | None = None


def grid_of(configuration: Configuration) -> Grid:
    """The points that a configuration describes."""
    grid, alpha = configuration.grid, configuration.directions.alpha
    return Grid(grid.alpha, grid.beta, alpha.lines if isinstance(alpha, RandomDirection) else ())


def try_centers(configurations: Sequence[Configuration], *, where: str) -> None:
    """Put the checkpoint of each configuration into a network, which they share but for that; on one rank.

    Raises:
        LandscapeError: One cannot be read, or does not fit the network.
    """
    network = build_network(configurations[0].model, where=where, folders=[Path(where).resolve().parent])
    for configuration in configurations:
        load(network, center_source(configuration), where=str(configuration.model.checkpoint))


def center_source(configuration: Configuration) -> Source:
    """Where the parameters at the center are, of a configuration that names a checkpoint."""
    model = configuration.model
    own = configuration.is_own_checkpoint
    return Source(
        path=str(model.checkpoint), key=None if own else model.key, part=None if own else model.part
    )


def request_of(configuration: Configuration, ranks: Ranks, where: str) -> Request:
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
    if checkpoint is None:
        if not brings_weights(configuration.model):
            ranks.say(
                f"warning: {where}: model.checkpoint is not given; the parameters at the center are untrained"
                + (", unless the target has trained ones" if configuration.model.target is not None else "")
            )
    else:
        with ranks.together():
            if ranks.is_root:
                if configuration.training is not None and not Path(checkpoint).exists():
                    raise LandscapeError(
                        f"{checkpoint}: no such checkpoint (working folder {Path.cwd()}); "
                        f"python -m mpi_landscape.train {where} makes it"
                    )
                for line in load(problem.model, center_source(configuration), where=checkpoint):
                    ranks.say(f"checkpoint  {checkpoint}: {line}")
    # Once, and when its parameters are there: an adapter may merge itself into a weight.
    problem.model.eval()
    return Request(
        problem=problem,
        directions=configuration.directions,
        grid=grid_of(configuration),
        compute=configuration.compute,
        checkpoint=checkpoint,
    )
