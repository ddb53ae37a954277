"""Find solutions: train networks and leave the checkpoints that surfaces, lines and paths need.

python -m mpi_landscape.train configs/quickstart.yaml
mpiexec -n 4 python -m mpi_landscape.train configs/sharp_flat/*.yaml

In a script, `mpi_landscape.train(model, loss, data, "runs/mine", epochs=10)`: see `mpi_landscape.scripting.training.train`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any, NoReturn

from mpi_landscape.command import execution as program
from mpi_landscape.command import parser as command_line
from mpi_landscape.command.memory import keep_freed_memory
from mpi_landscape.errors import LandscapeError
from mpi_landscape.parallel.ranks import Ranks

if TYPE_CHECKING:
    from mpi_landscape.solutions.member import Member


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run `python -m mpi_landscape.train`."""
    parser = command_line.parser(
        "train",
        "Train networks, one per rank at a time; each leaves a checkpoint per epoch, final.pt and history.h5 in its "
        "folder. Run it again to go on.",
    )
    parser.add_argument(
        "configurations",
        metavar="CONFIG",
        nargs="+",
        help="YAML file with a section `training`; lists in it, such as batch_size: [128, 8192], are a sweep",
    )
    parser.add_argument(
        "--set", metavar="KEY=VALUE", action="append", default=[], help="override a field: training.epochs=5"
    )
    parser.add_argument("--overwrite", action="store_true", help="train again what is in the folders already")
    parser.add_argument(
        "--dry-run", action="store_true", help="print the plan and the expected time, write nothing"
    )
    parser.add_argument(
        "--time-limit",
        metavar="SECONDS",
        type=command_line.seconds,
        help="stop cleanly after this time (exit status 75)",
    )
    command_line.patience_option(parser, "an hour")
    program.execute(parser, run, argv)


def run(options: argparse.Namespace, ranks: Ranks) -> int:
    """Train what the options ask for; returns the exit status. Collective."""
    with ranks.together():
        members = _members(options)
    # torch takes seconds to import; what the files alone show is refused before.
    from mpi_landscape.parallel.stopping import Stopping, exit_status
    from mpi_landscape.solutions.sweep import Data, check, dry_run, train_all

    keep_freed_memory()
    data = Data()
    ranks.on_root(lambda: check(members, data, ranks.say, overwrite=options.overwrite))
    if options.dry_run:
        dry_run(members, data, ranks)
        return program.DONE
    with Stopping(options.time_limit) as stopping:
        reason, diverged = train_all(members, data, ranks, overwrite=options.overwrite, stopping=stopping)
    if reason is not None:
        ranks.say(f"stopped by {reason}; run the same command again to go on")
        return exit_status(reason)
    return program.FAILED if diverged else program.DONE


def _members(options: argparse.Namespace) -> list[Member]:
    from mpi_landscape.configuration import reading
    from mpi_landscape.solutions.member import Member

    members = [
        Member(where=where, configuration=configuration)
        for where, configuration in reading.load_all(options.configurations, options.set)
    ]
    for member in members:
        if member.configuration.training is None:
            raise LandscapeError(
                f"{member.where}: has no section training; it says how long and how to train"
            )
    return members


class _Called(ModuleType):
    """This module, which a script calls: `mpi_landscape.train(model, loss, data, "runs/mine", epochs=10)`."""

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        from mpi_landscape.scripting.training import train

        return train(*arguments, **options)


if __name__ == "__main__":
    main()
else:
    sys.modules[__name__].__class__ = _Called
