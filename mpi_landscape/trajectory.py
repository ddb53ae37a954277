"""Where training went: its checkpoints on axes that mean something, with the evidence that the plane shows it.

mpiexec -n 4 python -m mpi_landscape.trajectory configs/small/trajectories/vgg9_batch16.yaml

In a script, `mpi_landscape.trajectory(model, loss, data, "runs/mine")`: see `mpi_landscape.scripting.trajectories.trajectory`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from types import ModuleType
from typing import Any, NoReturn

from mpi_landscape.command import execution as program
from mpi_landscape.command import parser as command_line
from mpi_landscape.command.memory import keep_freed_memory
from mpi_landscape.configuration.overrides import with_output
from mpi_landscape.parallel.ranks import Ranks
from mpi_landscape.storage.claim import claimed
from mpi_landscape.storage.trajectory.reader import read_attributes
from mpi_landscape.storage.writer import CHOICES


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run `python -m mpi_landscape.trajectory`."""
    parser = command_line.parser(
        "trajectory",
        "Put the checkpoints of trainings on two axes, with the losses of each, into one HDF5 file; run it again to resume.",
    )
    parser.add_argument("configuration", metavar="CONFIG", help="YAML file, with a section `trajectory`")
    command_line.job_options(
        parser,
        example="trajectory.axes=random",
        overwrite="replace an existing trajectory file",
        patience="an hour before the first checkpoint; then 20 of them, five minutes at least",
        writers=CHOICES,
    )
    program.execute(parser, run, argv)


def run(options: argparse.Namespace, ranks: Ranks) -> int:
    """Compute the trajectories that the options ask for; returns the exit status. Collective."""
    where = str(options.configuration)
    # torch takes seconds to import; what the command line alone shows is refused before.
    from mpi_landscape.configuration import reading
    from mpi_landscape.configuration.reading import to_yaml
    from mpi_landscape.parallel.stopping import Stopping

    overrides = with_output(options.set, options.output, "trajectory.output")
    configuration = ranks.share(ranks.on_root(lambda: reading.load(where, overrides)))
    assert configuration is not None
    from mpi_landscape.evaluation.arithmetic import exact_arithmetic
    from mpi_landscape.trajectories.computing import compute
    from mpi_landscape.trajectories.request import output_of, request_of

    with ranks.together():
        path = output_of(configuration, where)
    with ExitStack() as resources:
        if not options.dry_run:
            ranks.on_root(
                lambda: resources.enter_context(
                    claimed(path, overwrite=options.overwrite, look=read_attributes)
                )
            )
        stopping = resources.enter_context(Stopping(options.time_limit))
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
    ranks.say(f"{path}: {ending.summary}")
    return program.DONE


class _Called(ModuleType):
    """This module, which a script calls: `mpi_landscape.trajectory(model, loss, data, "runs/mine")`."""

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        from mpi_landscape.scripting.trajectories import trajectory

        return trajectory(*arguments, **options)


if __name__ == "__main__":
    main()
else:
    sys.modules[__name__].__class__ = _Called
