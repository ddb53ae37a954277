"""A surface from a Python script."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from mpi_landscape.command.door import in_one_line
from mpi_landscape.configuration.reading import from_mapping, to_yaml
from mpi_landscape.configuration.sections.whole import Configuration
from mpi_landscape.evaluation.arithmetic import exact_arithmetic
from mpi_landscape.evaluation.lending import in_evaluation, kept_as_it_is
from mpi_landscape.parallel.stopping import Stopping
from mpi_landscape.problem.arguments import check_data, check_loss, check_network, lent_ends
from mpi_landscape.scripting.together import check_rest, opened, problem_of
from mpi_landscape.storage.claim import claimed
from mpi_landscape.storage.surface.ending import Ended
from mpi_landscape.storage.surface.reader import read_surface
from mpi_landscape.storage.surface.value import Surface
from mpi_landscape.storage.temporary import TemporaryPlace
from mpi_landscape.surfaces.computing import compute as run_job
from mpi_landscape.surfaces.ranges import resolved
from mpi_landscape.surfaces.request import Request, grid_of, open_axes_of

_WHERE = "landscape()"


@in_one_line
def landscape(
    model: nn.Module,
    loss: str | Mapping[str, Any] | Callable[..., Any],
    data: Any,
    *,
    alpha: Sequence[float] | str = (-1, 1, 51),
    beta: Sequence[float] | str | None = (-1, 1, 51),
    output: str | Path | None = None,
    collate_fn: Callable[[list[Any]], Any] | None = None,
    directions: Mapping[str, Any] | None = None,
    compute: Mapping[str, Any] | None = None,
    title: str | None = None,
    writer: str = "auto",
    overwrite: bool = False,
    time_limit: float | None = None,
    relative_error: float | None = None,
    save_vectors: bool = True,
    repeats: int | None = None,
) -> Surface:
    """The loss of a network over a grid: f(α, β) = L(θ* + αδ + βη), Li et al. 2018, arXiv:1712.09913.

    Under mpiexec every rank calls it with the same arguments; the values in rank 0's network count. An `output` of
    the same computation is resumed, a finished one only read.

    One process uses one GPU, where there is one, and otherwise every core that it may run on (its affinity mask, so what SLURM,
    taskset or a container has given it, divided among the ranks of its node): a thread for each, which evaluates whole batches on
    a copy of the network, where copies prove to give the same numbers, and one thread where they do not, or memory does not
    suffice. OMP_NUM_THREADS and torch.set_num_threads change nothing: within an operation torch has one thread meanwhile, so that
    the bits do not depend on how many there are, and afterwards what it had. `compute={"threads": 4}` leaves cores to others.

    A refusal shows the caller's own line and one of this program; MPI_LANDSCAPE_DEBUG=1 in the environment shows all.

    Args:
        model: The trained network; left untouched.
        loss: `cross_entropy`, `mse`, `hinge`, `nll`; a criterion of outputs and targets, such as
            `torch.nn.CrossEntropyLoss(label_smoothing=0.1)`; `training_step` or `validation_step` of a LightningModule;
            `output`, the `.loss` of a network of Hugging Face; or a function `loss(model, batch)` that returns one value per
            example, shape (N,), a mapping with `loss`, `correct` and `count` (by how much each example counts: the mean is
            the sum of losses over that of counts), or a scalar that is a mean over the batch.
        data: A map-style data set, called `train`; a DataLoader (its data set, collate_fn and batch size are taken); tensors
            or arrays `(x, y)`; a dict of tensors; a `datasets.Dataset`; a LightningDataModule; an iterable, which is read
            once; or several of these by name. Of a batch, the last tensor (or `labels`, `target`, ...) is the target of a
            named loss or a criterion, and the rest goes into the network.
        alpha: (min, max, num) of the first axis, in units of the direction; `auto` finds a range: that of the paths on an axis
            of a trajectory file, otherwise until the loss has risen to that of guessing.
        beta: The same of the second axis; None for a line.
        output: The surface file; None for a temporary one, which is there as long as the surface that is returned, and is
            gone at the end of the process. What is kept longer is given a name here, and resumed if it is not finished.
        collate_fn: Makes a batch of items of several sizes; batches are then computed in the order of length.
        directions: As in a configuration; random filter-normalised ones by default. `to` of a difference is a path, a
            network or a state dictionary.
        compute: As in a configuration: precision, device, batch_size, ...
        title: What pictures are to say; the network's class by default.
        writer: `auto`, `parallel` or `root`.
        overwrite: Whether a file of another computation may be replaced.
        time_limit: Seconds after which to stop; the surface that is returned is unfinished then, and the next call
            goes on.
        relative_error: Evaluate samples of the data until the standard error of every loss is at most this share of it,
            such as 0.01; the next call with a smaller one, or with None for exact values, goes on.
        save_vectors: Whether the file holds center and directions, too; False is compute={"save_vectors": False}.
        repeats: Of a line (beta=None): so many lines at once, along random directions of one seed after the other; values are
            then of shape (num_alpha, repeats). It is directions={"alpha": {"repeats": ...}}.

    Returns:
        The surface, on every rank, all of its values in memory; `surface.ending` says whether it is finished, or why not.

    Raises:
        LandscapeError: Bad input or a refusal, in one line, on every rank.
        mpi_landscape.errors.LostFileError: On rank 0: the file was removed, replaced or written to by something else; its
            text says where what is finished is kept.

    Example:
        >>> surface = landscape(model, "cross_entropy", {"train": train, "test": test})  # doctest: +SKIP
        >>> surface.plot("contour")  # doctest: +SKIP
    """
    named = loss if isinstance(loss, str | Mapping) else None
    with ExitStack() as resources:
        ranks = resources.enter_context(opened(_WHERE))
        with ranks.together():
            check_rest(output, title, writer, time_limit, where=_WHERE)
            check_network(model, where=_WHERE)
            check_loss(loss, where=_WHERE)
            given = check_data(data, where=_WHERE, collate_fn=collate_fn)
            directions, ends = lent_ends(directions, where=_WHERE)
        place = ranks.on_root(lambda: TemporaryPlace("surface.h5")) if output is None else None
        path = Path(output) if output is not None else ranks.share(place.path if place else Path())
        with ranks.together():
            configuration = _configuration(
                named,
                alpha,
                beta,
                path,
                _repeated(directions, repeats),
                compute,
                relative_error,
                save_vectors,
            )
        configuration = resolved(configuration, ranks, _WHERE)
        ranks.on_root(lambda: resources.enter_context(claimed(path, overwrite=overwrite)))
        stopping = resources.enter_context(Stopping(time_limit))
        resources.enter_context(exact_arithmetic())
        # Another rank's parameters may become rank 0's for the time being.
        resources.enter_context(nullcontext() if ranks.is_root else kept_as_it_is(model))
        resources.enter_context(in_evaluation(model))
        with ranks.together():
            problem = problem_of(
                model,
                loss,
                given,
                configuration.loss if named is not None else None,
                where=_WHERE,
                ends=ends,
            )
        ending = run_job(
            Request(
                problem=problem,
                directions=configuration.directions,
                grid=grid_of(configuration),
                compute=configuration.compute,
                open_axes=open_axes_of(configuration),
            ),
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
        if ending.stopped is not None:
            ranks.say(
                f"stopped by {ending.stopped}, {ending.summary}; call it again with output={str(path)!r} to go on"
            )
        surface = (
            ranks.share(read_surface(path) if ranks.is_root else None)
            if output is None
            else read_surface(path)
        )
        assert surface is not None
        return replace(surface, ending=Ended.of(ending.stopped), kept_by=place)


def _configuration(
    loss: str | Mapping[str, Any] | None,
    alpha: Sequence[float] | str,
    beta: Sequence[float] | str | None,
    path: Path,
    directions: Mapping[str, Any] | None,
    compute: Mapping[str, Any] | None,
    relative_error: float | None,
    save_vectors: Any,
) -> Configuration:
    """The arguments as a configuration: checked like a file, and kept in the surface's."""
    sections: dict[str, Any] = {
        "model": {"target": "python:model"},
        "data": {"target": "python:data"},
        "loss": loss or {"target": "python:loss"},
        "grid": {"alpha": alpha, "beta": beta},
        "output": str(path),
    }
    if directions is not None:
        sections["directions"] = directions
    if compute is not None:
        sections["compute"] = compute
    if relative_error is not None and (compute is None or isinstance(compute, Mapping)):
        sections["compute"] = {**(compute or {}), "relative_error": relative_error}
    if save_vectors is not True and isinstance(sections.get("compute", {}), Mapping):
        sections["compute"] = {**sections.get("compute", {}), "save_vectors": save_vectors}
    return from_mapping(sections, where=_WHERE)


def _repeated(directions: Any, repeats: Any) -> Any:
    """The directions with the number of lines in them, where there is one to say."""
    if repeats is None or not (directions is None or isinstance(directions, Mapping)):
        return directions
    said = dict(directions or {})
    alpha = said.get("alpha") or {}
    said["alpha"] = {**alpha, "repeats": repeats} if isinstance(alpha, Mapping) else alpha
    return said
