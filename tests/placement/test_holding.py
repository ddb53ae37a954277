import pytest

from mpi_landscape.errors import LandscapeError
from mpi_landscape.placement.holding import Memory, choose

SIZES = {"train": 400, "test": 90}


@pytest.mark.parametrize(
    ("request_", "memory", "placements", "reason"),
    [
        ("auto", Memory(free=1000), ["resident", "resident"], "490 of 1,000"),
        ("auto", Memory(free=980), ["resident", "streamed"], "490 is half: the second one no longer fits"),
        ("auto", Memory(free=800), ["streamed", "resident"], "400 is half, 90 is not"),
        ("auto", Memory(free=100), ["streamed", "streamed"], "neither fits"),
        ("auto", Memory(free=1000, copies=2), ["streamed", "resident"], "every rank has its own copy"),
        ("auto", Memory(free=None), ["resident", "resident"], "nobody tells how much is free"),
        ("resident", Memory(free=490), ["resident", "resident"], "asked for, and it fits just so"),
        ("resident", Memory(free=None), ["resident", "resident"], "asked for, and nobody tells"),
        ("streamed", Memory(free=10**9), ["streamed", "streamed"], "asked for"),
    ],
)
def test_data_are_resident_where_they_take_less_than_half_of_what_is_free(
    request_, memory, placements, reason
):
    chosen = choose(request_, SIZES, memory)
    assert ["streamed" if each.streamed else "resident" for each in chosen.values()] == placements, reason
    assert {split: each.bytes for split, each in chosen.items()} == SIZES
    assert list(chosen) == list(SIZES)


def test_resident_data_that_do_not_fit_are_refused_in_one_line():
    with pytest.raises(LandscapeError, match=r"compute\.data: resident .*'test' .*490 B, and 489 B are free"):
        choose("resident", SIZES, Memory(free=489))
