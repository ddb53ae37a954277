import io
import re

import pytest

from mpi_landscape.work import progress as module
from mpi_landscape.work.progress import Progress


class Clock:
    """A clock that is moved by hand."""

    def __init__(self):
        self.now = 1000.0

    def monotonic(self):
        return self.now


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(module.time, "monotonic", made.monotonic)
    return made


def test_a_log_gets_whole_lines_with_count_rate_and_time_left(clock):
    stream = io.StringIO()
    with Progress(40, points_per_unit=2.5, stream=stream) as progress:
        for _ in range(10):
            clock.now += 6
            progress.advance()
    # 60 s for 10 tiles of 2.5 points; 30 tiles are left.
    assert (
        stream.getvalue().splitlines()[9]
        == " 25 %  10 of 40 tiles  0.417 points/s  01:00 elapsed  03:00 left"
    )


def test_a_log_is_not_flooded_and_never_silent_for_long(clock):
    stream, times = io.StringIO(), []
    start = clock.now
    with Progress(10**6, stream=stream) as progress:
        for _ in range(20_000):
            clock.now += 0.5
            before = len(stream.getvalue())
            progress.advance()
            if len(stream.getvalue()) > before:
                times.append(clock.now - start)
    pauses = [after - before for before, after in zip([0.0, *times], times, strict=False)]
    assert min(pauses) >= 5
    assert max(pauses) <= 120.5, "the limit and one tile"
    assert len(times) < 130, "in 10,000 s"


def test_a_short_job_still_leaves_a_line(clock):
    stream = io.StringIO()
    with Progress(3, stream=stream) as progress:
        for _ in range(3):
            clock.now += 1
            progress.advance()
    assert stream.getvalue().splitlines() == ["100 %  3 of 3 tiles  1 points/s  00:03 elapsed  00:00 left"]


def test_what_was_done_before_counts_for_the_share_but_not_for_the_speed(clock):
    stream = io.StringIO()
    with Progress(40, initial=30, stream=stream) as progress:
        for _ in range(2):
            clock.now += 10
            progress.advance()
    assert (
        stream.getvalue().splitlines()[-1] == " 80 %  32 of 40 tiles  0.1 points/s  00:20 elapsed  01:20 left"
    )


@pytest.mark.parametrize(
    ("settings", "advances", "reason"),
    [
        ({"shown": False}, 3, "another rank"),
        ({}, 0, "nothing was done"),
        ({"initial": 3}, 0, "nothing was left to do"),
    ],
)
def test_nothing_is_shown_when_there_is_nothing_to_say(clock, settings, advances, reason):
    stream = io.StringIO()
    with Progress(3, stream=stream, **settings) as progress:
        for _ in range(advances):
            clock.now += 100
            progress.advance()
    assert stream.getvalue() == "", reason


def test_an_error_leaves_the_last_count(clock):
    stream = io.StringIO()

    def work():
        with Progress(8, stream=stream) as progress:
            clock.now += 1
            progress.advance()
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        work()
    assert "1 of 8 tiles" in stream.getvalue()


def test_a_terminal_gets_one_bar():
    stream = Terminal()
    with Progress(8, initial=2, points_per_unit=3, stream=stream) as progress:
        for _ in range(6):
            progress.advance()
    text = stream.getvalue()
    assert re.search(r"100% \|.*\| 8/8 tiles, .* points/s", text)
    assert text.count("\n") == 1, "one line, drawn over and over"


def test_a_terminal_of_another_rank_stays_empty():
    stream = Terminal()
    with Progress(2, shown=False, stream=stream) as progress:
        progress.advance()
    assert stream.getvalue() == ""


def test_standard_error_is_the_default(clock, capsys):
    with Progress(1) as progress:
        clock.now += 1
        progress.advance()
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "1 of 1 tiles" in captured.err


def test_units_and_what_the_rate_counts_have_their_own_words(clock):
    stream = io.StringIO()
    with Progress(40, points_per_unit=64, units="steps", points="examples", stream=stream) as progress:
        clock.now += 10
        progress.advance(20)
    assert (
        stream.getvalue().splitlines()[-1]
        == " 50 %  20 of 40 steps  128 examples/s  00:10 elapsed  00:10 left"
    )


def test_what_the_program_says_goes_to_its_output_and_not_into_the_bar(capsys):
    stream = Terminal()
    with Progress(4, stream=stream) as progress:
        progress.advance()
        progress.say("epoch 1")
        progress.advance()
    assert capsys.readouterr().out == "epoch 1\n"
    assert "epoch" not in stream.getvalue()
    assert "2/4 tiles" in stream.getvalue()
