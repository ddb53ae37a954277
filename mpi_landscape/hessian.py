"""How sharp, in which directions, and where it is not convex: eigenvalues of the Hessian, over a plane or at a point.

mpiexec -n 4 python -m mpi_landscape.hessian configs/small/curvature/resnet20.yaml

In a script, `mpi_landscape.hessian(model, loss, data, at="center")`: see `mpi_landscape.scripting.curvatures.hessian`.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NoReturn

from mpi_landscape.command import execution as program
from mpi_landscape.command import parser as command_line
from mpi_landscape.command.memory import keep_freed_memory
from mpi_landscape.configuration.overrides import with_output
from mpi_landscape.parallel.ranks import Ranks
from mpi_landscape.storage.claim import claimed
from mpi_landscape.storage.writer import CHOICES

if TYPE_CHECKING:
    from mpi_landscape.configuration.sections.whole import Configuration


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run `python -m mpi_landscape.hessian`."""
    parser = command_line.parser(
        "hessian",
        "Find eigenvalues of the Hessian at a point, or both ends of them at every point of a plane, into one HDF5 file; run it "
        "again to resume.",
    )
    parser.add_argument("configuration", metavar="CONFIG", help="YAML file, perhaps with a section `hessian`")
    command_line.job_options(
        parser,
        example="hessian.at=grid",
        overwrite="replace an existing file",
        patience="an hour before the first tile; then 20 tiles, five minutes at least",
        writers=CHOICES,
    )
    program.execute(parser, run, argv)


def run(options: argparse.Namespace, ranks: Ranks) -> int:
    """Compute what the options ask for; returns the exit status. Collective."""
    where = str(options.configuration)
    # torch takes seconds to import; what the command line alone shows is refused before.
    from mpi_landscape.configuration import reading
    from mpi_landscape.storage.surface.plane import is_of_a_surface

    overrides = with_output(options.set, options.output, "hessian.output")
    configuration = ranks.share(ranks.on_root(lambda: reading.load(where, overrides)))
    assert configuration is not None
    at = configuration.hessian.at if configuration.hessian else "center"
    if ranks.share(ranks.on_root(lambda: at == "grid" or is_of_a_surface(at))):
        return _map(options, ranks, configuration, where)
    return _points(options, ranks, configuration, where)


def _map(options: argparse.Namespace, ranks: Ranks, configuration: Configuration, where: str) -> int:
    """At every point of a plane."""
    from mpi_landscape.configuration.reading import to_yaml
    from mpi_landscape.evaluation.arithmetic import exact_arithmetic
    from mpi_landscape.parallel.stopping import Stopping
    from mpi_landscape.surfaces.computing import compute
    from mpi_landscape.surfaces.curvature import curved, in_the_plane, said_of_the_map
    from mpi_landscape.surfaces.ranges import resolved
    from mpi_landscape.surfaces.request import request_of

    found = ranks.on_root(lambda: in_the_plane(configuration, where=where))
    configuration, path = ranks.share(found) or (configuration, None)
    assert path is not None
    configuration = resolved(configuration, ranks, where)
    with ExitStack() as resources:
        if not options.dry_run:
            ranks.on_root(lambda: resources.enter_context(claimed(path, overwrite=options.overwrite)))
        stopping = resources.enter_context(Stopping(options.time_limit))
        resources.enter_context(exact_arithmetic())
        with stopping.at_once():
            request = request_of(configuration, ranks, where)
            with ranks.together():
                request = curved(request, configuration.hessian)
        keep_freed_memory()
        ending = compute(
            request,
            ranks,
            None if options.dry_run else path,
            writer=options.writer,
            overwrite=options.overwrite,
            stopping=stopping,
            attributes={"title": configuration.title, "configuration": to_yaml(configuration)},
        )
    status = program.status_before_the_end(options.dry_run, ranks, ending.stopped, ending.summary)
    if status is not None:
        return status
    ranks.say(f"{path}: {ending.summary}")
    for line in ranks.share(ranks.on_root(lambda: said_of_the_map(path))) or []:
        ranks.say(line)
    return program.DONE


def _points(options: argparse.Namespace, ranks: Ranks, configuration: Configuration, where: str) -> int:
    """At the center, at a checkpoint, or at several checkpoints one after the other, each into a file of its own."""
    from mpi_landscape.curvatures.request import points_of, try_points

    start = time.monotonic()
    found = ranks.share(ranks.on_root(lambda: points_of(configuration, where))) or []
    if len(found) > 1:
        # One that does not fit is refused before hours of work at the first.
        ranks.on_root(lambda: try_points([each for each, _ in found], where=where))
    return program.one_after_another(
        [(point.model.checkpoint, path) for point, path in found],
        ranks,
        options.time_limit,
        start,
        lambda number, limit: _point(options, ranks, *found[number], where, limit),
    )


def _point(
    options: argparse.Namespace,
    ranks: Ranks,
    configuration: Configuration,
    path: Path,
    where: str,
    limit: float | None,
) -> int:
    """The spectrum at one point. Collective."""
    from mpi_landscape.configuration.reading import to_yaml
    from mpi_landscape.curvatures.computing import compute, said_of_the_spectrum
    from mpi_landscape.curvatures.request import request_of
    from mpi_landscape.evaluation.arithmetic import exact_arithmetic
    from mpi_landscape.parallel.stopping import Stopping
    from mpi_landscape.storage.spectrum.schema import check_kind

    with ExitStack() as resources:
        if not options.dry_run:
            claim = claimed(path, overwrite=options.overwrite, look=check_kind)
            ranks.on_root(lambda: resources.enter_context(claim))
        stopping = resources.enter_context(Stopping(limit))
        resources.enter_context(exact_arithmetic())
        with stopping.at_once():
            request = request_of(configuration, ranks, where)
        keep_freed_memory()
        ending = compute(
            request,
            ranks,
            None if options.dry_run else path,
            writer=options.writer,
            overwrite=options.overwrite,
            stopping=stopping,
            attributes={"title": configuration.title, "configuration": to_yaml(configuration)},
        )
    status = program.status_before_the_end(options.dry_run, ranks, ending.stopped, ending.summary)
    if status is not None:
        return status
    for line in ranks.share(ranks.on_root(lambda: said_of_the_spectrum(path))) or []:
        ranks.say(line)
    ranks.say(f"{path}: {ending.summary}")
    return program.DONE


class _Called(ModuleType):
    """This module, which a script calls: `mpi_landscape.hessian(model, loss, data)`."""

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        from mpi_landscape.scripting.curvatures import hessian

        return hessian(*arguments, **options)


if __name__ == "__main__":
    main()
else:
    sys.modules[__name__].__class__ = _Called
