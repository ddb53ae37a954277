"""The batch size against the memory that is free."""

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from mpi_landscape.errors import LandscapeError
from mpi_landscape.evaluation.precision import precision_of
from mpi_landscape.placement.memory import ALIVE, choose_batch
from mpi_landscape.problem.build import Problem

# The largest layer gives 50 numbers of 4 bytes for an example.
PER_EXAMPLE = 50 * 4 * ALIVE


def chosen(free, batch_size="auto"):
    def loss(model, batch):
        return model(batch[0]).square().sum(dim=1)

    data = TensorDataset(torch.ones(600, 3), torch.zeros(600))
    problem = Problem(
        model=nn.Sequential(nn.Linear(3, 50), nn.Linear(50, 2)), loss=loss, splits={"train": data}
    )
    return choose_batch(problem, batch_size, precision_of("float32"), torch.device("cpu"), free)


@pytest.mark.parametrize(
    ("free", "size", "reason"),
    [
        (None, 512, "nobody tells what is free"),
        (2 * 512 * PER_EXAMPLE, 512, "half of what is free suffices exactly"),
        (2 * 512 * PER_EXAMPLE - 1, 256, "a byte too little: halved"),
        (2 * PER_EXAMPLE, 1, "room for one example"),
    ],
)
def test_an_automatic_batch_is_halved_until_it_fits(free, size, reason):
    assert chosen(free) == (size, size * PER_EXAMPLE), reason


def test_no_room_for_one_example_is_refused():
    with pytest.raises(LandscapeError, match="activations of one example"):
        chosen(2 * PER_EXAMPLE - 1)


def test_a_batch_that_was_asked_for_is_taken_or_refused_and_never_changed():
    assert chosen(100 * PER_EXAMPLE, batch_size=100) == (100, 100 * PER_EXAMPLE)
    with pytest.raises(LandscapeError, match=r"compute\.batch_size is 100: .* valid is at most 99, or auto"):
        chosen(100 * PER_EXAMPLE - 1, batch_size=100)
