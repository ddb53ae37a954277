"""Connect two solutions: a path of low loss between them, and the losses along it, into one HDF5 file.

python -m mpi_landscape.connect configs/small/connected/mlp_bezier.yaml
mpiexec -n 4 python -m mpi_landscape.connect configs/connected/resnet20_autoneb.yaml

In a script, `mpi_landscape.connect(model, loss, data, start, end)`: see `mpi_landscape.scripting.connections.connect`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NoReturn

from mpi_landscape.command import execution as program
from mpi_landscape.command import parser as command_line
from mpi_landscape.command.memory import keep_freed_memory
from mpi_landscape.configuration.overrides import with_output
from mpi_landscape.errors import LandscapeError
from mpi_landscape.parallel.ranks import Ranks
from mpi_landscape.storage.claim import claimed, named_file
from mpi_landscape.storage.connection.schema import check_kind
from mpi_landscape.storage.writer import CHOICES

if TYPE_CHECKING:
    from mpi_landscape.configuration.sections.whole import Configuration


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run `python -m mpi_landscape.connect`."""
    parser = command_line.parser(
        "connect",
        "Find a path of low loss between two solutions, and compute the losses along it and along the straight line; "
        "run it again to go on.",
    )
    parser.add_argument("configuration", metavar="CONFIG", help="YAML file with a section `connect`")
    command_line.job_options(
        parser,
        example="connect.method=autoneb",
        overwrite="seek the path anew, and replace the file",
        patience="an hour",
        writers=CHOICES,
    )
    program.execute(parser, run, argv)


def run(options: argparse.Namespace, ranks: Ranks) -> int:
    """Find the path that the options ask for; returns the exit status. Collective."""
    where = str(options.configuration)
    from mpi_landscape.configuration import reading

    overrides = with_output(options.set, options.output, "output")
    configuration = ranks.share(ranks.on_root(lambda: reading.load(where, overrides)))
    assert configuration is not None
    with ranks.together():
        path = _output(configuration, where)
    # torch takes seconds to import; what the file alone shows is refused before.
    from mpi_landscape.connections.connecting import connect
    from mpi_landscape.connections.request import request_of
    from mpi_landscape.evaluation.arithmetic import exact_arithmetic
    from mpi_landscape.parallel.stopping import Stopping, exit_status

    with ExitStack() as resources:
        if not options.dry_run:
            claim = claimed(path, overwrite=options.overwrite, look=check_kind)
            ranks.on_root(lambda: resources.enter_context(claim))
        with Stopping(options.time_limit) as stopping, exact_arithmetic():
            with stopping.at_once():
                request = request_of(configuration, ranks, where)
            keep_freed_memory()
            found = connect(
                request,
                ranks,
                None if options.dry_run else path,
                writer=options.writer,
                overwrite=options.overwrite,
                stopping=stopping,
                attributes={"title": configuration.title, "configuration": reading.to_yaml(configuration)},
                command_of=where,
            )
    if found.stopped is not None:
        ranks.say(f"stopped by {found.stopped}; run the same command again to go on")
        return exit_status(found.stopped)
    if not options.dry_run:
        for text in found.lines(path):
            ranks.say(text)
    return program.DONE


def _output(configuration: Configuration, where: str) -> Path:
    if configuration.connect is None:
        raise LandscapeError(
            f"{where}: has no section connect; it says which two solutions to connect, and how"
        )
    if configuration.output is None:
        raise LandscapeError(f"{where}: output is not given; name the file there or with --output")
    return named_file(configuration.output)


class _Called(ModuleType):
    """This module, which a script calls: `mpi_landscape.connect(model, loss, data, start, end)`."""

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        from mpi_landscape.scripting.connections import connect

        return connect(*arguments, **options)


if __name__ == "__main__":
    main()
else:
    sys.modules[__name__].__class__ = _Called
