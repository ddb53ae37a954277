"""Killed at the entry of a system call that changes the file: it opens, has all that was finished, and is completed.

A sample of `python -m tests.faults.sweep --parts points`, which does every one.
"""

import random

import pytest

from tests.faults import injection, jobs

pytestmark = [pytest.mark.mpi, pytest.mark.slow, pytest.mark.exhaustive, pytest.mark.usefixtures("strace")]


def _kill_at_some(job, reference, most, seed):
    """Kill at a sample of the points, among them some of each kind of call; what was harmed."""
    chance = random.Random(seed)
    every = injection.points(job)
    kinds = {point.call for point in every}
    assert kinds & set(injection.WRITES), "an undisturbed job writes nothing: strace does not see its file"
    first = [chance.choice([point for point in every if point.call == kind]) for kind in sorted(kinds)]
    harmed, killed = [], 0
    for point in dict.fromkeys([*first, *chance.sample(every, min(most, len(every)))]):
        job.clear()
        left = injection.kill_at(job, point, reference)
        killed += left is not None
        if left is not None and not left.harmless:
            harmed.append((str(point), left))
    # On which rank a tile falls is chance: a few of the calls do not come again.
    assert killed > most / 2
    return harmed


def test_killed_at_a_call_of_its_writers_the_light_job_loses_nothing(tmp_path, writer, undisturbed):
    job = jobs.light(tmp_path, writer, 2)
    assert _kill_at_some(job, undisturbed(job), 16, seed=11) == []


def test_killed_at_a_call_of_its_writers_the_program_loses_nothing(tmp_path, writer, undisturbed):
    job = jobs.program(tmp_path, writer, 2)
    reference = undisturbed(job)
    every = [point for point in injection.points(job) if point.call in injection.WRITES]
    # One while the file is made, and two among the tiles.
    first = [point for point in every if point.rank == 0]
    for point in (first[1], first[len(first) // 2], first[-2]):
        job.clear()
        left = injection.kill_at(job, point, reference)
        assert left is None or left.harmless, (str(point), left)
