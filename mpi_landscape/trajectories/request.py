"""What a trajectory is asked for: checkpoints of a network, axes, and how to compute. Collective."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mpi_landscape.configuration.sections.plane import DirectionsConfiguration
from mpi_landscape.configuration.sections.trajectory import TrajectoryConfiguration
from mpi_landscape.configuration.sections.whole import Configuration
from mpi_landscape.configuration.sections.work import ComputeConfiguration
from mpi_landscape.errors import LandscapeError
from mpi_landscape.parallel.ranks import Ranks
from mpi_landscape.placement.building import share_problem, source_of
from mpi_landscape.problem.build import Problem
from mpi_landscape.problem.checkpoints import Source, load
from mpi_landscape.storage.claim import named_file
from mpi_landscape.trajectories.found import Way, find, folder_of, said_lines

OUTPUT = "trajectory.h5"


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is to be computed, the same on every rank but for the values in the network; those of rank 0 count.

    Attributes:
        problem: Network at the center, loss, data.
        said: The section `trajectory`.
        directions: What axes that are random are made of.
        ways: The checkpoints.
        center: The path of that at the center.
        source: Says where in a checkpoint the network's parameters are, of its path.
        compute: Precision, device, batch size.
    """

    problem: Problem
    said: TrajectoryConfiguration
    directions: DirectionsConfiguration
    ways: Sequence[Way]
    center: str
    source: Callable[[str], Source]
    compute: ComputeConfiguration

    @property
    def paths(self) -> tuple[str, ...]:
        """All checkpoints, one trajectory after the other."""
        return tuple(path for way in self.ways for path in way.paths)

    @property
    def at_center(self) -> tuple[bool, ...]:
        """Which of them is the center itself."""
        center = os.path.realpath(self.center)
        return tuple(os.path.realpath(path) == center for path in self.paths)

    @property
    def here(self) -> str:
        """What to call the checkpoints."""
        return f"{self.problem.where}: trajectory.checkpoints"


def section_of(configuration: Configuration, where: str) -> TrajectoryConfiguration:
    """The section `trajectory` of a configuration, with the training's folder where it does not say of checkpoints.

    Raises:
        LandscapeError: It says nothing of them, and there is no training.
    """
    said = configuration.trajectory or TrajectoryConfiguration()
    if said.checkpoints is not None:
        return said
    if configuration.training is None:
        raise LandscapeError(
            f"{where}: trajectory.checkpoints is not given, and there is no training; name a folder of checkpoints"
        )
    return replace(said, checkpoints=configuration.training.output)


def output_of(configuration: Configuration, where: str) -> Path:
    """The file of a trajectory: as said, or `trajectory.h5` in the folder of the training or the checkpoints.

    Raises:
        LandscapeError: It is not given, or is a folder.
    """
    said = section_of(configuration, where)
    output, folder = said.output or configuration.output, None
    if configuration.training is not None:
        folder = Path(configuration.training.output)
        if said.output is None and output == str(folder / "surface.h5"):  # what it is where nothing is said
            output = None
    if output is None:
        places = list(said.places.values())
        folder = folder or (folder_of(places[0]) if len(places) == 1 else None)
        if folder is None:
            raise LandscapeError(
                f"{where}: output is not given; name the trajectory file there or with --output"
            )
        output = str(folder / OUTPUT)
    return named_file(output)


def request_of(configuration: Configuration, ranks: Ranks, where: str) -> Request:
    """What a configuration describes, with the checkpoint at the center read by rank 0. Collective.

    Args:
        configuration: All of it.
        ranks: The job's ranks.
        where: Its file, for messages; targets are also found beside it.

    Raises:
        AgreedError: Something of it is bad.
    """
    with ranks.together():
        said = section_of(configuration, where)
    own = None if configuration.training is None else Path(configuration.training.output)

    def source(path: str) -> Source:
        return source_of(configuration, path, is_own=own is not None and Path(path).parent == own)

    problem = share_problem(configuration, ranks, where)
    return requested(
        problem,
        said,
        ranks,
        directions=configuration.directions,
        compute=configuration.compute,
        source=source,
    )


def requested(
    problem: Problem,
    said: TrajectoryConfiguration,
    ranks: Ranks,
    *,
    directions: DirectionsConfiguration,
    compute: ComputeConfiguration,
    source: Callable[[str], Source],
) -> Request:
    """A request whose checkpoints are found, and whose network is put at the center. Collective.

    Raises:
        AgreedError: There are no checkpoints, or that at the center is bad.
    """
    where = problem.where
    ways = ranks.share(ranks.on_root(lambda: find(said, said.places, where=where))) or []
    for line in said_lines(ways):
        ranks.say(line)
    center = ways[0].paths[-1] if said.center == "last" else said.center

    def put() -> list[str]:
        if not Path(center).exists():
            raise LandscapeError(
                f"{where}: trajectory.center: {center}: there is no such file (working folder {Path.cwd()}); valid are last and "
                f"a checkpoint"
            )
        return load(problem.model, source(center), where=center)

    for line in ranks.on_root(put) or []:
        ranks.say(f"checkpoint  {center}: {line}")
    problem.model.eval()
    return Request(
        problem=problem,
        said=said,
        directions=directions,
        ways=ways,
        center=center,
        source=source,
        compute=compute,
    )
