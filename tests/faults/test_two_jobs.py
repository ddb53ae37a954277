"""Several jobs on one file: one computes, the others are refused; a lock that nobody holds blocks nobody."""

import json
import os
import re
import signal

import pytest

from mpi_landscape.storage.lock import lock_path
from tests.faults import jobs, kills
from tests.faults.aftermath import contents

pytestmark = pytest.mark.exhaustive


def _waiting(job, number):
    """Until so many ranks of the light job have begun."""
    return jobs.wait_until(lambda: sum(line == "begun" for line in job.noted()) >= number)


@pytest.mark.slow
@pytest.mark.parametrize("round_", range(5))
def test_of_jobs_that_start_at_once_exactly_one_computes(tmp_path, round_, undisturbed):
    reference = undisturbed(jobs.light(tmp_path, "root", 1))
    gate = tmp_path / "gate"
    job = jobs.light(tmp_path, "root", 1, gate=gate)
    processes = [jobs.start(job) for _ in range(4)]
    # Whoever holds the lock finishes no tile before the gate opens, so the others all meet it.
    assert jobs.wait_until(lambda: sum(process.poll() is not None for process in processes) >= 3)
    gate.touch()
    ends = [(process, jobs.end(process)[1]) for process in processes]
    assert sorted(process.returncode for process, _ in ends) == [0, 2, 2, 2]
    first = next(process for process, _ in ends if process.returncode == 0)
    for process, printed in ends:
        if process.returncode == 2:
            assert re.fullmatch(r"error: \S+: is being written by another job \(.*\); wait .*\n", printed), (
                printed
            )
            assert f"process {first.pid}" in printed
    assert contents(job.file) == reference


@pytest.mark.mpi
@pytest.mark.slow
def test_when_the_rank_that_holds_the_lock_is_killed_the_next_job_goes_on(tmp_path, writer, undisturbed):
    reference = undisturbed(jobs.light(tmp_path, writer, 2))
    job = jobs.light(tmp_path, writer, 2, gate=tmp_path / "gate")
    process = jobs.start(job)
    assert _waiting(job, 2)
    holder = json.loads(lock_path(job.file).read_text())
    assert holder["process"] == job.processes()[0]
    os.kill(holder["process"], signal.SIGKILL)
    jobs.end(process, kills.OTHERS_END_WITHIN)
    assert lock_path(job.file).exists(), "a killed job has no time to remove it"
    (tmp_path / "gate").touch()
    jobs.resume_as_started(job)
    assert contents(job.file) == reference
    assert not lock_path(job.file).exists()


def test_the_lock_file_of_a_dead_job_on_another_host_blocks_nobody(tmp_path, undisturbed):
    job = jobs.light(tmp_path, "root", 1)
    reference = undisturbed(job)
    left = {"host": "node4711", "process": 1, "since": "2020-01-01T00:00:00+00:00", "slurm_job": "99"}
    lock_path(job.file).write_text(json.dumps(left))
    jobs.resume_as_started(job)
    assert contents(job.file) == reference
    assert not lock_path(job.file).exists()
