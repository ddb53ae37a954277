"""A path between two solutions from a Python script."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from mpi_landscape.command.door import in_one_line
from mpi_landscape.configuration.reading import from_mapping, to_yaml
from mpi_landscape.configuration.sections.whole import Configuration
from mpi_landscape.connections.connecting import connect as run_job
from mpi_landscape.connections.request import request_between
from mpi_landscape.errors import LandscapeError
from mpi_landscape.evaluation.arithmetic import exact_arithmetic
from mpi_landscape.evaluation.lending import in_evaluation, kept_as_it_is, tensors_of
from mpi_landscape.parallel.ranks import Ranks
from mpi_landscape.parallel.stopping import Stopping
from mpi_landscape.placement.ends import end_of
from mpi_landscape.problem.arguments import check_data, check_loss, check_network, tensors_given
from mpi_landscape.problem.checkpoints import Source, Weights, load_state, read_weights
from mpi_landscape.scripting.together import check_rest, opened, problem_of
from mpi_landscape.storage.claim import claimed
from mpi_landscape.storage.connection.reader import read_connection
from mpi_landscape.storage.connection.schema import check_kind
from mpi_landscape.storage.connection.value import Connection
from mpi_landscape.storage.surface.ending import Ended
from mpi_landscape.storage.temporary import TemporaryPlace
from mpi_landscape.wording import shown

_WHERE = "connect()"
# What a solution is that a script hands over.
_HANDED = "python"


@in_one_line
def connect(
    model: nn.Module,
    loss: str | Mapping[str, Any] | Callable[..., Any],
    data: Any,
    start: Any,
    end: Any,
    *,
    method: str = "bezier",
    output: str | Path | None = None,
    options: Mapping[str, Any] | None = None,
    collate_fn: Callable[[list[Any]], Any] | None = None,
    compute: Mapping[str, Any] | None = None,
    title: str | None = None,
    writer: str = "auto",
    overwrite: bool = False,
    time_limit: float | None = None,
) -> Connection:
    """A path of low loss between two solutions of a network, and the losses along it and along the straight line.

    Under mpiexec every rank calls it with the same arguments; the solutions of rank 0 count. An `output` of the same path is
    resumed, a finished one only read.

    Args:
        model: The network; left untouched, and in either mode.
        loss: As in `landscape()`.
        data: As in `landscape()`; a path is sought on the split `train`.
        start: The solution at t = 0: a checkpoint's path, a state dictionary, or a network.
        end: The solution at t = 1, likewise.
        method: `line`, `bezier`, `polygon`, `string` or `autoneb`.
        output: The file, beside which the checkpoints of the path lie; None for a temporary one, gone with what is returned.
        options: Further fields of the section `connect`: {"epochs": 30, "learning_rate": 0.03, "num_points": 101}.
        collate_fn: Makes a batch of items of several sizes.
        compute: As in a configuration: precision, device, batch_size, batch_norm, ...
        title: What pictures are to say; the network's class by default.
        writer: `auto`, `parallel` or `root`.
        overwrite: Whether files of another path may be replaced.
        time_limit: Seconds after which to stop; the next call goes on.

    Returns:
        The path, on every rank: `connection.t`, `connection.train_loss`, `connection.barriers`, ...; of one that stopped while
        it was sought, the losses are those of no point yet.

    Raises:
        LandscapeError: Bad input or a refusal, in one line, on every rank.

    Example:
        >>> found = connect(model, "cross_entropy", {"train": train}, "a.pt", "b.pt")  # doctest: +SKIP
        >>> found.barriers["barrier_train"], found.barriers["line_barrier_train"]  # doctest: +SKIP
        >>> found.plot()  # doctest: +SKIP
    """
    named = loss if isinstance(loss, str | Mapping) else None
    with ExitStack() as resources:
        ranks = resources.enter_context(opened(_WHERE))
        with ranks.together():
            check_rest(output, title, writer, time_limit, where=_WHERE)
            _check_options(options)
            check_network(model, where=_WHERE)
            check_loss(loss, where=_WHERE)
            given = check_data(data, where=_WHERE, collate_fn=collate_fn)
        place = ranks.on_root(lambda: TemporaryPlace("connection.h5")) if output is None else None
        path = Path(output) if output is not None else ranks.share(place.path if place else Path())
        with ranks.together():
            configuration = _configuration(named, path, start, end, method, options, compute)
        settings = configuration.connect
        assert settings is not None
        ranks.on_root(lambda: resources.enter_context(claimed(path, overwrite=overwrite, look=check_kind)))
        stopping = resources.enter_context(Stopping(time_limit))
        resources.enter_context(exact_arithmetic())
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
        ends = ranks.on_root(lambda: _ends(model, start, end, ranks)) or {}
        request = request_between(
            problem, ends, settings.resolved, configuration.compute, ranks, where=_WHERE
        )
        found = run_job(
            request,
            ranks,
            path,
            # A temporary file may be out of the other ranks' sight.
            writer="root" if output is None and writer == "auto" else writer,
            overwrite=overwrite,
            stopping=stopping,
            attributes={"title": title or type(model).__name__, "configuration": to_yaml(configuration)},
        )
        # The others must not read before rank 0 has closed the file.
        ranks.meet()
        ending = Ended.of(found.stopped)
        if found.stopped is not None:
            ranks.say(f"stopped by {found.stopped}; call it again with output={str(path)!r} to go on")
        with ranks.together():
            read = _read(path, ending, ranks, shared=output is not None)
        if output is None:
            read = ranks.share(read)
        assert read is not None
        return replace(read, kept_by=place)


def _read(path: Path, ending: Ended, ranks: Ranks, *, shared: bool) -> Connection | None:
    """What the file holds, on the ranks that can see it.

    Raises:
        LandscapeError: The path is not found yet, so there is no file.
    """
    if not (shared or ranks.is_root):
        return None
    if not path.exists():
        raise LandscapeError(
            f"{_WHERE}: {ending.sentence}: the path is not found yet, and how far it is lies beside {path}"
        )
    return read_connection(path, ending=ending)


def _ends(model: nn.Module, start: Any, end: Any, ranks: Ranks) -> dict[str, Tensor]:
    """Put the start into the network; the tensors of the end."""
    first = _weights("start", start)
    last = _weights("end", end)
    lines = load_state(model, first.state, where=f"{_WHERE}: start")
    for line in [*first.lines, *lines]:
        ranks.say(f"start       {line}")
    network, lines = end_of(model, last, where=f"{_WHERE}: end")
    for line in lines:
        ranks.say(f"end         {line}")
    return tensors_of(network)


def _weights(name: str, given: Any) -> Weights:
    if isinstance(given, nn.Module | Mapping):
        # Copies: the network itself may be one of the ends.
        found = tensors_given(given, f"{_WHERE}: {name}")
        return Weights(state={key: value.clone() for key, value in found.items()})
    if not isinstance(given, str | os.PathLike):
        raise LandscapeError(
            f"{_WHERE}: {name} is {shown(given)}; expected the path of a checkpoint, a state dictionary, or a network"
        )
    return read_weights(Source(path=os.fspath(given), field=name))


def _configuration(
    loss: str | Mapping[str, Any] | None,
    path: Path,
    start: Any,
    end: Any,
    method: str,
    options: Mapping[str, Any] | None,
    compute: Mapping[str, Any] | None,
) -> Configuration:
    """The arguments as a configuration: checked like a file, and kept in the file of the path."""
    ends = {
        name: os.fspath(given) if isinstance(given, str | os.PathLike) else f"{_HANDED}:{name}"
        for name, given in (("start", start), ("end", end))
    }
    sections: dict[str, Any] = {
        "model": {"target": "python:model"},
        "data": {"target": "python:data"},
        "loss": loss or {"target": "python:loss"},
        "output": str(path),
        "connect": {**ends, "method": method, **(options or {})},
    }
    if compute is not None:
        sections["compute"] = compute
    return from_mapping(sections, where=_WHERE)


def _check_options(options: Any) -> None:
    """Refuse what are no fields of the section, or arguments of their own."""
    if options is not None and not isinstance(options, Mapping):
        raise LandscapeError(
            f"{_WHERE}: options is {shown(options)}; expected a mapping of fields of connect"
        )
    for name in ("start", "end", "method"):
        if options is not None and name in options:
            raise LandscapeError(f"{_WHERE}: options has {name}, which is an argument of its own")
