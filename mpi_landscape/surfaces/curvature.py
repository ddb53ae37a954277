"""A map of curvature: both ends of the Hessian's spectrum as further quantities of a surface (Li et al. 2018, section 6)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mpi_landscape.configuration.sections.hessian import HessianConfiguration, check_computable
from mpi_landscape.configuration.sections.plane import FileDirection, GridConfiguration
from mpi_landscape.configuration.sections.whole import Configuration
from mpi_landscape.errors import LandscapeError
from mpi_landscape.evaluation.curvature.extremes_of_points import Search
from mpi_landscape.geometry.kept import KeptPlane
from mpi_landscape.geometry.plane import Plane
from mpi_landscape.storage.claim import named_file
from mpi_landscape.storage.surface.curvature import curvature_facts, curvature_lines
from mpi_landscape.storage.surface.plane import check_center, place_of
from mpi_landscape.storage.surface.reader import read_surface
from mpi_landscape.surfaces.identity import fingerprint_of
from mpi_landscape.surfaces.planning import STRIP
from mpi_landscape.surfaces.request import Request
from mpi_landscape.wording import listed

OUTPUT = "curvature_map.h5"


def in_the_plane(configuration: Configuration, *, where: str) -> tuple[Configuration, Path]:
    """The configuration with grid and directions of the surface that it names, if it does; and the file of the map.

    Raises:
        LandscapeError: A Hessian cannot be computed so, the surface cannot be read, or no file is given.
    """
    said = configuration.hessian or HessianConfiguration()
    check_computable(configuration.compute, where=where)
    if said.values == "spectrum":
        raise LandscapeError(
            f"{where}: hessian.values is spectrum, and at a grid extremes alone are known; valid are values: extremes, or "
            f"at: center"
        )
    output = said.output or (configuration.output and str(Path(configuration.output).parent / OUTPUT))
    if not output:
        raise LandscapeError(
            f"{where}: hessian.output is not given; name the file of the map there or with --output"
        )
    if said.at != "grid":
        configuration = _along(configuration, str(said.at), where)
    return configuration, named_file(output)


def _along(configuration: Configuration, surface: str, where: str) -> Configuration:
    """On the axes of a surface file."""
    try:
        alpha, beta = place_of(surface)
    except LandscapeError as error:
        raise LandscapeError(f"{where}: hessian.at: {error}") from error
    axis = FileDirection(path=surface)
    directions = replace(
        configuration.directions,
        alpha=axis,
        beta=None if beta is None else axis,
        orthogonalize=False,
    )
    grid = GridConfiguration(alpha=alpha, beta=beta)
    return replace(configuration, directions=directions, grid=grid)


def curved(request: Request, said: HessianConfiguration | None) -> Request:
    """A surface of one split alone, with what is found of its Hessian at every point.

    Raises:
        LandscapeError: There is no such split.
    """
    said, problem = said or HessianConfiguration(), request.problem
    if said.split not in problem.splits:
        raise LandscapeError(
            f"{problem.where}: hessian.split is {said.split}, which the data do not have; valid are {listed(problem.splits)}"
        )
    search = Search(
        operator=said.operator,
        parameters=said.parameters,
        tolerance=said.tolerance,
        most_steps=said.most_steps,
        normalized=said.normalized,
        starts=said.starts,
        seed=said.seed,
        engine=said.engine,
        memory=None if said.memory == "auto" else int(said.memory * 2**30),
    )
    return replace(
        request,
        problem=replace(problem, splits={said.split: problem.splits[said.split]}),
        search=search,
        # A point begins at its neighbor's vectors, so neighbors are in one tile.
        grid=replace(request.grid, strips=STRIP) if said.starts == "tiles" else request.grid,
        of=None if said.at == "grid" else str(said.at),
    )


def check_plane(request: Request, plane: Plane | KeptPlane) -> None:
    """Refuse the plane of a surface around another network.

    Raises:
        LandscapeError: It is of one.
    """
    if request.of is not None:
        check_center(request.of, fingerprint_of(plane, "center"))


def said_of_the_map(path: Path) -> Sequence[str]:
    """What a finished map shows, in lines for people."""
    surface = read_surface(path)
    return curvature_lines(curvature_facts(surface))
