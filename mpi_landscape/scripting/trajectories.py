"""A trajectory from a Python script."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from mpi_landscape.command.door import in_one_line
from mpi_landscape.configuration.reading import from_mapping, to_yaml
from mpi_landscape.configuration.sections.whole import Configuration
from mpi_landscape.errors import LandscapeError
from mpi_landscape.evaluation.arithmetic import exact_arithmetic
from mpi_landscape.evaluation.lending import in_evaluation, kept_as_it_is
from mpi_landscape.parallel.stopping import Stopping
from mpi_landscape.problem.arguments import check_data, check_loss, check_network
from mpi_landscape.problem.checkpoints import Source
from mpi_landscape.scripting.together import check_rest, opened, problem_of
from mpi_landscape.storage.claim import claimed
from mpi_landscape.storage.history.solution import Solution
from mpi_landscape.storage.surface.ending import Ended
from mpi_landscape.storage.trajectory.reader import read_attributes, read_trajectory
from mpi_landscape.storage.trajectory.value import Trajectory
from mpi_landscape.trajectories.computing import compute as run_job
from mpi_landscape.trajectories.request import output_of, requested, section_of
from mpi_landscape.wording import shown

_WHERE = "trajectory()"
_Place = str | Path | Solution | Sequence[str | Path]


@in_one_line
def trajectory(
    model: nn.Module,
    loss: str | Mapping[str, Any] | Callable[..., Any],
    data: Any,
    checkpoints: _Place | Mapping[str, _Place],
    *,
    axes: str = "pca",
    every: int = 1,
    center: str | Path = "last",
    output: str | Path | None = None,
    collate_fn: Callable[[list[Any]], Any] | None = None,
    directions: Mapping[str, Any] | None = None,
    compute: Mapping[str, Any] | None = None,
    title: str | None = None,
    writer: str = "auto",
    overwrite: bool = False,
    time_limit: float | None = None,
) -> Trajectory:
    """Where training went: its checkpoints on two axes, with the losses of each (Li et al. 2018, arXiv:1712.09913, section 7).

    The same computation and the same file as `python -m mpi_landscape.trajectory`. Under mpiexec every rank calls it with the
    same arguments. An output of the same computation is resumed, a finished one only read.

    Args:
        model: The network whose checkpoints they are; left untouched.
        loss: As in `landscape()`.
        data: As in `landscape()`.
        checkpoints: A folder, what `train()` has returned, a pattern of names, or a list of files; or several of these by name,
            which then share one plane and one center.
        axes: `pca`, `random` or `start_to_end`; see the section `trajectory` of a configuration.
        every: Take every so many checkpoints, and the last.
        center: `last`, that of the (first) trajectory, or a file.
        output: The file; None for `trajectory.h5` in the folder of the checkpoints.
        collate_fn: Makes a batch of items of several sizes.
        directions: As in a configuration, for axes that are random.
        compute: As in a configuration: precision, device, batch_size, ...
        title: What pictures are to say; the network's class by default.
        writer: `auto`, `parallel` or `root`.
        overwrite: Whether a file of another computation may be replaced.
        time_limit: Seconds after which to stop; what is returned is unfinished then, and the next call goes on.

    Returns:
        The trajectory, on every rank.

    Raises:
        LandscapeError: Bad input or a refusal, in one line, on every rank.

    Example:
        >>> way = trajectory(model, "cross_entropy", train_set, "runs/mine")  # doctest: +SKIP
        >>> axis = {"kind": "file", "path": way.path}  # doctest: +SKIP
        >>> ground = landscape(model, "cross_entropy", train_set, alpha="auto", beta="auto",
        ...     directions={"alpha": axis, "beta": axis})  # doctest: +SKIP
        >>> way.plot(surface=ground)  # doctest: +SKIP
    """
    with ExitStack() as resources:
        ranks = resources.enter_context(opened(_WHERE))
        with ranks.together():
            check_rest(output, title, writer, time_limit, where=_WHERE, without="one beside the checkpoints")
            check_network(model, where=_WHERE)
            check_loss(loss, where=_WHERE)
            given = check_data(data, where=_WHERE, collate_fn=collate_fn)
            section = {
                "checkpoints": _places(checkpoints),
                "axes": axes,
                "every": every,
                "center": os.fspath(center),
            }
            named = loss if isinstance(loss, str | Mapping) else None
            configuration = _configuration(named, section, output, directions, compute)
            path = output_of(configuration, _WHERE)
        ranks.on_root(
            lambda: resources.enter_context(claimed(path, overwrite=overwrite, look=read_attributes))
        )
        stopping = resources.enter_context(Stopping(time_limit))
        resources.enter_context(exact_arithmetic())
        # It is put at the center, by rank 0 on all.
        resources.enter_context(kept_as_it_is(model))
        resources.enter_context(in_evaluation(model))
        with ranks.together():
            problem = problem_of(
                model,
                loss,
                given,
                configuration.loss if named is not None else None,
                where=_WHERE,
            )
        request = requested(
            problem,
            section_of(configuration, _WHERE),
            ranks,
            directions=configuration.directions,
            compute=configuration.compute,
            source=lambda each: Source(path=each),
        )
        ending = run_job(
            request,
            ranks,
            path,
            writer=writer,
            overwrite=overwrite,
            stopping=stopping,
            attributes={"title": title or type(model).__name__, "configuration": to_yaml(configuration)},
        )
        # The others must not read before rank 0 has closed the file.
        ranks.meet()
        if ending.stopped is not None:
            ranks.say(f"stopped by {ending.stopped}, {ending.summary}; call it again to go on")
        return replace(read_trajectory(path), ending=Ended.of(ending.stopped))


def _places(checkpoints: Any) -> Any:
    """What a configuration says of them."""
    if isinstance(checkpoints, Mapping):
        return {name: _places(each) for name, each in checkpoints.items()}
    if isinstance(checkpoints, Solution):
        return str(checkpoints.folder)
    if isinstance(checkpoints, str | os.PathLike):
        return os.fspath(checkpoints)
    if isinstance(checkpoints, Sequence):
        return [os.fspath(each) if isinstance(each, os.PathLike) else each for each in checkpoints]
    raise LandscapeError(
        f"{_WHERE}: checkpoints is {shown(checkpoints)}; expected a folder, a pattern, a list of files, what train() returned, "
        f"or several of these by name"
    )


def _configuration(
    loss: str | Mapping[str, Any] | None,
    section: Mapping[str, Any],
    output: str | Path | None,
    directions: Mapping[str, Any] | None,
    compute: Mapping[str, Any] | None,
) -> Configuration:
    """The arguments as a configuration: checked like a file, and kept in that of the trajectory."""
    sections: dict[str, Any] = {
        "model": {"target": "python:model"},
        "data": {"target": "python:data"},
        "loss": loss or {"target": "python:loss"},
        "trajectory": section,
    }
    said = {
        "directions": directions,
        "compute": compute,
        "output": None if output is None else os.fspath(output),
    }
    return from_mapping(
        sections | {name: value for name, value in said.items() if value is not None}, where=_WHERE
    )
