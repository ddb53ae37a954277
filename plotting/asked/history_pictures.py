"""Which pictures of training histories a command line asks for."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mpi_landscape.errors import LandscapeError
from mpi_landscape.storage.history.records import History
from plotting.asked.request import Request, Wanted, distinct_names, places
from plotting.picture.curves import Panel, panels_of
from plotting.picture.quantities import check_kind, check_quantities, title_of


@dataclass(frozen=True, kw_only=True)
class HistoryPicture:
    """One picture to draw: labeled histories on top of each other, in panels from top to bottom."""

    histories: tuple[History, ...]
    panels: tuple[Panel, ...]
    title: str
    labels: tuple[str, ...]
    path: Path


def plan_histories(histories: Sequence[History], request: Request) -> list[HistoryPicture]:
    """The pictures of histories that a request asks for: one per file, or one of all together."""
    for history in histories:
        _check(history, request)
    groups = [list(histories)] if request.together and histories else [[history] for history in histories]
    planned = [panels_of(group, request.quantities) for group in groups]
    for group, panels in zip(groups, planned, strict=True):
        if len(panels) > 1 and (request.vmin is not None or request.vmax is not None):
            raise LandscapeError(
                f"{group[0].path}: --vmin and --vmax are for one panel, and there are "
                f"{', '.join(panel.name for panel in panels)}; choose one with --quantity"
            )
    wanted = [
        Wanted(kind="history", sources=tuple(h.path for h in group), quantities=request.quantities)
        for group in groups
    ]
    return [
        HistoryPicture(
            histories=tuple(group),
            panels=tuple(panels),
            title=request.title if request.title is not None else _common_title(group),
            labels=distinct_names(group),
            path=path,
        )
        for group, panels, path in zip(groups, planned, places(wanted, request), strict=True)
    ]


def _check(history: History, request: Request) -> None:
    for kind in request.kinds:
        check_kind(kind)
        if kind not in ("all", "history"):
            raise LandscapeError(
                f"{history.path}: --kind {kind} is for surface files, and this is a training history; "
                f"valid here: history"
            )
    check_quantities(history.path, list(history.values), request.quantities)
    for option, given, instead in (
        ("--levels", request.levels is not None, "leave it out"),
        ("--common-scale", request.common_scale, "put the files --together"),
    ):
        if given:
            raise LandscapeError(f"{history.path}: {option} is for surface files; {instead}")


def _common_title(histories: Sequence[History]) -> str:
    """The title that all histories have; nothing where the legend tells their different titles."""
    titles = {title_of(history) for history in histories}
    return titles.pop() if len(titles) == 1 else ""
