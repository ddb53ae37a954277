"""The main job: the loss of a trained network over a grid of points, into one file.

mpirun -np 16 python -m mpi_landscape.surface configs/resnet56.yaml
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from mpi_landscape import program
from mpi_landscape.errors import LandscapeError
from mpi_landscape.geometry.grid import Axis, Grid
from mpi_landscape.parallel.ranks import Ranks
from mpi_landscape.storage.lock import exclusive
from mpi_landscape.storage.reader import read_attributes
from mpi_landscape.storage.writer import CHOICES

if TYPE_CHECKING:
    from torch import nn

    from mpi_landscape.problem.sections.plane import AxisConfiguration
    from mpi_landscape.problem.sections.whole import Configuration


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run `python -m mpi_landscape.surface`."""
    parser = program.parser(
        "surface", "Compute a loss surface or line into one HDF5 file; run it again to resume."
    )
    parser.add_argument("configuration", metavar="CONFIG", help="YAML file")
    parser.add_argument("--alpha", metavar="MIN:MAX:NUM", help="first axis, instead of the file's")
    second = parser.add_mutually_exclusive_group()
    second.add_argument("--beta", metavar="MIN:MAX:NUM", help="second axis, instead of the file's")
    second.add_argument("--line", action="store_true", help="along the first direction only")
    parser.add_argument("--output", metavar="FILE", help="the surface file, instead of the configuration's")
    parser.add_argument(
        "--set", metavar="KEY=VALUE", action="append", default=[], help="override a field: grid.alpha.num=11"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="print the plan and the expected time, write nothing"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an existing surface file")
    parser.add_argument(
        "--time-limit", metavar="SECONDS", type=_seconds, help="stop cleanly after this time (exit status 75)"
    )
    parser.add_argument(
        "--writer", choices=CHOICES, default="auto", help="who writes: every rank, or rank 0 for all"
    )
    program.execute(parser, run, argv)


def run(options: argparse.Namespace, ranks: Ranks) -> int:
    """Compute the surface that the options ask for; returns the exit status. Collective."""
    where = str(options.configuration)
    with ExitStack() as resources:
        # torch takes seconds to import; what the command line alone shows is refused before.
        overrides = ranks.together(lambda: _overrides(options))
        from mpi_landscape.problem import configuration as reading

        text = ranks.on_root(lambda: reading.to_yaml(reading.load(where, overrides)))
        configuration = ranks.together(lambda: reading.load_text(ranks.share(text) or "", where=where))
        path = ranks.together(lambda: _output(configuration, where))
        if not options.dry_run:
            ranks.on_root(lambda: _claim(resources, path, options.overwrite))
        return _compute(options, ranks, configuration, path, where)


def _compute(
    options: argparse.Namespace, ranks: Ranks, configuration: Configuration, path: Path, where: str
) -> int:
    from mpi_landscape.computation import compute
    from mpi_landscape.evaluation.arithmetic import exact_arithmetic
    from mpi_landscape.parallel.stopping import Stopping
    from mpi_landscape.preparation import describe_plan, prepare
    from mpi_landscape.problem.configuration import to_yaml

    with Stopping(options.time_limit) as stopping, exact_arithmetic():
        job = build_job(configuration, ranks, where)
        prepared = prepare(job, ranks)
        with prepared.evaluator:
            for line in describe_plan(prepared, ranks.size):
                program.say(ranks, line)
            if options.dry_run:
                return program.DONE
            attributes = {"title": _title(configuration), "configuration": to_yaml(configuration)}
            reason = compute(
                prepared,
                ranks,
                path,
                writer=options.writer,
                overwrite=options.overwrite,
                stopping=stopping,
                attributes=attributes,
            )
    if reason is not None:
        program.say(ranks, f"stopped by {reason}; run the same command again to go on")
        return program.STOPPED
    program.say(ranks, f"{path}: complete")
    return program.DONE


def build_job(configuration: Configuration, ranks: Ranks, where: str) -> Any:
    """Network, data and loss on every rank; checkpoint and directions from rank 0. Collective.

    Args:
        configuration: All of it.
        ranks: The job's ranks.
        where: The configuration's name; targets are also found beside it.

    Returns:
        A `preparation.Job`.

    Raises:
        AgreedError: Something of it is bad.
    """
    import torch

    from mpi_landscape.composition import build_directions, flat_state, load_flat
    from mpi_landscape.geometry.layout import layout_of
    from mpi_landscape.parallel.broadcast import broadcast
    from mpi_landscape.preparation import Job
    from mpi_landscape.problem import losses
    from mpi_landscape.problem.build import build
    from mpi_landscape.problem.checkpoints import load_state, read_state
    from mpi_landscape.problem.datasets import build_splits

    folders = [Path(where).resolve().parent]
    if configuration.data.download:
        # Once for all; then it is there.
        ranks.on_root(lambda: build_splits(configuration.data, where=where, folders=folders))
        configuration = replace(configuration, data=replace(configuration.data, download=False))
    problem = ranks.together(lambda: build(configuration, where=where, folders=folders))
    layout = ranks.together(
        lambda: layout_of(problem.model, normalization_buffers=configuration.directions.normalization_buffers)
    )
    checkpoint = configuration.model.checkpoint
    if checkpoint is not None:
        ranks.on_root(lambda: load_state(problem.model, read_state(checkpoint), where=checkpoint))
    else:
        program.say(
            ranks,
            f"warning: {where}: model.checkpoint is not given; this is the landscape around untrained parameters",
        )
    _share_buffers(problem.model, ranks)
    root_center = flat_state(problem.model, layout) if ranks.is_root else None
    center = torch.from_numpy(broadcast(ranks, None if root_center is None else root_center.numpy()))
    load_flat(problem.model, layout, center)
    root_directions = ranks.on_root(
        lambda: build_directions(configuration.directions, problem.model, layout, center, where=where)
    )
    names = ranks.share(list(root_directions or {}))
    directions = {
        name: torch.from_numpy(broadcast(ranks, root_directions[name].numpy() if root_directions else None))
        for name in names
    }

    def check_labels(split: str, network: nn.Module, batch: Any) -> None:
        if configuration.loss.name is not None:
            with torch.no_grad():
                inputs, targets = losses.split_batch(batch)
                losses.check_targets(
                    configuration.loss.name, network(inputs), targets, where=f"{where}: data, split {split}"
                )

    return Job(
        problem=problem,
        layout=layout,
        center=center,
        directions=directions,
        grid=Grid(
            _axis(configuration.grid.alpha),
            _axis(configuration.grid.beta) if configuration.grid.beta else None,
        ),
        compute=configuration.compute,
        texts={"loss": _loss_text(configuration)},
        check_labels=check_labels,
    )


def _share_buffers(model: nn.Module, ranks: Ranks) -> None:
    """Rank 0's buffers (running statistics and the like) on every rank."""
    import torch

    from mpi_landscape.parallel.broadcast import broadcast

    if ranks.size == 1:
        return
    packed = None
    if ranks.is_root:
        stream = io.BytesIO()
        torch.save(dict(model.named_buffers()), stream)
        packed = np.frombuffer(stream.getvalue(), dtype=np.uint8)
    received = broadcast(ranks, packed)
    if not ranks.is_root:
        state = torch.load(io.BytesIO(received.tobytes()), weights_only=True)
        for name, buffer in model.named_buffers():
            buffer.copy_(state[name])


def _overrides(options: argparse.Namespace) -> list[str]:
    """The command line's axes and output as overrides; the options come after --set."""
    overrides = list(options.set)
    for name in ("alpha", "beta"):
        text = getattr(options, name)
        if text is not None:
            axis = Axis.parse(text, where=f"--{name}")
            overrides.append(f"grid.{name}=[{axis.min!r}, {axis.max!r}, {axis.num}]")
    if options.line:
        overrides.append("grid.beta=null")
    if options.output is not None:
        import json

        overrides.append(f"output={json.dumps(options.output, ensure_ascii=False)}")
    return overrides


def _output(configuration: Configuration, where: str) -> Path:
    if configuration.output is None:
        raise LandscapeError(f"{where}: output is not given; name the surface file there or with --output")
    path = Path(configuration.output)
    if path.is_dir():
        raise LandscapeError(f"{path}: is a folder; output is the name of a file")
    return path


def _claim(resources: ExitStack, path: Path, overwrite: bool) -> None:
    """Lock the output, and refuse early what is there and not ours."""
    resources.enter_context(exclusive(path))
    if path.exists() and not overwrite:
        read_attributes(path)


def _axis(axis: AxisConfiguration) -> Axis:
    return Axis(axis.min, axis.max, axis.num)


def _loss_text(configuration: Configuration) -> str:
    loss = configuration.loss
    arguments = ", ".join(f"{name}={value!r}" for name, value in sorted(loss.arguments.items()))
    return f"{loss.name or loss.target}({arguments})"


def _title(configuration: Configuration) -> str:
    """What the picture is of: the network and the data."""
    model = configuration.model.name or str(configuration.model.target).split(":")[-1]
    data = configuration.data.name or str(configuration.data.target).split(":")[-1]
    return f"{model} on {data}"


def _seconds(text: str) -> float:
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"{text} is not a number of seconds above 0")
    return value


if __name__ == "__main__":
    main()
