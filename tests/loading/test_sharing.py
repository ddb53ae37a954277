"""Items shared out by threads: each once, the first error wins, and nothing goes on behind the caller's back."""

import threading
import time

import pytest
import torch

from mpi_landscape.loading.sharing import Workers

NUMBERS = [1, 2, 3, 7]


class StopNowError(BaseException):
    """As KeyboardInterrupt: no Exception."""


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("count", [0, 1, 2, 3, 50])
def test_every_item_is_worked_on_once_and_results_are_in_the_order_of_the_items(number, count):
    done = []

    def work(_, item, pause):
        done.append(item)
        # The first ones take longest, so that they end last.
        time.sleep(0.01 if item < number else 0)
        pause()
        return item**2

    with Workers(range(number)) as workers:
        assert workers.share_out(range(count), work) == [item**2 for item in range(count)]
    assert sorted(done) == list(range(count))


def test_a_worker_is_in_one_thread_at_a_time_and_the_first_one_in_that_of_the_caller():
    places = {}

    def work(worker, item, _):
        time.sleep(0.001)
        places.setdefault(worker, set()).add(threading.get_ident())

    with Workers("abc") as workers:
        workers.share_out(range(60), work)
        assert all(len(threads) == 1 for threads in places.values())
    assert places["a"] == {threading.get_ident()}
    assert len(places) == len(set.union(*places.values())) == 3


def test_one_worker_needs_no_thread():
    before = threading.active_count()
    with Workers(["alone"]) as workers:
        assert workers.share_out([1, 2], lambda *_: threading.active_count()) == [before, before]


def test_there_are_no_more_threads_than_items():
    before = threading.active_count()
    with Workers(range(8)) as workers:
        workers.share_out([1, 2], lambda *_: time.sleep(0.01))
        assert threading.active_count() == before + 1
    assert threading.active_count() == before


def test_threads_of_its_own_leave_operations_on_one_core_and_the_caller_s_number_as_it_is():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        meeting = threading.Barrier(2)

        def work(worker, *_):
            meeting.wait(10)
            return worker, torch.get_num_threads()

        with Workers(["caller", "other"]) as workers:
            assert dict(workers.share_out([1, 2], work)) == {"caller": 2, "other": 1}
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("guilty", ["caller", "other"])
@pytest.mark.parametrize("kind", [ValueError, StopNowError])
def test_the_first_error_is_raised_nothing_is_begun_after_it_and_the_workers_can_be_used_again(guilty, kind):
    failed, both = threading.Event(), threading.Barrier(2)
    begun = []

    def work(worker, item, _):
        begun.append(item)
        both.wait(10)
        if worker == guilty:
            time.sleep(0.005)
            failed.set()
            raise kind("the first")
        failed.wait(10)
        time.sleep(0.02)
        raise ZeroDivisionError("a later one")

    with Workers(["caller", "other"]) as workers:
        with pytest.raises(kind, match="the first"):
            workers.share_out(range(100), work)
        assert len(begun) == 2
        time.sleep(0.01)
        assert len(begun) == 2
        assert workers.share_out(range(5), lambda _, item, __: item) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("number", NUMBERS)
def test_between_is_called_in_the_caller_s_thread_and_what_it_raises_ends_all(number):
    asked, begun = [], []

    def between():
        asked.append(threading.get_ident())
        if len(asked) == 3:
            raise StopNowError

    def work(_, item, pause):
        begun.append(item)
        time.sleep(0.001)
        pause()

    with Workers(range(number)) as workers:
        with pytest.raises(StopNowError):
            workers.share_out(range(10_000), work, between)
        ended = len(begun)
        assert ended < 1000
        time.sleep(0.01)
        assert len(begun) == ended
        workers.share_out(range(4), work, lambda: None)
    assert asked == [threading.get_ident()] * 3


def test_a_long_item_ends_at_its_next_pause_when_another_one_fails():
    pauses = []
    began = threading.Event()

    def work(worker, _, pause):
        if worker == "caller":
            began.wait(10)
            raise ValueError("the other")
        began.set()
        for _ in range(10_000):
            pauses.append(None)
            time.sleep(0.001)
            pause()

    with Workers(["caller", "other"]) as workers, pytest.raises(ValueError, match="the other"):
        workers.share_out([1, 2], work)
    assert len(pauses) < 5000


@pytest.mark.parametrize("guilty", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_items_that_are_shared_out_themselves_end_together(guilty):
    calls = []

    def part(place, item, pause):
        calls.append(item)
        time.sleep(0.001)
        if place == guilty and item > 3:
            raise ValueError(f"at {place}")
        pause()
        return item

    def whole(group, items, pause):
        return group.share_out(items, part, pause)

    groups = [Workers([(outer, inner) for inner in (0, 1)]) for outer in (0, 1)]
    with groups[0], groups[1], Workers(groups) as outer:
        with pytest.raises(ValueError, match="at "):
            outer.share_out([range(1000)] * 3, whole)
        ended = len(calls)
        assert ended < 300
        time.sleep(0.01)
        assert len(calls) == ended
        assert outer.share_out([range(3)] * 2, whole) == [[0, 1, 2]] * 2


def test_what_between_raises_ends_items_that_are_shared_out_themselves():
    asked, calls = [], []

    def between():
        asked.append(threading.get_ident())
        if len(asked) == 4:
            raise StopNowError

    def part(_, item, pause):
        calls.append(item)
        time.sleep(0.001)
        pause()

    groups = [Workers(range(2)), Workers(range(2))]
    with groups[0], groups[1], Workers(groups) as outer, pytest.raises(StopNowError):
        outer.share_out(
            [range(1000)] * 3, lambda group, items, pause: group.share_out(items, part, pause), between
        )
    assert len(calls) < 300
    assert set(asked) == {threading.get_ident()}
