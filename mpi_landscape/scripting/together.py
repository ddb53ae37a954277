"""What every door has in common: what it is told besides, and that nobody is left waiting."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from numbers import Real
from types import MappingProxyType
from typing import Any

from torch import Tensor, nn

from mpi_landscape.command.door import is_debugging
from mpi_landscape.configuration.sections.sources import LossConfiguration
from mpi_landscape.errors import AgreedError, LandscapeError
from mpi_landscape.parallel.launcher import open_ranks
from mpi_landscape.parallel.ranks import Ranks
from mpi_landscape.parallel.session import all_here, watched
from mpi_landscape.problem.arguments import given_loss
from mpi_landscape.problem.build import Problem, is_ragged
from mpi_landscape.problem.datasets.given import Given
from mpi_landscape.storage.writer import CHOICES
from mpi_landscape.wording import listed, shown


@contextmanager
def opened(where: str) -> Iterator[Ranks]:
    """All ranks of a job, once they have come, watching over each other; `where` is the door, for messages. Collective."""
    ranks = open_ranks()
    with _nobody_waits(ranks):
        all_here(ranks, where)
        with watched(ranks) as together:
            yield together


@contextmanager
def _nobody_waits(ranks: Ranks) -> Iterator[None]:
    """End the whole job when one rank alone raises; the others would wait for it for ever."""
    try:
        yield
    except AgreedError:
        raise
    except (Exception, KeyboardInterrupt) as error:
        if ranks.size == 1:
            raise
        if isinstance(error, LandscapeError) and not is_debugging():
            sys.stderr.write(f"error: rank {ranks.rank} ({ranks.host}): {error}\n")
        else:
            traceback.print_exc()
        ranks.abort(1)


def problem_of(
    model: nn.Module,
    loss: Any,
    given: Given,
    named: LossConfiguration | None,
    *,
    where: str,
    ends: Mapping[str, Mapping[str, Tensor]] = MappingProxyType({}),
) -> Problem:
    """What a script has handed over.

    Args:
        model: The network.
        loss: As `landscape()` takes it.
        given: The data, as `check_data` has found them.
        named: A loss that is named, as a configuration says it.
        where: The door, for messages.
        ends: Networks and state dictionaries to which directions lead, by axis.

    Raises:
        LandscapeError: The loss cannot be taken.
    """
    function, name, text = given_loss(loss, model, named, ragged=is_ragged(given.splits), where=where)
    return Problem(
        model=model,
        loss=function,
        splits=given.splits,
        where=where,
        loss_name=name,
        loss_text=text,
        batch_size=given.batch_size,
        notes=tuple(given.notes),
        ends=ends,
    )


def check_rest(
    output: Any, title: Any, writer: Any, time_limit: Any, *, where: str, without: str = "a temporary one"
) -> None:
    """Refuse what is no part of a configuration; `without` an output the file is this."""
    if output is not None and not isinstance(output, str | os.PathLike):
        raise LandscapeError(
            f"{where}: output is {shown(output)}; expected the path of a file, or None for {without}"
        )
    if writer not in CHOICES:
        raise LandscapeError(f"{where}: writer is {shown(writer)}; valid are {listed(CHOICES)}")
    check_title_and_limit(title, time_limit, where=where)


def check_title_and_limit(title: Any, time_limit: Any, *, where: str) -> None:
    """Refuse a title that is no text, and a time limit that is no time."""
    if title is not None and not isinstance(title, str):
        raise LandscapeError(f"{where}: title is {shown(title)}; expected text")
    if time_limit is not None and not (isinstance(time_limit, Real) and float(time_limit) > 0):
        raise LandscapeError(
            f"{where}: time_limit is {shown(time_limit)}; expected seconds, a number above 0"
        )
