"""Whose silence ends a job, on a clock that the tests turn; real ranks in tests/programs/test_hangs.py."""

from types import SimpleNamespace

import pytest

from mpi_landscape.errors import LostRankError
from mpi_landscape.parallel.ranks import Ranks
from mpi_landscape.parallel.session import watched
from mpi_landscape.parallel.watch import PATIENCE_BEFORE, PATIENCE_LEAST, Watch

NAMES = [f"rank {rank} of 3 (node{rank}, process 1)" for rank in range(3)]


@pytest.fixture
def clock():
    return SimpleNamespace(awake=0.0, due=None)


def watch_of(clock, patience=None, tiles=None):
    return Watch(None, NAMES, clock, patience, tiles or {})


def test_a_rank_that_speaks_in_time_is_not_lost(clock):
    silence = watch_of(clock).silence([1, 2], 10)
    for clock.awake in (9.0, 18.0, 27.0):
        silence.heard(1)
        silence.heard(2)
        silence.check()


def test_the_one_that_is_silent_for_longer_is_named_with_its_tile(clock):
    silence = watch_of(clock, tiles={2: [17, 18]}).silence([1, 2], 10)
    clock.awake = 8.0
    silence.heard(1)
    clock.awake = 10.0
    silence.check()
    clock.awake = 10.5
    with pytest.raises(LostRankError, match=r"rank 2 of 3 \(node2.* 10 s in the middle of tile 17; what is"):
        silence.check()


def test_of_a_rank_that_has_left_nothing_is_expected(clock):
    silence = watch_of(clock).silence([1, 2], 10)
    silence.forget(2)
    silence.forget(2)
    clock.awake = 9.0
    silence.heard(1)
    clock.awake = 18.0
    silence.check()


def test_it_is_time_to_speak_several_times_within_the_patience(clock):
    silence = watch_of(clock).silence([0], 10)
    beats = 0
    while clock.awake < 100:
        clock.awake += 0.5
        beats += silence.beat
    assert beats == 50


def test_a_rank_that_asks_or_waits_is_not_stuck_and_one_that_does_neither_is_due(clock):
    watch = watch_of(clock)
    silence = watch.silence([0], 10)
    for clock.awake in (5.0, 40.0):
        _ = silence.beat
        assert clock.due == clock.awake + 25, "twice the patience, and what the others need to speak first"
    clock.awake = 42.0
    silence.heard(0)
    silence.check()
    assert clock.due == 67.0
    silence.over()
    assert clock.due is None


@pytest.mark.parametrize(
    ("given", "tile", "expected", "reason"),
    [
        (None, None, PATIENCE_BEFORE, "nothing is known of the work"),
        (None, 0.001, PATIENCE_LEAST, "a hiccup of a file system is longer than short tiles"),
        (None, 60.0, 1200.0, "many times a long tile"),
        (7.0, 60.0, 7.0, "asked for"),
        (7.0, None, 7.0, "asked for"),
    ],
)
def test_patience_goes_with_the_tiles(clock, given, tile, expected, reason):
    assert watch_of(clock, given).patience(tile) == expected, reason


def test_a_process_alone_has_nobody_to_wait_for():
    ranks = Ranks(host="here")
    with watched(ranks) as same:
        assert same is ranks
