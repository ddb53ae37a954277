import inspect
from collections import Counter

import pytest

from mpi_landscape import LandscapeError
from mpi_landscape.plan.rules import (
    choose_batch_size,
    choose_points_per_tile,
    choose_shards,
    choose_streamed_points,
    choose_streamed_shards,
    seconds_per_tile,
)
from mpi_landscape.plan.tiles import Plan, shard_bounds

PLANS = [
    (Plan(num_points=1, points_per_tile=1, shards=(("train", 1),)), "one tile"),
    (Plan(num_points=40, points_per_tile=4, shards=(("train", 1), ("test", 1))), "points divide evenly"),
    (Plan(num_points=41, points_per_tile=4, shards=(("train", 3), ("test", 2))), "last chunk is short"),
    (Plan(num_points=3, points_per_tile=8, shards=(("train", 5), ("test", 1))), "chunk exceeds the grid"),
    (Plan(num_points=7, points_per_tile=2, shards=(("a", 1), ("b", 4), ("c", 2))), "three splits"),
]


@pytest.mark.parametrize(("plan", "reason"), PLANS)
def test_every_point_of_every_shard_is_in_exactly_one_tile(plan, reason):
    tiles = [plan.tile(index) for index in range(plan.num_tiles)]
    found = Counter(
        (tile.split, tile.shard, position) for tile in tiles for position in range(tile.start, tile.stop)
    )
    wanted = {
        (split, shard, position)
        for split, count in plan.shards
        for shard in range(count)
        for position in range(plan.num_points)
    }
    assert set(found) == wanted, reason
    assert set(found.values()) == {1}, reason
    assert all(1 <= tile.num_points <= plan.points_per_tile for tile in tiles)
    assert [tile.index for tile in tiles] == list(range(plan.num_tiles))


def test_tiles_run_over_chunks_then_splits_then_shards():
    plan = Plan(num_points=5, points_per_tile=3, shards=(("train", 2), ("test", 1)))
    tiles = [plan.tile(index) for index in range(plan.num_tiles)]
    assert [(tile.start, tile.stop, tile.split, tile.shard) for tile in tiles] == [
        (0, 3, "train", 0),
        (0, 3, "train", 1),
        (0, 3, "test", 0),
        (3, 5, "train", 0),
        (3, 5, "train", 1),
        (3, 5, "test", 0),
    ]
    assert (plan.num_chunks, plan.num_units, plan.num_tiles) == (2, 3, 6)


@pytest.mark.parametrize("index", [-1, 6])
def test_a_tile_that_does_not_exist_is_refused(index):
    plan = Plan(num_points=5, points_per_tile=3, shards=(("train", 2), ("test", 1)))
    with pytest.raises(IndexError, match="from 0 to 5"):
        plan.tile(index)


@pytest.mark.parametrize(
    ("num_points", "points_per_tile", "shards", "message"),
    [
        (0, 1, (("train", 1),), "num_points is 0"),
        (5, 0, (("train", 1),), "points_per_tile is 0"),
        (5, 1, (), "no split"),
        (5, 1, (("train", 1), ("test", 0)), "'test' has 0 data shards"),
        (5, 1, (("train", 1), ("train", 2)), "twice"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(num_points, points_per_tile, shards, message):
    with pytest.raises(LandscapeError, match=message):
        Plan(num_points=num_points, points_per_tile=points_per_tile, shards=shards)


@pytest.mark.parametrize(("num_batches", "num_shards"), [(1, 1), (7, 1), (7, 3), (7, 7), (3, 5), (391, 256)])
def test_shards_cover_every_batch_once_and_evenly(num_batches, num_shards):
    bounds = [shard_bounds(num_batches, num_shards, shard) for shard in range(num_shards)]
    batches = [batch for first, stop in bounds for batch in range(first, stop)]
    assert batches == list(range(num_batches))
    sizes = [stop - first for first, stop in bounds]
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("shard", [-1, 3])
def test_a_shard_that_does_not_exist_is_refused(shard):
    with pytest.raises(IndexError, match="from 0 to 2"):
        shard_bounds(10, 3, shard)


@pytest.mark.parametrize(
    ("num_points", "batches", "shards", "reason"),
    [
        ((51, 51), (782, 157), (78, 16), "CIFAR-10 on a CPU: ten batches each, 244,494 pairs"),
        ((51, 51), (98, 20), (12, 2), "CIFAR-10 on a GPU: batches of 512, eight or nine in a shard"),
        ((51, 51), (20_019, 782), (99, 4), "ImageNet: 2^18 pairs, of 200 batches each"),
        ((51, 51), (3, 1), (1, 1), "digits: nothing worth cutting"),
        ((501, 501), (782, 157), (1, 1), "points alone are enough"),
        ((10**4, 10**4), (782, 157), (1, 1), "10^8 points"),
        ((51, 1), (782, 157), (98, 20), "a line: 6,018 pairs, none below eight batches"),
        ((1, 1), (391, 20), (391, 20), "one point: every batch by itself"),
        ((4, 7), (391, 0), (49, 1), "few points: eight batches each, and an empty split has its one shard"),
        ((10, 1), (1, 1), (1, 1), "one batch cannot be cut"),
    ],
)
def test_data_is_cut_until_thousands_of_ranks_have_work(num_points, batches, shards, reason):
    found = choose_shards(num_points[0] * num_points[1], dict(zip(("train", "test"), batches, strict=True)))
    # A quarter more or less would do as well; the order of magnitude is what the reason says.
    for split, expected in zip(("train", "test"), shards, strict=True):
        assert 0.75 * expected <= found[split] <= 1.34 * expected, reason


@pytest.mark.parametrize("num_points", [1, 3, 51, 255, 2601, 40_401, 10**6])
@pytest.mark.parametrize("batches", [(1, 0), (2, 1), (13, 4), (98, 20), (782, 157), (20_019, 782)])
def test_shards_are_alike_and_none_is_empty(num_points, batches):
    count = {"train": batches[0], "test": batches[1]}
    shards = choose_shards(num_points, count)
    assert all(1 <= number <= max(1, count[split]) for split, number in shards.items())
    # Batches of a shard, of the splits that are cut: half as many again in one as in the other at most, when rounded.
    sizes = [count[split] / number for split, number in shards.items() if number > 1]
    assert not sizes or max(sizes) <= 1.5 * min(sizes)


def test_shards_and_tiles_follow_from_the_problem_alone():
    # The signature has no number of ranks; and equal problems are cut alike.
    assert choose_shards(2601, {"train": 782, "test": 157}) == choose_shards(
        2601, {"train": 782, "test": 157}
    )
    names = {
        *inspect.signature(choose_shards).parameters,
        *inspect.signature(choose_points_per_tile).parameters,
    }
    assert not {name for name in names if "rank" in name or "size" in name}


@pytest.mark.parametrize(
    ("seconds", "tile", "reason"),
    [
        (1.0, 0.05, "a second of work: 20 tiles"),
        (655.36, 0.05, "where the shortest tile ends: sqrt(655.36 / 2^18) = 0.05"),
        (2.0**18, 1.0, "three days of one rank"),
        (2.0**20, 2.0, "four times as long: twice as long tiles, so one message per rank and second"),
        (2.0**24, 8.0, "half a year of one rank"),
        (0.0, 0.05, "nothing was measured"),
    ],
)
def test_tiles_of_longer_jobs_are_longer(seconds, tile, reason):
    assert seconds_per_tile(seconds) == pytest.approx(tile), reason


@pytest.mark.parametrize(
    ("num_points", "num_units", "seconds", "share", "points", "reason"),
    [
        (2601, 94, 75.0, 0.0107, 1, "ResNet-56 on a CPU core: a shard takes 0.8 s already"),
        (2601, 14, 1.0, 0.076, 1, "the same on a GPU: 0.076 s a shard, and tiles of 0.1 s"),
        (2601, 2, 0.004, 0.75, 16, "digits, 4 ms a point: 16 points are 0.05 s"),
        (2601, 2, 1e-7, 0.75, 2048, "next to nothing: two tiles"),
        (2601, 2, 0.0, 1.0, 2048, "too fast to be measured"),
        (1, 1, 0.001, 1.0, 1, "one point"),
        (251_001, 2, 0.004, 0.75, 16, "501 x 501 on digits: 1,004 s in all, tiles of 0.06 s"),
        (251_001, 2, 75.0, 0.83, 1, "501 x 501 of a ResNet-56: a point takes 62 s"),
        (10**8, 2, 1.0, 0.83, 128, "10^4 x 10^4: no more than 2^21 tiles"),
        (100, 10**9, 1.0, 1e-9, 100, "more shards than tiles are wanted: as few tiles as can be"),
    ],
)
def test_points_per_tile_follow_from_the_cost_of_a_point(
    num_points, num_units, seconds, share, points, reason
):
    assert choose_points_per_tile(num_points, num_units, seconds, share) == points, reason


def test_a_tile_takes_about_as_long_as_wanted_where_a_point_is_cheap():
    for num_points in (2601, 40_401, 10**6):
        for seconds in (1e-4, 1e-3, 0.01, 0.1):
            points = choose_points_per_tile(num_points, 2, seconds, 0.8)
            wanted = seconds_per_tile(seconds * num_points)
            # A power of two below it, where points are to be had and a single one is not too long already.
            if 1 < points < num_points:
                assert wanted / 2 <= points * seconds * 0.8 <= wanted


def test_the_table_of_tiles_stays_small():
    for num_points in (2601, 10**6, 10**8):
        for units in (1, 2, 94):
            points = choose_points_per_tile(num_points, units, 1e3, 1.0)
            plan = Plan(num_points=num_points, points_per_tile=points, shards=(("train", units),))
            assert plan.num_tiles <= 2**21 + units


def test_messages_are_rare_where_a_large_job_runs_on_thousands_of_ranks():
    # Two messages per tile. Jobs of 12 days of one rank and more, and 4,096 ranks: one per rank and second at most.
    for seconds in (2.0**20, 2.0**22, 2.0**26):
        assert 2 / seconds_per_tile(seconds) <= 1


@pytest.mark.parametrize(
    ("size", "examples", "on_gpu", "expected", "why"),
    [
        (4 * 16 * 32 * 32, 50_000, False, 64, "a ResNet-20 on CIFAR: what was measured fastest"),
        (2 * 16 * 32 * 32, 50_000, False, 128, "the same in bfloat16"),
        (4 * 64 * 32 * 32, 50_000, False, 32, "a VGG-9 on CIFAR: what was measured fastest"),
        (
            4 * 8 * 8 * 8,
            1_442,
            False,
            512,
            "digits: launching operations is what takes time, but three batches are needed",
        ),
        (4 * 64 * 112 * 112, 1_281_167, False, 32, "ImageNet on a CPU: never fewer"),
        (4 * 10, 50_000, False, 2048, "a linear model: a sixteenth of the examples"),
        (4 * 10, 1_281_167, False, 4096, "a linear model on many examples: never more"),
        (4 * 16 * 32 * 32, 50_000, True, 2048, "a ResNet-20 on a GPU"),
        (4 * 64 * 32 * 32, 50_000, True, 1024, "a VGG-9 on a GPU"),
        (4 * 16 * 32 * 32, 5_000, True, 1024, "few examples on a GPU: four batches"),
        (4 * 64 * 112 * 112, 1_281_167, True, 64, "ImageNet on a GPU: never fewer"),
        (4 * 10, 1, True, 512, "fewer examples than the least bound"),
    ],
)
def test_batches_are_sized_by_the_activations(size, examples, on_gpu, expected, why):
    assert choose_batch_size(size, examples, on_gpu=on_gpu) == expected, why


@pytest.mark.parametrize(
    ("num_points", "num_batches", "shards", "points", "reason"),
    [
        (
            2601,
            20_019,
            806,
            650,
            "51 x 51 on ImageNet: sums of 64 MB; 4 chunks, as a tile has 2^20 evaluations",
        ),
        (51, 20_019, 1024, 51, "a line on ImageNet: every image is read once"),
        (2601, 782, 782, 2601, "51 x 51 on its validation images: the shards alone are enough tiles"),
        (225, 32, 32, 14, "15 x 15 on 2,048 images: 17 chunks, as 512 tiles are wanted"),
        (225, 1, 1, 1, "one batch: nothing but chunks of points"),
        (1, 20_019, 1024, 1, "one point"),
        (10**6, 20_019, 2, 1, "a million points: their sums leave no room for shards"),
        (10**8, 1, 1, 16_382, "one batch of 64: a tile has 2^20 evaluations"),
        (10**8, 200_000, 1, 48, "10^4 x 10^4 on 12.8 million: no more than 2^21 chunks"),
        (10, 0, 1, 1, "an empty split still has its one shard"),
    ],
)
def test_streamed_data_are_cut_into_shards_before_points_are_cut_into_chunks(
    num_points, num_batches, shards, points, reason
):
    assert choose_streamed_shards(num_points, num_batches) == shards, reason
    assert choose_streamed_points(num_points, shards, 64 * num_batches // shards) == points, reason


def test_streamed_plans_have_enough_tiles_for_many_ranks_wherever_there_is_enough_to_do():
    for num_points in [1, 7, 225, 2601, 10**5]:
        for num_batches in [1, 10, 511, 512, 20_000]:
            shards = choose_streamed_shards(num_points, num_batches)
            points = choose_streamed_points(num_points, shards, 64 * num_batches // shards)
            assert 1 <= shards <= max(1, num_batches)
            assert 1 <= points <= num_points
            plan = Plan(num_points=num_points, points_per_tile=points, shards=(("train", shards),))
            assert plan.num_tiles >= min(512, num_points * min(num_batches, 1024))
            assert points * (64 * num_batches // shards) <= max(2**20, 64 * num_batches // shards)
