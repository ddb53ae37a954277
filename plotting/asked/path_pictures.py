"""Which pictures of paths between solutions a command line asks for."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mpi_landscape.errors import LandscapeError
from mpi_landscape.storage.connection.value import Connection
from plotting.asked.request import Request, Wanted, places
from plotting.picture.quantities import check_kind, title_of


@dataclass(frozen=True, kw_only=True)
class PathPicture:
    """One picture to draw: a path with its title, and where it goes."""

    connection: Connection
    title: str
    path: Path


def plan_paths(connections: Sequence[Connection], request: Request) -> list[PathPicture]:
    """The pictures of paths that a request asks for, one per file.

    Raises:
        LandscapeError: It asks for what a path does not have.
    """
    for connection in connections:
        _check(connection, request)
    wanted = [Wanted(kind="path", sources=(each.path,), quantities=()) for each in connections]
    return [
        PathPicture(
            connection=each, title=request.title if request.title is not None else title_of(each), path=path
        )
        for each, path in zip(connections, places(wanted, request), strict=True)
    ]


def _check(connection: Connection, request: Request) -> None:
    for kind in request.kinds:
        check_kind(kind)
        if kind not in ("all", "path"):
            raise LandscapeError(
                f"{connection.path}: --kind {kind} is for other files, and this is of a path; valid here: path"
            )
    for option, given in (
        ("--quantity", bool(request.quantities)),
        ("--levels", request.levels is not None),
        ("--common-scale", request.common_scale),
        ("--together", request.together),
    ):
        if given:
            raise LandscapeError(f"{connection.path}: {option} is not for a path; leave it out")
