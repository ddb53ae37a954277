import pytest

from mpi_landscape import LandscapeError
from mpi_landscape.plan import cost
from mpi_landscape.plan.tiles import Plan

TEN = Plan(num_points=10, points_per_tile=1, shards=(("train", 1),))


@pytest.mark.parametrize(
    ("ranks", "share", "reason"),
    [
        (1, 1.0, "one rank is never idle"),
        (5, 1.0, "two full rounds"),
        (4, 10 / 12, "the third round has two tiles for four ranks"),
        (10, 1.0, "one round"),
        (11, 10 / 11, "one rank has nothing to do"),
        (40, 0.25, "nor have thirty"),
    ],
)
def test_ranks_are_idle_in_the_last_round_only(ranks, share, reason):
    assert cost.efficiency(TEN, ranks) == pytest.approx(share), reason


@pytest.mark.parametrize(
    ("ranks", "seconds"), [(1, 30.0), (4, 9.0), (5, 6.0), (10, 3.0), (11, 3.0), (1000, 3.0)]
)
def test_the_time_is_that_of_the_rounds(ranks, seconds):
    # 3 s a point and tile, so 3 s a round.
    assert cost.expected_seconds(TEN, 3.0, ranks) == pytest.approx(seconds)


def test_the_longest_tile_is_that_of_the_largest_shard():
    plan = Plan(num_points=100, points_per_tile=4, shards=(("train", 8), ("test", 1)))
    # Four points of 10 s: train's eighth of 80 % is 4 s, the whole of test's 20 % is 8 s.
    assert cost.longest_tile(plan, 10.0, [0.8, 0.2]) == pytest.approx(8.0)
    assert cost.longest_tile(plan, 10.0, [0.96, 0.04]) == pytest.approx(4.8)


def test_a_tile_has_no_more_points_than_the_grid():
    plan = Plan(num_points=3, points_per_tile=8, shards=(("train", 1),))
    assert cost.longest_tile(plan, 2.0, [1.0]) == pytest.approx(6.0)


@pytest.mark.parametrize(
    ("limit", "tile"), [(None, 1e9), (10.0, 9.9), (10.0, 10.0)], ids=["no limit", "a tile fits", "just"]
)
def test_a_time_limit_of_a_tile_or_more_is_allowed(limit, tile):
    cost.check_time_limit(limit, tile, 4)


def test_a_time_limit_below_a_tile_is_refused_with_what_helps():
    with pytest.raises(LandscapeError) as refused:
        cost.check_time_limit(10.0, 300.0, 4)
    text = str(refused.value)
    for word in (
        "--time-limit: 10 s",
        "about 5 min",
        "longer limit",
        "points_per_tile below 4",
        "data_shards",
    ):
        assert word in text


def test_a_tile_of_one_point_cannot_have_fewer():
    with pytest.raises(LandscapeError) as refused:
        cost.check_time_limit(10.0, 300.0, 1)
    assert "points_per_tile" not in str(refused.value)


def test_memory_is_vectors_and_data():
    # Center, point, the caller's network and two directions, four bytes a number.
    assert cost.memory_per_rank(1000, 2, data=77, activations=5, folded=True) == 5 * 4000 + 82
    assert cost.memory_per_rank(1000, 1, data=0, activations=0, folded=False) == 3 * 4000


def lines(plan, ranks, *, threads=2, on_gpu=False):
    return cost.table(plan, 3600.0, ranks=ranks, threads=threads, on_gpu=on_gpu, memory=3 * 2**30)


def test_the_table_shows_this_number_of_ranks_and_no_more_than_there_are_tiles():
    counts = [line.split()[0] for line in lines(TEN, 3)[1:-1]]
    assert counts == ["1", "3", "4"]
    assert next(line for line in lines(TEN, 3) if "this run" in line).split()[0] == "3"
    # More ranks than tiles are shown where somebody has started them.
    assert [line.split()[0] for line in lines(TEN, 40)[1:-1]] == ["1", "4", "40"]


def test_hours_are_those_of_all_cores_idle_ones_too():
    # Ten hours of one rank; on four, three rounds of an hour: twelve rank-hours of two cores each.
    four = next(line for line in lines(TEN, 4) if "this run" in line)
    assert "3 h" in four
    assert " 24 " in four
    assert "83.3 %" in four
    assert "core-hours" in lines(TEN, 4)[0]
    assert " 12 " in next(line for line in lines(TEN, 4, on_gpu=True) if "this run" in line)
    assert "GPU-hours" in lines(TEN, 4, on_gpu=True)[0]
    assert "3 GiB" in lines(TEN, 4)[-1]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.5, "about 0.5 s"), (119, "about 119 s"), (600, "about 10 min"), (9000, "about 2.5 h")],
)
def test_times_are_said_in_fitting_units(seconds, text):
    assert cost.duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"), [(5, "5 bytes"), (2048, "2 KiB"), (3 * 2**20, "3 MiB"), (5 * 2**29, "2.5 GiB")]
)
def test_amounts_are_said_in_fitting_units(count, text):
    assert cost.amount(count) == text
