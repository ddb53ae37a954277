"""Which processes are gone, against processes that are started, stopped and killed here."""

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest

from mpi_landscape.parallel import neighbours
from mpi_landscape.parallel.neighbours import Neighbours, is_gone, seen, this_process

SLEEPER = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(1000)"]


@pytest.fixture
def sleeper():
    process = subprocess.Popen(SLEEPER, stdout=subprocess.PIPE)
    process.stdout.readline()
    yield process
    process.kill()
    process.wait()


def described(process):
    return replace(this_process(1, "here"), number=process.pid)


def test_a_process_that_runs_is_not_gone(sleeper):
    assert not is_gone(seen(sleeper.pid))
    assert not is_gone(seen(this_process(0, "here").number))


def test_a_stopped_process_is_not_gone(sleeper):
    sleeper.send_signal(signal.SIGSTOP)
    os.waitpid(sleeper.pid, os.WUNTRACED)
    assert not is_gone(seen(sleeper.pid))


def test_a_process_that_nobody_has_buried_is_gone(sleeper):
    known = seen(sleeper.pid)
    sleeper.kill()
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and stays a zombie
    assert is_gone(known)
    assert is_gone(seen(sleeper.pid))


def test_a_process_that_has_ended_is_gone(sleeper):
    known = seen(sleeper.pid)
    sleeper.kill()
    sleeper.wait()
    assert is_gone(known)


def test_a_number_that_no_process_has_is_of_one_that_is_gone():
    assert is_gone(seen(2**22 + 1))


def test_another_process_with_the_number_of_one_that_is_gone_is_not_taken_for_it(sleeper):
    known = seen(sleeper.pid)
    number, start = known._ident
    known._ident = (number, start - 1)  # one that began a second before the one that has the number now
    assert is_gone(known)


def test_a_name_with_blanks_and_brackets_is_no_trouble(tmp_path):
    odd = tmp_path / "a) Z 1 (b"
    odd.symlink_to(sys.executable)
    process = subprocess.Popen([str(odd), *SLEEPER[1:]], stdout=subprocess.PIPE)
    process.stdout.readline()
    try:
        assert not is_gone(seen(process.pid))
    finally:
        process.kill()
        process.wait()


def test_one_that_is_gone_is_told_once(sleeper, monkeypatch):
    monkeypatch.setattr(neighbours, "TICK", 0.01)
    monkeypatch.setattr(neighbours, "GRACE", 0.02)
    told, seen = [], threading.Event()

    def lost(process):
        told.append(process)
        seen.set()

    known = described(sleeper)
    with Neighbours([this_process(0, "here"), known], lost):
        assert not seen.wait(0.2)
        sleeper.kill()
        sleeper.wait()
        assert seen.wait(300)
        time.sleep(0.1)
    assert told == [known]


def test_one_that_goes_when_the_job_is_over_is_not_told(sleeper, monkeypatch):
    monkeypatch.setattr(neighbours, "TICK", 0.01)
    told = []
    with Neighbours([described(sleeper)], told.append):
        sleeper.kill()
        sleeper.wait()
    assert told == []


def test_the_time_for_which_a_process_is_suspended_does_not_count(monkeypatch):
    monkeypatch.setattr(neighbours, "TICK", 0.01)
    now = [50.0]
    monkeypatch.setattr(neighbours.time, "monotonic", lambda: now[0])
    with Neighbours([], lambda process: None) as clock:
        while clock.awake == 0:
            now[0] += 0.01
            time.sleep(0.01)
        before, now[0] = clock.awake, now[0] + 3600
        while clock.awake == before:
            time.sleep(0.01)
        assert clock.awake - before <= 4 * neighbours.TICK + 1e-9


def test_a_process_that_is_due_and_does_not_go_on_is_told(monkeypatch):
    monkeypatch.setattr(neighbours, "TICK", 0.01)
    told = threading.Event()
    with Neighbours([], lambda process: None, told.set) as watched:
        watched.due = watched.awake + 1000
        assert not told.wait(0.2)
        watched.due = watched.awake
        assert told.wait(300)
