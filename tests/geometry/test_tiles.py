from collections import Counter

import pytest

from mpi_landscape import LandscapeError
from mpi_landscape.geometry.tiles import (
    Plan,
    choose_batch_size,
    choose_points_per_tile,
    choose_shards,
    choose_streamed_points,
    choose_streamed_shards,
    shard_bounds,
)

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
    ("num_points", "num_batches", "shards", "reason"),
    [
        (2601, 391, 1, "51 x 51: the points alone keep 100 ranks busy"),
        (256, 391, 1, "just enough points"),
        (255, 391, 2, "one point too few"),
        (51, 391, 6, "a line: 51 points x 6 shards = 306"),
        (1, 391, 256, "one point, shared by 256"),
        (1, 10, 10, "no more shards than batches"),
        (10, 1, 1, "one batch cannot be cut"),
        (10, 0, 1, "an empty split still has its one shard"),
    ],
)
def test_data_is_cut_only_when_points_are_few(num_points, num_batches, shards, reason):
    assert choose_shards(num_points, num_batches) == shards, reason


@pytest.mark.parametrize(
    ("num_points", "examples", "points", "reason"),
    [
        (2601, 50_000, 2, "51 x 51 on CIFAR-10: 1301 chunks, 100,000 images each"),
        (2601, 1_438, 5, "51 x 51 on digits: 46 points would be 2^16 examples, but 512 chunks come first"),
        (2601, 1_281_167, 1, "51 x 51 on ImageNet: one point is plenty of work"),
        (441, 1_438, 1, "21 x 21: fewer points than chunks wanted"),
        (51, 8_334, 1, "a line"),
        (1, 50_000, 1, "one point"),
        (251_001, 1_438, 46, "501 x 501 on digits: tiles of 2^16 examples"),
        (10**8, 50_000, 96, "10^4 x 10^4: no more than 2^20 chunks"),
        (10**8, 1, 65_536, "one example: tiles of 2^16 examples"),
        (2601, 0, 5, "no example at all"),
    ],
)
def test_tiles_are_many_but_not_tiny(num_points, examples, points, reason):
    assert choose_points_per_tile(num_points, examples) == points, reason


def test_a_hundred_ranks_stay_busy_on_any_grid_of_512_points_or_more():
    for num_points in [512, 513, 1000, 1023, 1024, 2601, 10_000, 10**6, 10**8]:
        for examples in [1, 100, 1_438, 50_000, 10**7]:
            per_tile = choose_points_per_tile(num_points, examples)
            plan = Plan(num_points=num_points, points_per_tile=per_tile, shards=(("train", 1),))
            assert plan.num_chunks >= 512
            assert plan.num_chunks <= 2**20 + 1


@pytest.mark.parametrize(
    ("elements", "examples", "on_gpu", "expected", "why"),
    [
        (16 * 32 * 32, 50_000, False, 128, "a ResNet-20 on CIFAR: what was measured fastest"),
        (64 * 32 * 32, 50_000, False, 32, "a VGG-9 on CIFAR: what was measured fastest"),
        (
            8 * 8 * 8,
            1_442,
            False,
            512,
            "digits: launching operations is what takes time, but three batches are needed",
        ),
        (64 * 112 * 112, 1_281_167, False, 16, "ImageNet on a CPU: never fewer"),
        (10, 50_000, False, 2048, "a linear model: a sixteenth of the examples"),
        (10, 1_281_167, False, 4096, "a linear model on many examples: never more"),
        (16 * 32 * 32, 50_000, True, 1024, "a ResNet-20 on a GPU"),
        (64 * 112 * 112, 1_281_167, True, 64, "ImageNet on a GPU: never fewer"),
        (10, 1, True, 512, "fewer examples than the least bound"),
    ],
)
def test_batches_are_sized_by_the_activations(elements, examples, on_gpu, expected, why):
    assert choose_batch_size(elements, examples, on_gpu=on_gpu) == expected, why


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
        (10**8, 200_000, 1, 96, "10^4 x 10^4 on 12.8 million: no more than 2^20 chunks"),
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
