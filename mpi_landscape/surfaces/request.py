"""What a surface is asked for: a problem at its center, the directions, the points, and how to compute. Collective."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mpi_landscape.configuration.sections.plane import AutoAxis, DirectionsConfiguration, RandomDirection
from mpi_landscape.configuration.sections.whole import Configuration
from mpi_landscape.configuration.sections.work import ComputeConfiguration
from mpi_landscape.evaluation.curvature.extremes_of_points import Search
from mpi_landscape.parallel.ranks import Ranks
from mpi_landscape.placement.building import center_source, put_at_checkpoint, share_problem
from mpi_landscape.plan.grid import Axis, Grid
from mpi_landscape.problem.build import Problem
from mpi_landscape.problem.checkpoints import load
from mpi_landscape.problem.networks.table import build_network


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is to be computed, the same on every rank but for the values in the network; those of rank 0 count.

    Attributes:
        problem: Network at the center, loss, data.
        directions: What to build around it.
        checkpoint: The file of the center, for the names of points; None where there is none.
        grid: The points.
        compute: Precision, device, batch and tile sizes.
        open_axes: `alpha`, `beta`: those whose range is still to be found; of the grid they have the number of points.
        search: How eigenvalues of the Hessian are found at every point; None where they are not.
        of: The surface file whose plane it is; None where directions say it.
    """

    problem: Problem
    directions: DirectionsConfiguration
    grid: Grid
    compute: ComputeConfiguration
    checkpoint: str | None = None
    open_axes: tuple[str, ...] = ()
    search: Search | None = None
    of: str | None = None


def try_centers(configurations: Sequence[Configuration], *, where: str) -> None:
    """Put the checkpoint of each configuration into a network, which they share but for that; on one rank.

    Raises:
        LandscapeError: One cannot be read, or does not fit the network.
    """
    network = build_network(configurations[0].model, where=where, folders=[Path(where).resolve().parent])
    for configuration in configurations:
        load(network, center_source(configuration), where=str(configuration.model.checkpoint))


def grid_of(configuration: Configuration) -> Grid:
    """The points; of an axis whose range is open the number is known alone."""
    alpha, beta, along = configuration.grid.alpha, configuration.grid.beta, configuration.directions.alpha
    seeds = along.lines if isinstance(along, RandomDirection) else ()
    return Grid(_any_range(alpha), None if beta is None else _any_range(beta), seeds)


def _any_range(axis: Axis | AutoAxis) -> Axis:
    return Axis(num=axis.num) if isinstance(axis, AutoAxis) else axis


def open_axes_of(configuration: Configuration) -> tuple[str, ...]:
    """The axes whose range is open."""
    axes = {"alpha": configuration.grid.alpha, "beta": configuration.grid.beta}
    return tuple(name for name, axis in axes.items() if isinstance(axis, AutoAxis))


def request_of(configuration: Configuration, ranks: Ranks, where: str) -> Request:
    """What a configuration describes, with its checkpoint read by rank 0. Collective.

    Args:
        configuration: All of it.
        ranks: The job's ranks.
        where: Its file, for messages; targets are also found beside it.

    Raises:
        AgreedError: Something of it is bad.
    """
    problem = share_problem(configuration, ranks, where)
    put_at_checkpoint(problem, configuration, ranks, where)
    return Request(
        problem=problem,
        directions=configuration.directions,
        grid=grid_of(configuration),
        compute=configuration.compute,
        checkpoint=configuration.model.checkpoint,
        open_axes=open_axes_of(configuration),
    )
