import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from mpi_landscape.parallel import stopping as stopping_module
from mpi_landscape.parallel.stopping import SIGNALS, Interrupted, Stopping


def test_without_a_signal_or_a_limit_there_is_no_reason():
    with Stopping() as stopping:
        assert stopping.reason is None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT])
def test_a_signal_is_the_reason_and_nothing_else_happens(number):
    with Stopping() as stopping:
        os.kill(os.getpid(), number)
        assert stopping.reason == signal.Signals(number).name
        assert stopping.reason == signal.Signals(number).name, "it stays"


def test_a_signal_that_comes_twice_is_one_and_a_second_one_later_ends_at_once(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(stopping_module.time, "monotonic", lambda: now[0])
    with Stopping() as stopping:
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGINT):
            os.kill(os.getpid(), number)
            now[0] += 0.4
        assert stopping.reason == "SIGTERM", "the first one is the reason"
        now[0] += 0.4
        left = []
        monkeypatch.setattr(stopping_module, "_leave", left.append)
        os.kill(os.getpid(), signal.SIGINT)
        assert left == [signal.SIGINT]


def test_while_nothing_is_under_way_the_first_signal_ends_at_once():
    with Stopping() as stopping:
        with stopping.at_once(), pytest.raises(Interrupted):
            os.kill(os.getpid(), signal.SIGUSR1)
        with pytest.raises(Interrupted) as caught, stopping.at_once():
            raise AssertionError("it was told before")
        assert caught.value.reason == "SIGUSR1"


def test_after_that_a_signal_is_only_noted():
    with Stopping() as stopping:
        with stopping.at_once():
            pass
        os.kill(os.getpid(), signal.SIGTERM)
        assert stopping.reason == "SIGTERM"


def test_the_handlers_that_were_there_come_back():
    def mine(number, frame):
        raise AssertionError("not called")

    before = {number: signal.signal(number, mine) for number in SIGNALS}
    try:
        with Stopping():
            assert all(signal.getsignal(number) is not mine for number in SIGNALS)
            os.kill(os.getpid(), signal.SIGINT)
        assert all(signal.getsignal(number) is mine for number in SIGNALS)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_the_handlers_come_back_after_an_error():
    before = [signal.getsignal(number) for number in SIGNALS]
    with pytest.raises(ValueError, match="inside"), Stopping():
        raise ValueError("inside")
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_a_handler_that_is_not_pythons_does_no_harm(monkeypatch):
    # Python says None for a handler that a library in C had installed before the interpreter started.
    install = signal.signal
    monkeypatch.setattr(signal, "signal", lambda number, handler: [install(number, handler), None][1])
    before = [signal.getsignal(number) for number in SIGNALS]
    try:
        with Stopping():
            pass
        assert [signal.getsignal(number) for number in SIGNALS] == [signal.SIG_DFL] * len(SIGNALS)
    finally:
        for number, handler in zip(SIGNALS, before, strict=True):
            install(number, handler)


@pytest.mark.parametrize(
    ("limit", "words"), [(0, "the time limit of 0 s"), (0.02, "the time limit of 0.02 s")]
)
def test_the_time_limit_is_a_reason_when_it_has_passed(limit, words):
    start = time.monotonic()
    with Stopping(limit) as stopping:
        while stopping.reason is None:
            time.sleep(0.001)
        assert stopping.reason == words
    assert limit <= time.monotonic() - start < limit + 5


def test_a_signal_comes_before_a_time_limit():
    with Stopping(0) as stopping:
        os.kill(os.getpid(), signal.SIGUSR1)
        assert stopping.reason == "SIGUSR1"


def test_in_another_thread_the_time_limit_still_counts():
    found = []

    def work():
        with Stopping(0) as stopping:
            found.append(stopping.reason)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == ["the time limit of 0 s"]


def test_signals_never_disturb_a_program_that_prints(tmp_path):
    # A print in a handler raises in the middle of another print ("reentrant call"); a flag does not.
    program = """
        import os, sys
        from mpi_landscape.parallel.stopping import Stopping
        with Stopping() as stopping:
            sys.stderr.write("ready\\n")
            while not os.path.exists(sys.argv[1]):
                print("x" * 70, flush=True)
        sys.exit(75 if stopping.reason == "SIGTERM" else 1)
    """
    enough = tmp_path / "enough"
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program), str(enough)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr.readline() == "ready\n"
    for _ in range(200):
        process.send_signal(signal.SIGTERM)
        time.sleep(0.001)
    enough.touch()
    _, errors = process.communicate(timeout=300)
    assert (process.returncode, errors) == (75, "")
