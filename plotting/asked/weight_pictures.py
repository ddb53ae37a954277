"""Which pictures of the weights of checkpoints a command line asks for."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mpi_landscape.errors import LandscapeError
from mpi_landscape.storage.weights_file import WeightCounts
from plotting.asked.request import Request, Wanted, output_file, places
from plotting.picture.quantities import check_kind

KINDS = ("histogram", "norms")


@dataclass(frozen=True, kw_only=True)
class WeightPicture:
    """One picture to draw: its kind, what of, and the file that it goes to."""

    kind: str
    counts: WeightCounts
    title: str
    path: Path


def plan_weights(files: Sequence[WeightCounts], request: Request) -> list[WeightPicture]:
    """The pictures that a request asks for: of each file the histograms of its checkpoints, and their norms per tensor."""
    for counts in files:
        _check(counts, request)
    kinds = KINDS if not request.kinds or "all" in request.kinds else request.kinds
    if output_file(request) is not None and not request.kinds:
        kinds = kinds[:1]
    drawn = [(counts, kind) for counts in files for kind in dict.fromkeys(kinds)]
    wanted = [Wanted(kind=kind, sources=(counts.path,), quantities=()) for counts, kind in drawn]
    return [
        WeightPicture(kind=kind, counts=counts, title=request.title or "", path=path)
        for (counts, kind), path in zip(drawn, places(wanted, request), strict=True)
    ]


def _check(counts: WeightCounts, request: Request) -> None:
    for kind in request.kinds:
        check_kind(kind)
        if kind not in ("all", *KINDS):
            raise LandscapeError(
                f"{counts.path}: --kind {kind} is not for a file of weights; valid here: {', '.join(KINDS)}"
            )
    for option, given in (
        ("--quantity", bool(request.quantities)),
        ("--levels", request.levels is not None),
        ("--vmin and --vmax", request.vmin is not None or request.vmax is not None),
        ("--common-scale", request.common_scale),
        ("--together", request.together),
    ):
        if given:
            raise LandscapeError(
                f"{counts.path}: {option} is not for a file of weights, whose checkpoints have one scale already; leave it out"
            )
