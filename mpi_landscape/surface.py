"""The main job: the loss of a trained network over a grid of points, into one file.

mpirun -np 16 python -m mpi_landscape.surface configs/resnet56.yaml
"""

from __future__ import annotations

import argparse
import json
import shlex
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from mpi_landscape.command import execution as program
from mpi_landscape.command import parser as command_line
from mpi_landscape.command.memory import keep_freed_memory
from mpi_landscape.configuration.overrides import Override, of_option
from mpi_landscape.errors import LandscapeError
from mpi_landscape.parallel.ranks import Ranks
from mpi_landscape.plan.grid import Axis
from mpi_landscape.storage.claim import claimed, named_file
from mpi_landscape.storage.writer import CHOICES

if TYPE_CHECKING:
    from mpi_landscape.configuration.sections.whole import Configuration


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run `python -m mpi_landscape.surface`."""
    parser = command_line.parser(
        "surface", "Compute a loss surface or line into one HDF5 file; run it again to resume."
    )
    parser.add_argument("configuration", metavar="CONFIG", help="YAML file")
    parser.add_argument("--alpha", metavar="MIN:MAX:NUM", help="first axis, instead of the file's")
    second = parser.add_mutually_exclusive_group()
    second.add_argument("--beta", metavar="MIN:MAX:NUM", help="second axis, instead of the file's")
    second.add_argument("--line", action="store_true", help="along the first direction only")
    parser.add_argument(
        "--relative-error",
        metavar="SHARE",
        type=command_line.share,
        help="evaluate samples of the data until every loss is known to this, such as 0.01; run again with a smaller "
        "one, or without, to go on",
    )
    command_line.job_options(
        parser,
        example="grid.alpha.num=11",
        overwrite="replace an existing surface file",
        patience="an hour before the first tile; then 20 tiles, five minutes at least",
        writers=CHOICES,
    )
    program.execute(parser, run, argv)


def run(options: argparse.Namespace, ranks: Ranks) -> int:
    """Compute the surfaces that the options ask for, one for each checkpoint; returns the exit status. Collective."""
    where, start = str(options.configuration), time.monotonic()
    # torch takes seconds to import; what the command line alone shows is refused before.
    with ranks.together():
        overrides = _overrides(options)
    from mpi_landscape.configuration import reading

    found = ranks.share(ranks.on_root(lambda: reading.load_surfaces(where, overrides)))
    assert found is not None
    with ranks.together():
        paths = [_output(configuration, where) for configuration in found]
    if len(found) > 1:
        _look_at_all(found, ranks, where)

    def one(number: int, limit: float | None) -> int:
        configuration, path = found[number], paths[number]
        with ExitStack() as resources:
            if not options.dry_run:
                _claim(path, options, ranks, resources)
            return _compute(options, ranks, configuration, path, where, limit, several=len(found) > 1)

    names = [(configuration.model.checkpoint, path) for configuration, path in zip(found, paths, strict=True)]
    return program.one_after_another(names, ranks, options.time_limit, start, one)


def _claim(path: Path, options: argparse.Namespace, ranks: Ranks, resources: ExitStack) -> None:
    ranks.on_root(lambda: resources.enter_context(claimed(path, overwrite=options.overwrite)))


def _look_at_all(found: Sequence[Configuration], ranks: Ranks, where: str) -> None:
    """Refuse a checkpoint that does not fit before the first surface is computed, which may take hours. Collective."""
    from mpi_landscape.surfaces.request import try_centers

    ranks.on_root(lambda: try_centers(found, where=where))


def _compute(
    options: argparse.Namespace,
    ranks: Ranks,
    configuration: Configuration,
    path: Path,
    where: str,
    limit: float | None,
    *,
    several: bool,
) -> int:
    from mpi_landscape.configuration.reading import to_yaml
    from mpi_landscape.evaluation.arithmetic import exact_arithmetic
    from mpi_landscape.parallel.stopping import Stopping
    from mpi_landscape.storage.provenance import provenance
    from mpi_landscape.surfaces.computing import compute
    from mpi_landscape.surfaces.ranges import resolved
    from mpi_landscape.surfaces.request import request_of

    configuration = resolved(configuration, ranks, where)
    attributes = {"title": configuration.title, "configuration": to_yaml(configuration)}
    if several:
        # What goes on with this file alone.
        own = f"model.checkpoint={json.dumps(configuration.model.checkpoint, ensure_ascii=False)}"
        attributes["command"] = f"{provenance(())['command']} --set {shlex.quote(own)}"
    with Stopping(limit) as stopping, exact_arithmetic():
        with stopping.at_once():
            request = request_of(configuration, ranks, where)
        # What has been made until now is given back where it is freed: the network's own parameters.
        keep_freed_memory()
        ending = compute(
            request,
            ranks,
            None if options.dry_run else path,
            writer=options.writer,
            overwrite=options.overwrite,
            stopping=stopping,
            attributes=attributes,
        )
    status = program.status_before_the_end(options.dry_run, ranks, ending.stopped, ending.summary)
    if status is not None:
        return status
    ranks.say(f"{path}: {ending.summary}")
    return program.DONE


def _overrides(options: argparse.Namespace) -> list[str | Override]:
    """What the options say of fields; those that stand for one come after --set."""
    overrides = list(options.set)
    for name in ("alpha", "beta"):
        text = getattr(options, name)
        if text is not None:
            axis = Axis.parse(text, where=f"--{name}")
            overrides.append(Override(said=f"--{name}={text}", key=f"grid.{name}", value=axis))
    if options.line:
        overrides.append(Override(said="--line", key="grid.beta", value=None))
    share, output = options.relative_error, options.output
    if share is not None:
        said = f"--relative-error={share!r}"
        overrides.append(Override(said=said, key="compute.relative_error", value=share))
    if output is not None:
        overrides.append(of_option("--output", "output", output))
    return overrides


def _output(configuration: Configuration, where: str) -> Path:
    if configuration.output is None:
        raise LandscapeError(f"{where}: output is not given; name the surface file there or with --output")
    return named_file(configuration.output)


if __name__ == "__main__":
    main()
