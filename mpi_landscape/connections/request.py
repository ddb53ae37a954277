"""What is to be connected: a problem at the start of the path, the end, and how. Collective."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from mpi_landscape.configuration.sections.connect import ConnectConfiguration
from mpi_landscape.configuration.sections.whole import Configuration
from mpi_landscape.configuration.sections.work import ComputeConfiguration
from mpi_landscape.errors import LandscapeError
from mpi_landscape.evaluation.lending import restore, tensors_of
from mpi_landscape.parallel.ranks import Ranks
from mpi_landscape.placement.ends import end_of
from mpi_landscape.placement.sharing import share_tensors
from mpi_landscape.problem.build import Problem, build
from mpi_landscape.problem.checkpoints import Source, load, read_weights
from mpi_landscape.problem.datasets.table import build_splits
from mpi_landscape.problem.networks.table import build_network

# Numbers are made in these, as the network itself is moved; of bfloat16 a copy would have to be made at every point.
PRECISIONS = ("float32", "tf32", "float64", "kept")


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is to be computed, the same on every rank.

    Attributes:
        problem: Network at the start, loss, data.
        end: Parameters and buffers at the end, by the names of `named_parameters()` and `named_buffers()`, on the CPU.
        settings: The path, with nothing left open.
        compute: Precision, device, batch size, statistics of batch normalization.
        where: What describes it, for messages.
    """

    problem: Problem
    end: Mapping[str, Tensor]
    settings: ConnectConfiguration
    compute: ComputeConfiguration
    where: str


def request_of(configuration: Configuration, ranks: Ranks, where: str) -> Request:
    """What a configuration describes, with its checkpoints read by rank 0. Collective.

    Args:
        configuration: With a section `connect`.
        ranks: The job's ranks.
        where: Its file, for messages; targets are also found beside it.

    Raises:
        AgreedError: Something of it is bad.
    """
    settings = configuration.connect
    assert settings is not None
    folders = [Path(where).resolve().parent]
    # What is fetched is fetched once for all; then it is there.
    if configuration.model.arguments.get("download"):
        ranks.on_root(lambda: build_network(configuration.model, where=where, folders=folders))
    if configuration.data.download:
        ranks.on_root(lambda: build_splits(configuration.data, where=where, folders=folders))
        configuration = replace(configuration, data=replace(configuration.data, download=False))
    torch.manual_seed(0)
    with ranks.together():
        problem = build(configuration, where=where, folders=folders)
    key = settings.key or configuration.model.key
    part = settings.part or configuration.model.part
    found: dict[str, Tensor] = {}

    def read() -> None:
        start = Source(path=settings.start, key=key, part=part, field="connect.start")
        for line in load(problem.model, start, where=f"{where}: connect.start: {settings.start}"):
            ranks.say(f"start       {settings.start}: {line}")
        weights = read_weights(Source(path=settings.end, key=key, part=part, field="connect.end"))
        end, lines = end_of(problem.model, weights, where=f"{where}: connect.end: {settings.end}")
        for line in lines:
            ranks.say(f"end         {settings.end}: {line}")
        found.update(tensors_of(end))

    ranks.on_root(read)
    return request_between(problem, found, settings.resolved, configuration.compute, ranks, where=where)


def request_between(
    problem: Problem,
    end: Mapping[str, Tensor],
    settings: ConnectConfiguration,
    compute: ComputeConfiguration,
    ranks: Ranks,
    *,
    where: str,
) -> Request:
    """A request whose start is in rank 0's network and whose end rank 0 has. Collective.

    Raises:
        AgreedError: It cannot be.
    """
    with ranks.together():
        check(problem, settings, compute, where=where)
    model = problem.model
    restore(model, share_tensors(tensors_of(model) if ranks.is_root else None, ranks, copied=False))
    shared = share_tensors(end if ranks.is_root else None, ranks)
    # Once, and when its parameters are there: an adapter may merge itself into a weight.
    model.eval()
    return Request(problem=problem, end=shared, settings=settings, compute=compute, where=where)


def check(
    problem: Problem, settings: ConnectConfiguration, compute: ComputeConfiguration, *, where: str
) -> None:
    """Refuse what the configuration alone shows to be impossible.

    Raises:
        LandscapeError: So it is.
    """
    if compute.precision not in PRECISIONS:
        raise LandscapeError(
            f"{where}: compute.precision is {compute.precision}, and along a path the network itself is moved; valid are "
            f"{', '.join(PRECISIONS)}"
        )
    if compute.relative_error is not None:
        raise LandscapeError(
            f"{where}: compute.relative_error is {compute.relative_error:g}, and the losses along a path are of all data; leave "
            f"it out"
        )
    if [name for name in compute.quantities if name == "gradient_norm"]:
        raise LandscapeError(
            f"{where}: compute.quantities has gradient_norm, which is not known along a path; leave it out"
        )
    if settings.method != "line" and "train" not in problem.splits:
        raise LandscapeError(
            f"{where}: data has no split 'train' to find a path on; it has {', '.join(problem.splits)}"
        )
