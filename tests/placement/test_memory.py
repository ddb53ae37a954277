"""The batch size against the memory that is free."""

import pytest
import torch

from mpi_landscape.errors import LandscapeError
from mpi_landscape.evaluation.precision import precision_of
from mpi_landscape.placement.memory import ALIVE, choose_batch

# The largest layer gives 50 numbers of 4 bytes for an example.
PER_EXAMPLE = 50 * 4 * ALIVE


def chosen(free, size="auto", most=None):
    return choose_batch(50, 600, size, precision_of("float32"), torch.device("cpu"), free, most=most)


@pytest.mark.parametrize(
    ("free", "size", "reason"),
    [
        (None, 512, "nothing says what is free"),
        (2 * 512 * PER_EXAMPLE, 512, "half of what is free suffices exactly"),
        (2 * 512 * PER_EXAMPLE - 1, 256, "a byte too little: halved"),
        (2 * PER_EXAMPLE, 1, "room for one example"),
    ],
)
def test_an_automatic_batch_is_halved_until_it_fits(free, size, reason):
    assert chosen(free) == (size, size * PER_EXAMPLE), reason


def test_an_automatic_batch_has_no_more_examples_than_it_may():
    assert chosen(None, most=64) == (64, 64 * PER_EXAMPLE)
    assert chosen(2 * 32 * PER_EXAMPLE, most=64) == (32, 32 * PER_EXAMPLE)


def test_no_room_for_one_example_is_refused():
    with pytest.raises(LandscapeError, match="activations of one example"):
        chosen(2 * PER_EXAMPLE - 1)


def test_a_batch_that_was_asked_for_is_taken_or_refused_and_never_changed():
    assert chosen(100 * PER_EXAMPLE, 100) == (100, 100 * PER_EXAMPLE)
    assert chosen(None, 100, most=64) == (100, 100 * PER_EXAMPLE)
    with pytest.raises(LandscapeError, match=r"compute\.batch_size is 100: .* valid is at most 99, or auto"):
        chosen(100 * PER_EXAMPLE - 1, 100)
