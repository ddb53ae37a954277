import numpy as np
import pytest

from mpi_landscape.parallel.broadcast import SLICE, broadcast, sum_over_ranks
from mpi_landscape.parallel.ranks import Ranks


@pytest.mark.parametrize("size", [1, 2, 3])
def test_every_rank_gets_the_same_array_whatever_its_type_shape_and_slices(outcome, size):
    assert outcome(size, "broadcast_job.py") == [[]] * size


def test_one_rank_keeps_its_array():
    array = np.arange(3.0)
    assert broadcast(Ranks(), array) is array
    assert sum_over_ranks(Ranks(), array) is array


def test_no_message_comes_near_the_limit_of_mpi():
    # Counts are 32-bit integers, and some libraries go wrong from 2^31 bytes on.
    assert SLICE <= 2**30
