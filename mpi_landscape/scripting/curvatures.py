"""Curvature from a Python script: at a point, or over a plane."""

from __future__ import annotations

import os
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
from mpi_landscape.scripting.spectra import Job, spectra_of
from mpi_landscape.scripting.together import check_rest, opened, problem_of
from mpi_landscape.storage.claim import claimed
from mpi_landscape.storage.spectrum.value import Spectrum
from mpi_landscape.storage.surface.ending import Ended
from mpi_landscape.storage.surface.plane import is_of_a_surface
from mpi_landscape.storage.surface.reader import read_surface
from mpi_landscape.storage.surface.value import Surface
from mpi_landscape.storage.temporary import TemporaryPlace
from mpi_landscape.surfaces.computing import compute as run_job
from mpi_landscape.surfaces.curvature import curved, in_the_plane
from mpi_landscape.surfaces.ranges import resolved
from mpi_landscape.surfaces.request import Request, grid_of, open_axes_of

_WHERE = "hessian()"


@in_one_line
def hessian(
    model: nn.Module,
    loss: str | Mapping[str, Any] | Callable[..., Any],
    data: Any,
    *,
    at: str | Path | Sequence[str | Path] = "center",
    values: str = "auto",
    split: str = "train",
    operator: str = "hessian",
    largest: int = 10,
    smallest: int = 5,
    probes: int = 4,
    steps: int = 40,
    tolerance: float = 1e-2,
    most_steps: int = 60,
    parameters: str | Sequence[str] = "trainable",
    normalized: bool = False,
    eigenvectors: int = 0,
    starts: str = "cold",
    engine: str = "auto",
    memory: float | str = "auto",
    seed: int = 1,
    alpha: Sequence[float] | str = (-1, 1, 51),
    beta: Sequence[float] | str | None = (-1, 1, 51),
    directions: Mapping[str, Any] | None = None,
    compute: Mapping[str, Any] | None = None,
    output: str | Path | None = None,
    collate_fn: Callable[[list[Any]], Any] | None = None,
    title: str | None = None,
    writer: str = "auto",
    overwrite: bool = False,
    time_limit: float | None = None,
) -> Surface | Spectrum | list[Spectrum]:
    """Eigenvalues of the Hessian of a network's mean loss: how sharp, in which directions, and where it is not convex.

    The same computation and the same file as `python -m mpi_landscape.hessian`. Under mpiexec every rank calls it with the same
    arguments. An output of the same computation is resumed, a finished one only read.

    Args:
        model: The trained network; left untouched.
        loss: As in `landscape()`.
        data: As in `landscape()`; `split` says which of it.
        at: `center`; `grid`, at every point of `alpha` and `beta`; a surface file, at its points and in its plane; a
            checkpoint, or a list of them.
        values: `auto`, `extremes` or `spectrum`.
        split: The split whose mean loss it is.
        operator: `hessian`, `gauss_newton` or `remainder`.
        largest: How many of the largest eigenvalues a spectrum has.
        smallest: How many of the smallest.
        probes: Random vectors of the density.
        steps: Products for each of them.
        tolerance: The residual of an eigenvalue relative to itself at which it is found.
        most_steps: Vectors of the network's size in memory.
        parameters: `trainable`, `moving`, or patterns of names.
        normalized: Whether eigenvalues in filter-normalized coordinates are found, too.
        eigenvectors: How many of the largest and of the smallest eigenvalues' vectors are kept.
        starts: At a grid, `cold` or `tiles`.
        engine: `auto`, `plain` or `compiled`: how products are computed.
        memory: GiB for graphs that are kept between products, or `auto`.
        seed: Of random vectors.
        alpha: (min, max, num) of the first axis of a grid, as in `landscape()`.
        beta: The same of the second axis; None for a line.
        directions: As in a configuration.
        compute: As in a configuration: precision (float32 or float64), device, batch_size, ...
        output: The file; None for a temporary one.
        collate_fn: Makes a batch of items of several sizes.
        title: What pictures are to say; the network's class by default.
        writer: `auto`, `parallel` or `root`.
        overwrite: Whether a file of another computation may be replaced.
        time_limit: Seconds after which to stop; what is returned is unfinished then, and the next call goes on.

    Returns:
        Over a plane a surface with `train_lambda_max`, `train_lambda_min`, `train_curvature_ratio` and so on; at a point its
        spectrum, and of a list of checkpoints one for each until a stop. On every rank.

    Raises:
        LandscapeError: Bad input or a refusal, in one line, on every rank.

    Example:
        >>> spectrum = hessian(model, "cross_entropy", train_set, eigenvectors=1, output="h.h5")  # doctest: +SKIP
        >>> spectrum.lambda_max, spectrum.trace, spectrum.num_outliers  # doctest: +SKIP
        >>> ends = hessian(model, "cross_entropy", train_set, at="grid", alpha=(-1, 1, 21), beta=(-1, 1, 21))  # doctest: +SKIP
        >>> ends.train_curvature_ratio.max()  # doctest: +SKIP
    """
    section = {
        "at": _files(at), "values": values, "split": split, "operator": operator, "largest": largest, "smallest": smallest,
        "probes": probes, "steps": steps, "tolerance": tolerance, "most_steps": most_steps,
        "parameters": parameters if isinstance(parameters, str) else list(parameters), "normalized": normalized,
        "eigenvectors": eigenvectors, "starts": starts, "engine": engine, "memory": memory, "seed": seed,
    }  # fmt: skip
    named = loss if isinstance(loss, str | Mapping) else None
    with ExitStack() as resources:
        ranks = resources.enter_context(opened(_WHERE))
        with ranks.together():
            check_rest(output, title, writer, time_limit, where=_WHERE)
            check_network(model, where=_WHERE)
            check_loss(loss, where=_WHERE)
            given = check_data(data, where=_WHERE, collate_fn=collate_fn)
            directions, ends = lent_ends(directions, where=_WHERE)
        place = ranks.on_root(lambda: TemporaryPlace("hessian.h5")) if output is None else None
        path = Path(output) if output is not None else ranks.share(place.path if place else Path())
        with ranks.together():
            configuration = _configuration(named, section, path, alpha, beta, directions, compute)
        where_at = configuration.hessian.at if configuration.hessian else "center"
        is_map = ranks.share(ranks.on_root(lambda: where_at == "grid" or is_of_a_surface(where_at)))
        stopping = resources.enter_context(Stopping(time_limit))
        resources.enter_context(exact_arithmetic())
        # Another rank's parameters may become rank 0's for the time being; of checkpoints those of all.
        at_own = ranks.is_root and (is_map or where_at == "center")
        resources.enter_context(nullcontext() if at_own else kept_as_it_is(model))
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
        job = Job(
            problem=problem,
            ranks=ranks,
            # A temporary file may be out of the other ranks' sight.
            writer="root" if output is None and writer == "auto" else writer,
            overwrite=overwrite,
            stopping=stopping,
            title=title or type(model).__name__,
            shared=output is not None,
        )
        if not is_map:
            several = not isinstance(where_at, str)
            spectra = [replace(each, kept_by=place) for each in spectra_of(configuration, job)]
            return spectra if several else spectra[0]
        found = ranks.on_root(lambda: in_the_plane(configuration, where=_WHERE)[0])
        configuration = resolved(ranks.share(found) or configuration, ranks, _WHERE)
        ranks.on_root(lambda: resources.enter_context(claimed(path, overwrite=overwrite)))
        return replace(_map(configuration, path, job), kept_by=place)


def _map(configuration: Configuration, path: Path, job: Job) -> Surface:
    """Both ends at every point of a plane. Collective."""
    ranks, shared = job.ranks, job.shared
    request = Request(
        problem=job.problem,
        directions=configuration.directions,
        grid=grid_of(configuration),
        compute=configuration.compute,
        open_axes=open_axes_of(configuration),
    )
    with ranks.together():
        request = curved(request, configuration.hessian)
    ending = run_job(
        request,
        ranks,
        path,
        writer=job.writer,
        overwrite=job.overwrite,
        stopping=job.stopping,
        attributes={"title": job.title, "configuration": to_yaml(configuration)},
    )
    # The others must not read before rank 0 has closed the file.
    ranks.meet()
    if ending.stopped is not None:
        ranks.say(
            f"stopped by {ending.stopped}, {ending.summary}; call it again with output={str(path)!r} to go on"
        )
    surface = read_surface(path) if shared else ranks.share(read_surface(path) if ranks.is_root else None)
    assert surface is not None
    return replace(surface, ending=Ended.of(ending.stopped))


def _files(at: Any) -> Any:
    """What a configuration says of them."""
    if isinstance(at, str | os.PathLike):
        return os.fspath(at)
    return [os.fspath(each) for each in at] if isinstance(at, Sequence) else at


def _configuration(
    loss: str | Mapping[str, Any] | None,
    section: Mapping[str, Any],
    output: Path,
    alpha: Any,
    beta: Any,
    directions: Mapping[str, Any] | None,
    compute: Mapping[str, Any] | None,
) -> Configuration:
    """The arguments as a configuration: checked like a file, and kept in that of the result."""
    sections: dict[str, Any] = {
        "model": {"target": "python:model"},
        "data": {"target": "python:data"},
        "loss": loss or {"target": "python:loss"},
        "grid": {"alpha": alpha, "beta": beta},
        "hessian": {**section, "output": str(output)},
    }
    said = {"directions": directions, "compute": compute}
    return from_mapping(
        sections | {name: value for name, value in said.items() if value is not None}, where=_WHERE
    )
