"""A disk that refuses: one line, the file opens, what was finished stays, and with room again it goes on."""

import random

import pytest

from tests.faults import injection, jobs

pytestmark = [pytest.mark.mpi, pytest.mark.slow, pytest.mark.exhaustive, pytest.mark.usefixtures("strace")]


@pytest.mark.parametrize("error", ["ENOSPC", "EIO"])
def test_when_system_calls_on_the_file_fail_nothing_is_lost(tmp_path, writer, undisturbed, error):
    job = jobs.light(tmp_path, writer, 2)
    reference = undisturbed(job)
    every = [
        point for point in injection.points(job) if point.call in {*injection.WRITES, "fsync", "ftruncate"}
    ]
    harmed = []
    for point in random.Random(5).sample(every, 12):
        job.clear()
        left = injection.fail_at(job, point, error, reference)
        if not left.harmless:
            harmed.append((str(point), left))
    assert harmed == []


def test_the_program_ends_in_one_line_when_the_disk_fails_it(tmp_path, writer, undisturbed):
    job = jobs.program(tmp_path, writer, 2)
    reference = undisturbed(job)
    every = [point for point in injection.points(job) if point.rank == 0 and point.call in injection.WRITES]
    for point in (every[1], every[-3]):
        job.clear()
        left = injection.fail_at(job, point, "ENOSPC", reference)
        assert left.harmless, (str(point), left)
