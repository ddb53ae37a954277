"""Real ranks, tiles that cost next to nothing, and a job that must end in every case."""

import json

import numpy as np
import pytest

from mpi_landscape.parallel import coordinator
from mpi_landscape.parallel.ranks import Ranks
from mpi_landscape.parallel.stopping import Stopped

SIZES = [1, 2, 3, 5]

# All in one job per number of ranks, one after the other: what one leaves behind, the next one meets.
COMPLETE = {
    "nothing": ({"tiles": 0}, "nothing is left to do"),
    "one": ({"tiles": 1}, "more ranks than tiles"),
    "two": ({"tiles": 2}, "some ranks have a tile, others none"),
    "few": ({"tiles": 7}, "not everybody may have a second tile"),
    "many": ({"tiles": 60}, "no time between messages at all"),
    "without batches": ({"tiles": 20, "batches": 0}, "rank 0 answers between tiles only"),
    "resumed": ({"order": [40, 3, 11, 5, 2, 90]}, "the tiles that a killed job left, in their own order"),
    "slow root": ({"tiles": 24, "pause": [0.01, 0.0]}, "rank 0 is the slowest"),
    "slow workers": ({"tiles": 24, "pause": [0.0, 0.01, 0.002]}, "workers of different speed"),
    "wide": ({"tiles": 12, "width": 4000}, "results too large to be sent before they are received"),
    "one at a time": (
        {"tiles": 24, "pause": [0.0, 0.01, 0.002], "ahead": False},
        "nobody holds a second tile",
    ),
    "late reason": ({"tiles": 0, "stop": [[0, 10**6]]}, "no reason comes"),
}
# Tile k is followed by k + 100 once its result is in, up to 300.
GROWING = {
    "growing": (
        {"tiles": 10, "grows": 300},
        40,
        "more tiles come with results, and whoever asks early waits",
    ),
    "growing from one": ({"tiles": 1, "grows": 300, "pause": [0.002]}, 4, "only one tile at a time is there"),
    "growing, wide": ({"tiles": 5, "grows": 200, "width": 4000}, 15, "results too large to be buffered"),
}
STOPPED = {
    "root stops": ({"tiles": 200, "pause": [0.002], "stop": [[0, 7]]}, "told rank 0", "a signal to rank 0"),
    "last stops": (
        {"tiles": 200, "pause": [0.002], "stop": [[-1, 7]]},
        "told rank {last}",
        "to the last rank",
    ),
    "all stop": (
        {"tiles": 200, "pause": [0.002], "stop": [[k, 7] for k in range(5)]},
        "told rank",
        "to all at once",
    ),
    "one at a time, stopped": (
        {"tiles": 200, "pause": [0.002], "stop": [[-1, 7]], "ahead": False},
        "told rank {last}",
        "nobody holds a second tile",
    ),
    "at once": ({"tiles": 50, "stop": [[0, 0]]}, "told rank 0", "before the first tile"),
    "all at once": (
        {"tiles": 50, "stop": [[k, 0] for k in range(5)]},
        "told rank",
        "on all, before the first tile",
    ),
    "wide stop": (
        {"tiles": 90, "width": 4000, "pause": [0.002], "stop": [[-1, 9]]},
        "told rank {last}",
        "large results",
    ),
    "time limit": (
        {"tiles": 500, "pause": [0.002], "limit": 0.2},
        "the time limit of 0.2 s",
        "the time is up",
    ),
    "stopped while growing": (
        {"tiles": 1, "grows": 10**7, "pause": [0.002], "stop": [[k, 7] for k in range(5)]},
        "told rank",
        "the others wait for tiles that never come",
    ),
    "a limit while growing": (
        {"tiles": 1, "grows": 10**7, "pause": [0.05, 0.002], "limit": 0.2},
        "the time limit of 0.2 s",
        "most ranks only wait",
    ),
    "no time": (
        {"tiles": 500, "pause": [0.002], "limit": 0.0},
        "the time limit of 0 s",
        "the time was up before",
    ),
}


@pytest.fixture(scope="module", params=SIZES)
def played(request, outcome):
    """Every case on so many ranks: name to what each rank did."""
    cases = {name: row[0] for name, row in {**COMPLETE, **GROWING, **STOPPED}.items()}
    # Once more at the end, after all the stops.
    return outcome(request.param, "coordinator_job.py", json.dumps({**cases, "again": COMPLETE["many"][0]}))


def tiles_of(case):
    return case.get("order", list(range(case.get("tiles", 0))))


@pytest.mark.parametrize("name", [*COMPLETE, "again"])
def test_every_tile_is_evaluated_exactly_once_and_recorded_once_on_rank_0(played, name):
    case, reason = COMPLETE["many" if name == "again" else name]
    every = played[name]
    evaluated = [tile for rank in every for tile in rank["evaluated"]]
    assert sorted(evaluated) == sorted(tiles_of(case)), reason
    assert sorted(tile for tile, _ in every[0]["recorded"]) == sorted(tiles_of(case)), reason
    assert not any(rank["recorded"] for rank in every[1:]), reason
    assert [rank["reason"] for rank in every] == [None] * len(every), reason


@pytest.mark.parametrize("name", [*COMPLETE, *STOPPED])
def test_sums_arrive_whole_and_are_kept_where_they_were_computed(played, name):
    every = played[name]
    assert all(same for _, same in every[0]["recorded"])
    for rank in every:
        assert rank["kept"] == [[tile, True] for tile in rank["evaluated"]]


@pytest.mark.parametrize("name", COMPLETE)
def test_tiles_begin_in_the_order_given(played, name):
    order = tiles_of(COMPLETE[name][0])
    for rank in played[name]:
        places = [order.index(tile) for tile in rank["begun"]]
        assert places == sorted(places)


@pytest.mark.parametrize("name", STOPPED)
def test_a_stop_ends_all_ranks_with_the_same_reason(played, name):
    case, words, reason = STOPPED[name]
    every = played[name]
    assert len({rank["reason"] for rank in every}) == 1, reason
    assert every[0]["reason"].startswith(words.format(last=len(every) - 1)), reason
    if "[-1" in str(case) and len(every) > 1:
        assert every[0]["reason"].endswith(f" on rank {len(every) - 1}"), reason
    # Stopped in the middle: half a second of work per rank was left, a batch takes 2 ms.
    assert len(every[0]["recorded"]) < case.get("grows", len(tiles_of(case))), reason
    assert max(rank["seconds"] for rank in every) < 5, reason


@pytest.mark.parametrize("name", STOPPED)
def test_what_was_evaluated_before_a_stop_is_recorded_once(played, name):
    every = played[name]
    evaluated = [tile for rank in every for tile in rank["evaluated"]]
    assert len(set(evaluated)) == len(evaluated)
    assert sorted(tile for tile, _ in every[0]["recorded"]) == sorted(evaluated)


@pytest.mark.parametrize("name", GROWING)
def test_tiles_that_come_with_results_are_all_evaluated_once(played, name):
    _, expected, reason = GROWING[name]
    every = played[name]
    evaluated = [tile for rank in every for tile in rank["evaluated"]]
    assert len(set(evaluated)) == len(evaluated) == expected, reason
    assert sorted(tile for tile, _ in every[0]["recorded"]) == sorted(evaluated), reason
    assert [rank["reason"] for rank in every] == [None] * len(every), reason


@pytest.mark.parametrize("name", [*COMPLETE, *GROWING, *STOPPED])
def test_no_message_is_left_over(played, name):
    assert not any(rank["stray"] for rank in played[name])


def test_every_rank_works_when_there_is_work_for_all(played):
    # 24 tiles of 30 ms on rank 0: workers that need no time do the rest, but rank 0 never waits for them.
    assert all(rank["evaluated"] for rank in played["slow workers"])
    assert played["slow root"][0]["evaluated"]
    if len(played["slow root"]) > 1:
        assert len(played["slow root"][0]["evaluated"]) < 24


def test_a_slow_rank_does_not_hold_up_the_others(outcome):
    # Dealt in equal parts, rank 0 alone would need 10 tiles x 3 batches x 20 ms = 0.6 s. It answers between batches, so
    # each worker can have 3 tiles while rank 0 has 1: 4 or 5 of 30 for rank 0, measured 5 or 6 on MPICH and Open MPI.
    case = {"tiles": 30, "pause": [0.02, 0.001, 0.001]}
    every = outcome(3, "coordinator_job.py", json.dumps({"uneven": case}))["uneven"]
    assert len(every[0]["evaluated"]) <= 8


class Never:
    reason = None


def run_alone(
    tiles, evaluate=None, stopping=Never, record=lambda tile, sums: None, keep=lambda tile, sums: None
):
    return coordinator.run(
        Ranks(),
        tiles=iter(tiles),
        num_tiles=len(tiles),
        sums_size=3,
        evaluate=evaluate or (lambda tile, between: np.full(3, tile)),
        keep=keep,
        record=record,
        stopping=stopping,
    )


def test_one_process_without_mpi_does_all_in_order():
    calls = []
    reason = run_alone(
        [4, 2, 9],
        keep=lambda tile, sums: calls.append(("keep", tile)),
        record=lambda tile, sums: calls.append(("record", tile)),
    )
    assert reason is None
    assert calls == [(what, tile) for tile in (4, 2, 9) for what in ("keep", "record")]


def test_a_reason_that_comes_after_the_last_tile_stops_nothing():
    class Late:
        reason = None

    stopping = Late()

    def record(tile, sums):
        stopping.reason = "too late" if tile == 2 else None

    assert run_alone([0, 1, 2], stopping=stopping, record=record) is None


def test_a_tile_that_is_interrupted_is_not_recorded():
    class Soon:
        reason = None

    stopping, recorded = Soon(), []

    def evaluate(tile, between):
        stopping.reason = "SIGTERM" if tile == 1 else None
        between()
        return np.full(3, tile)

    reason = run_alone([0, 1, 2], evaluate, stopping, record=lambda tile, sums: recorded.append(tile))
    assert reason == "SIGTERM"
    assert recorded == [0]


def test_an_error_in_a_tile_is_not_swallowed():
    def evaluate(tile, between):
        raise ValueError("no such data")

    with pytest.raises(ValueError, match="no such data"):
        run_alone([0], evaluate)


def test_a_stop_is_no_error_to_a_program_that_catches_errors_of_its_own():
    assert not issubclass(Stopped, (OSError, RuntimeError, ValueError))
