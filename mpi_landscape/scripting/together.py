"""What every door has in common: what it is told besides, and that nobody is left waiting."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Real
from typing import Any

from mpi_landscape.command.door import is_debugging
from mpi_landscape.errors import AgreedError, LandscapeError
from mpi_landscape.parallel.launcher import open_ranks
from mpi_landscape.parallel.ranks import Ranks
from mpi_landscape.parallel.session import all_here, watched
from mpi_landscape.wording import shown


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


def check_title_and_limit(title: Any, time_limit: Any, *, where: str) -> None:
    """Refuse a title that is no text, and a time limit that is no time."""
    if title is not None and not isinstance(title, str):
        raise LandscapeError(f"{where}: title is {shown(title)}; expected text")
    if time_limit is not None and not (isinstance(time_limit, Real) and float(time_limit) > 0):
        raise LandscapeError(
            f"{where}: time_limit is {shown(time_limit)}; expected seconds, a number above 0"
        )
