"""A call for all ranks that only one of them makes ends with a message."""

import pytest

JOB = """
import time
from mpi_landscape.parallel.launcher import open_ranks
from mpi_landscape.parallel.session import all_here
ranks = open_ranks()
if ranks.rank == 0:
    all_here(ranks, "landscape()", said_after=0.2, limit=2.0)
else:
    time.sleep(120)
"""
TOGETHER = """
import time
from mpi_landscape.parallel.launcher import open_ranks
from mpi_landscape.parallel.session import all_here
ranks = open_ranks()
time.sleep(ranks.rank)
all_here(ranks, "landscape()", said_after=0.2)
print("came", ranks.rank)
"""


@pytest.mark.mpi
def test_a_rank_that_waits_alone_says_so_and_ends_the_job(launch):
    done = launch(2, "-c", JOB)
    assert done.returncode
    assert "rank 0 waits for others of the 2 ranks" in done.stderr
    assert "must be called by all 2 ranks, and not under `if rank == 0`" in done.stderr


@pytest.mark.mpi
def test_a_rank_that_comes_later_is_waited_for(launch):
    done = launch(2, "-c", TOGETHER)
    assert done.returncode == 0
    assert sorted(done.stdout.split()) == ["0", "1", "came", "came"]
