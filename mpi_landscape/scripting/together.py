"""What every door has in common: nobody is left waiting."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from mpi_landscape.command.door import is_debugging
from mpi_landscape.errors import AgreedError, LandscapeError
from mpi_landscape.parallel.ranks import Ranks


@contextmanager
def nobody_waits(ranks: Ranks) -> Iterator[None]:
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
