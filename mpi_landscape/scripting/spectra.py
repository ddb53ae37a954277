"""Spectra at points from a Python script."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from mpi_landscape.configuration.reading import to_yaml
from mpi_landscape.configuration.sections.whole import Configuration
from mpi_landscape.curvatures.computing import compute
from mpi_landscape.curvatures.request import points_of, requested
from mpi_landscape.parallel.ranks import Ranks
from mpi_landscape.parallel.stopping import Stopping
from mpi_landscape.problem.build import Problem
from mpi_landscape.problem.checkpoints import Source, load
from mpi_landscape.storage.claim import claimed
from mpi_landscape.storage.spectrum.reader import read_spectrum
from mpi_landscape.storage.spectrum.schema import check_kind
from mpi_landscape.storage.spectrum.value import Spectrum
from mpi_landscape.storage.surface.ending import Ended


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a script has handed over, and how it is to be computed.

    Attributes:
        problem: Network, loss and data.
        ranks: Who computes.
        writer: `auto`, `parallel` or `root`.
        overwrite: Whether a file of another computation may be replaced.
        stopping: Asked between batches.
        title: What pictures are to say.
        shared: Whether every rank sees the file.
    """

    problem: Problem
    ranks: Ranks
    writer: str
    overwrite: bool
    stopping: Stopping
    title: str
    shared: bool


def spectra_of(configuration: Configuration, job: Job) -> list[Spectrum]:
    """That of the network as it is, or of each checkpoint that `hessian.at` names, until something stops it. Collective.

    Raises:
        AgreedError: Bad input or a refusal.
    """
    ranks, where, found = job.ranks, job.problem.where, list[Spectrum]()
    points = ranks.share(ranks.on_root(lambda: points_of(configuration, where))) or []
    for point, path in points:
        place = point.model.checkpoint
        if place is not None:
            ranks.on_root(partial(_put, job, place))
        found.append(_spectrum(point, path, job))
        if found[-1].ending is not Ended.FINISHED:
            break
    return found


def _put(job: Job, checkpoint: str) -> None:
    """The network at a checkpoint, on rank 0."""
    for line in load(job.problem.model, Source(path=checkpoint, field="at"), where=checkpoint):
        job.ranks.say(f"checkpoint  {checkpoint}: {line}")


def _spectrum(configuration: Configuration, path: Path, job: Job) -> Spectrum:
    said, ranks = configuration.hessian, job.ranks
    assert said is not None
    with ranks.together():
        request = requested(
            job.problem,
            said,
            directions=configuration.directions,
            compute=configuration.compute,
            checkpoint=configuration.model.checkpoint,
        )
    with ExitStack() as resources:
        claim = claimed(path, overwrite=job.overwrite, look=check_kind)
        ranks.on_root(lambda: resources.enter_context(claim))
        ending = compute(
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
    here = job.shared or ranks.is_root
    spectrum = read_spectrum(path) if here else None
    spectrum = spectrum if job.shared else ranks.share(spectrum)
    assert spectrum is not None
    return replace(spectrum, ending=Ended.of(ending.stopped))
