"""Killed at any instant, one rank or all of them: the file opens and nothing that was finished is lost."""

import pytest

from tests.exhaustive import rows
from tests.faults import jobs, kills

pytestmark = [pytest.mark.mpi, pytest.mark.slow]


@pytest.mark.parametrize(
    ("make", "count"),
    rows(
        {"light job": (jobs.light, 12), "program": (jobs.program, 4), "program, once": (jobs.program, 1)},
        "program, once",
    ),
)
def test_killed_again_and_again_a_surface_ends_at_the_same_bits(tmp_path, writer, undisturbed, make, count):
    reference = undisturbed(make(tmp_path, writer, 2))
    # Two ranks and, every second time, one that the writer shares the file with.
    job = make(tmp_path, writer, 3, pause=0.01)
    found = list(kills.random_kills(job, count, 7, reference))
    assert len(found) == count
    assert [kill for kill in found if not kill.left.harmless] == []
    # The bound is the requirement: nobody may wait for a rank that is gone.
    assert max(kill.took for kill in found if kill.whom != "all") < kills.OTHERS_END_WITHIN
