"""What a spectrum is asked for: a problem at a point, which parameters, and what of their Hessian. Collective."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

from mpi_landscape.configuration.sections.hessian import HessianConfiguration, check_computable
from mpi_landscape.configuration.sections.plane import DirectionsConfiguration
from mpi_landscape.configuration.sections.whole import Configuration
from mpi_landscape.configuration.sections.work import ComputeConfiguration
from mpi_landscape.configuration.several_checkpoints import PLACE, names_of
from mpi_landscape.errors import LandscapeError
from mpi_landscape.parallel.ranks import Ranks
from mpi_landscape.placement.building import center_source, put_at_checkpoint, share_problem
from mpi_landscape.problem.build import Problem
from mpi_landscape.problem.checkpoints import load
from mpi_landscape.problem.networks.table import build_network
from mpi_landscape.storage.claim import named_file
from mpi_landscape.storage.spectrum.schema import NORMALIZED, PLAIN, Shape
from mpi_landscape.wording import listed

OUTPUT = "spectrum.h5"


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is to be computed, the same on every rank but for the values in the network; those of rank 0 count.

    Attributes:
        problem: Network at the point, loss, and the one split that counts.
        said: The section `hessian`.
        directions: For `parameters: moving`.
        compute: Precision, device, batch size.
        checkpoint: The file of the point; None where there is none.
    """

    problem: Problem
    said: HessianConfiguration
    directions: DirectionsConfiguration
    compute: ComputeConfiguration
    checkpoint: str | None = None

    @property
    def is_extremes(self) -> bool:
        """Whether both ends alone are asked for, one eigenvalue each."""
        return self.said.values == "extremes"

    @property
    def num_largest(self) -> int:
        """How many of the largest eigenvalues are found."""
        return 1 if self.is_extremes else self.said.largest

    @property
    def num_smallest(self) -> int:
        """How many of the smallest; none of a Gauss-Newton matrix, which has none below 0 and mostly many there."""
        if self.said.operator == "gauss_newton":
            return 0
        return 1 if self.is_extremes else self.said.smallest

    @property
    def num_probes(self) -> int:
        """Random vectors of the density."""
        return 0 if self.is_extremes else self.said.probes

    @property
    def parameters(self) -> str:
        """Which parameters count, in words."""
        said = self.said.parameters
        return said if isinstance(said, str) else listed(said)

    def kept(self) -> list[int]:
        """Of which eigenvalues the vectors are kept: what is asked for, and all that the probes leave out."""
        count = self.num_largest + self.num_smallest
        if self.num_probes:
            return list(range(count))
        each = self.said.eigenvectors
        low = min(each, self.num_smallest)
        return [*range(min(each, self.num_largest)), *range(count - low, count)]

    def shape(self, num_parameters: int) -> Shape:
        """How much a file holds of everything."""
        return Shape(
            num_parameters=num_parameters,
            num_values=self.num_largest + self.num_smallest,
            num_kept=len(self.kept()),
            num_probes=self.num_probes,
            num_steps=self.said.steps if self.num_probes else 0,
            parts=(PLAIN, NORMALIZED) if self.said.normalized else (PLAIN,),
        )


def section_of(configuration: Configuration) -> HessianConfiguration:
    """The section `hessian`, or what it is where nothing is said."""
    return configuration.hessian or HessianConfiguration()


def points_of(configuration: Configuration, where: str) -> list[tuple[Configuration, Path]]:
    """A configuration for every point, whose checkpoint is that point, and the file of each.

    Of several checkpoints each has a file of its own: their names take the place of `{checkpoint}` in that of the output, or
    numbers from 1 come before its ending.

    Raises:
        LandscapeError: No output is given, it is a folder, or a Hessian cannot be computed so.
    """
    said = section_of(configuration)
    check_computable(configuration.compute, where=where)
    output = said.output or _beside(configuration)
    if output is None:
        raise LandscapeError(f"{where}: hessian.output is not given; name the file there or with --output")
    if not said.places:
        return [(configuration, named_file(output))]
    if len(said.places) == 1 and not isinstance(said.at, tuple):
        return [(_at(configuration, said.places[0], output), named_file(output))]
    twice = [each for number, each in enumerate(said.places) if each in said.places[:number]]
    if twice:
        raise LandscapeError(f"{where}: hessian.at has {twice[0]} twice; expected each once")
    found = []
    for number, (place, name) in enumerate(zip(said.places, names_of(said.places), strict=True), start=1):
        path = PurePath(output)
        own = (
            output.replace(PLACE, name)
            if PLACE in output
            else str(path.with_name(f"{path.stem}-{number}{path.suffix}"))
        )
        found.append((_at(configuration, place, own), named_file(own)))
    return found


def _beside(configuration: Configuration) -> str | None:
    """In the folder of the surface or of the training."""
    if configuration.output is not None:
        return str(Path(configuration.output).parent / OUTPUT)
    return None if configuration.training is None else str(Path(configuration.training.output) / OUTPUT)


def _at(configuration: Configuration, place: str, output: str) -> Configuration:
    said = replace(section_of(configuration), at=place, output=output)
    return replace(configuration, model=replace(configuration.model, checkpoint=place), hessian=said)


def try_points(configurations: Sequence[Configuration], *, where: str) -> None:
    """Put the checkpoint of each configuration into a network, before hours of work at the first; on one rank.

    Raises:
        LandscapeError: One cannot be read, or does not fit the network.
    """
    network = build_network(configurations[0].model, where=where, folders=[Path(where).resolve().parent])
    for configuration in configurations:
        load(network, center_source(configuration), where=str(configuration.model.checkpoint))


def request_of(configuration: Configuration, ranks: Ranks, where: str) -> Request:
    """What the configuration of one point describes, with its checkpoint read by rank 0. Collective.

    Args:
        configuration: All of it.
        ranks: The job's ranks.
        where: Its file, for messages; targets are also found beside it.

    Raises:
        AgreedError: Something of it is bad.
    """
    problem = share_problem(configuration, ranks, where)
    put_at_checkpoint(problem, configuration, ranks, where)
    with ranks.together():
        return requested(
            problem,
            section_of(configuration),
            directions=configuration.directions,
            compute=configuration.compute,
            checkpoint=configuration.model.checkpoint,
        )


def requested(
    problem: Problem,
    said: HessianConfiguration,
    *,
    directions: DirectionsConfiguration,
    compute: ComputeConfiguration,
    checkpoint: str | None = None,
) -> Request:
    """A request of one split.

    Raises:
        LandscapeError: There is no such split.
    """
    if said.split not in problem.splits:
        raise LandscapeError(
            f"{problem.where}: hessian.split is {said.split}, which the data do not have; valid are {listed(problem.splits)}"
        )
    return Request(
        problem=replace(problem, splits={said.split: problem.splits[said.split]}),
        said=said,
        directions=directions,
        compute=compute,
        checkpoint=checkpoint,
    )
