"""How strata are cut into levels, by tables."""

import pytest

from mpi_landscape.plan.samples import choose_first, cut

CUTS = [
    ([1000], 64, [64, 64, 128, 256, 488], "the rest is less than one and a half levels"),
    ([640, 300], 64, [64, 64, 128, 256, 128, 64, 64, 172], "two strata"),
    ([50], 50, [50], "all in one level"),
    ([90], 64, [90], "a rest of half a level is taken along"),
]


@pytest.mark.parametrize(("sizes", "first", "expected", "reason"), CUTS)
def test_levels_double_until_the_stratum_ends(sizes, first, expected, reason):
    sample = cut(sizes, first)
    assert list(sample.examples) == expected, reason
    assert sample.sizes.tolist() == sizes, reason
    assert sample.num_levels.sum() == sample.num_shards


@pytest.mark.parametrize("batch_size", [1, 16, 64, 512])
@pytest.mark.parametrize("num_examples", [1, 100, 4095, 4096, 20_480, 50_000, 1_281_167])
def test_the_first_levels_are_at_least_1024_examples_and_at_most_a_quarter(num_examples, batch_size):
    strata, first = choose_first(num_examples, batch_size)
    assert strata >= 1
    assert strata * first == num_examples or 1024 <= strata * first <= num_examples / 4
    assert strata * first == num_examples or first % batch_size == 0


def test_the_shards_cover_all_batches_in_order():
    sample = cut([640, 320, 299], 64)
    bounds = [sample.batches(shard, 32) for shard in range(sample.num_shards)]
    assert bounds[0][0] == 0
    assert [stop for _, stop in bounds[:-1]] == [start for start, _ in bounds[1:]]
    assert bounds[-1][1] == -(-1259 // 32)


def test_what_is_known_of_a_stratum_is_known_of_its_shards():
    assert cut([100, 50], 40, [7.0, 3.0]).largest == (7.0, 7.0, 7.0, 3.0)
    assert cut([100, 50], 40).largest == ()
