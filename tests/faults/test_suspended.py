"""A job that is suspended as a whole, as a scheduler or a closed lid does it, goes on: time that nobody saw counts for nobody."""

import dataclasses
import time

import psutil
import pytest

from tests.faults import jobs
from tests.faults.aftermath import verified_tiles

pytestmark = [pytest.mark.slow, pytest.mark.mpi, pytest.mark.exhaustive]

PATIENCE, SUSPENDED = 4, 10  # seconds


def _suspend(process):
    family = [psutil.Process(process.pid), *jobs.descendants(process)]
    for each in family:
        each.suspend()
    time.sleep(SUSPENDED)
    for each in family:
        each.resume()


@pytest.mark.parametrize("moment", ["as it starts", "in the middle"])
def test_a_job_that_was_suspended_for_longer_than_its_patience_is_done(
    tmp_path, writer, moment, record_property
):
    job = jobs.program(tmp_path, writer, 2, pause=0.02)
    job = dataclasses.replace(job, words=(*job.words, "--patience", str(PATIENCE)))
    process = jobs.start(job)
    if moment == "as it starts":
        assert jobs.wait_until(lambda: len(jobs.descendants(process)) >= 2)
    else:
        assert jobs.wait_until(lambda: len(verified_tiles(job.file)) >= 3)
    _suspend(process)
    out, printed = jobs.end(process)
    record_property("exit status", str(process.returncode))
    assert process.returncode == 0, printed
    assert "complete" in out
