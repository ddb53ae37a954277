"""A clock that is set while a job runs, and files whose times are of another century, change nothing."""

import os

import h5py
import pytest

# Each look at the time of day is 400 days before or after the one before.
JUMPING = """
    import itertools
    import time

    _days, _now = itertools.cycle([0, 400, -400]), time.time
    time.time = lambda: _now() + 86400 * next(_days)
"""


@pytest.mark.slow
def test_a_clock_that_jumps_neither_ends_nor_changes_a_run(study, contents, computed):
    computed("--output", str(study.folder / "reference.h5"))
    study.edit_module("import time\n", "\n".join(line[4:] for line in JUMPING.splitlines()) + "\n")
    # Far longer than it takes, far shorter than a jump.
    done = study.surface("--time-limit", "100", SLEEP="0.01")
    assert "complete" in done.stdout
    assert contents(study.output) == contents(study.folder / "reference.h5")


@pytest.mark.parametrize("year", [1975, 2037])
def test_the_times_of_files_mean_nothing(study, contents, computed, year):
    computed()
    reference = contents(study.output)
    with h5py.File(study.output, "r+") as file:
        file["tiles/status"][3] = 0
    seconds = (year - 1970) * 365 * 86400
    for path in (study.configuration, study.folder / "center.pt", study.output):
        os.utime(path, (seconds, seconds))
    assert "19 of them done before" in computed().out
    assert contents(study.output) == reference
