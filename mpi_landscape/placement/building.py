"""The problem of a configuration on every rank, but for its checkpoint, which one rank reads for all. Collective."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from mpi_landscape.configuration.sections.whole import Configuration
from mpi_landscape.errors import LandscapeError
from mpi_landscape.parallel.ranks import Ranks
from mpi_landscape.problem.build import Problem, build
from mpi_landscape.problem.checkpoints import Source, load
from mpi_landscape.problem.datasets.table import build_splits
from mpi_landscape.problem.networks.table import brings_weights, build_network


def share_problem(configuration: Configuration, ranks: Ranks, where: str) -> Problem:
    """Network, loss and data as a configuration describes them; messages call it by its file, `where`. Collective.

    Targets are also found beside that file.

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
        return build(configuration, where=where, folders=folders)


def put_at_checkpoint(problem: Problem, configuration: Configuration, ranks: Ranks, where: str) -> None:
    """Put rank 0's network at the checkpoint of a configuration, and every rank's into evaluation mode. Collective.

    Raises:
        AgreedError: There is no such checkpoint, or it does not fit the network.
    """
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


def center_source(configuration: Configuration) -> Source:
    """Where the parameters at the center are, of a configuration that names a checkpoint."""
    return source_of(
        configuration, str(configuration.model.checkpoint), is_own=configuration.is_own_checkpoint
    )


def source_of(configuration: Configuration, path: str, *, is_own: bool) -> Source:
    """Where the network's parameters are in a checkpoint; in one of the training of the same file (`is_own`) they are all."""
    model = configuration.model
    return Source(path=path, key=None if is_own else model.key, part=None if is_own else model.part)
