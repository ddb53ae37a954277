import pytest
import torch

from mpi_landscape.configuration.sections.training import Phase, Schedule
from mpi_landscape.errors import LandscapeError
from mpi_landscape.training.recipe import (
    Recipe,
    batch_sizes,
    learning_rate,
    num_epochs,
    num_steps,
    piece_sizes,
    place,
)


def phase(**changes):
    return Phase(**{"epochs": 1, "optimizer": "sgd", "batch_size": 3, "learning_rate": 0.1, **changes})


@pytest.mark.parametrize(
    "epochs",
    [
        pytest.param([3], id="one phase"),
        pytest.param([2, 3, 1], id="several"),
        pytest.param([2, 0, 1], id="a phase of no epochs is passed over"),
        pytest.param([0, 2], id="also at the start"),
        pytest.param([0], id="nothing to do"),
    ],
)
def test_epochs_are_those_of_the_phases_one_after_the_other(epochs):
    recipe = Recipe(phases=tuple(phase(epochs=count) for count in epochs))
    places = [(index, inner + 1) for index, count in enumerate(epochs) for inner in range(count)]
    assert num_epochs(recipe) == len(places)
    assert [place(recipe, number) for number in range(1, len(places) + 1)] == places
    for number in (-1, 0, len(places) + 1):
        with pytest.raises(LandscapeError, match=f"no epoch {number}; valid is 1 to {len(places)}$"):
            place(recipe, number)


@pytest.mark.parametrize("milestones", [(), (1,), (1, 3), (2, 3, 5)])
@pytest.mark.parametrize("factor", [0.1, 0.25])
def test_the_learning_rate_is_that_of_pytorchs_scheduler(milestones, factor):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.3)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones, factor)
    how = phase(epochs=6, learning_rate=0.3, schedule=Schedule(milestones=milestones, factor=factor))
    for epoch in range(1, 7):
        assert learning_rate(how, epoch) == optimizer.param_groups[0]["lr"]
        optimizer.step()
        schedule.step()


@pytest.mark.parametrize(
    ("batch_size", "sizes"),
    [
        pytest.param(3, [3, 3, 1], id="the last is what is left"),
        pytest.param(7, [7], id="exactly all"),
        pytest.param(100, [7], id="no more than there are"),
        pytest.param("all", [7], id="all, whatever that is"),
        pytest.param(1, [1] * 7, id="one by one"),
    ],
)
def test_batches_of_seven_examples(batch_size, sizes):
    assert batch_sizes(phase(batch_size=batch_size), 7) == sizes
    assert num_steps(phase(batch_size=batch_size), 7) == len(sizes)


@pytest.mark.parametrize(
    ("batch_size", "largest", "sizes"),
    [
        pytest.param(8, None, [8], id="no bound"),
        pytest.param(8, 8, [8], id="just fits"),
        pytest.param(8, 100, [8], id="no larger than the batch"),
        pytest.param(8, 4, [4, 4], id="even"),
        pytest.param(129, 128, [65, 64], id="not 128 and 1, which batch normalisation cannot take"),
        pytest.param(10, 4, [4, 3, 3], id="as few as possible"),
        pytest.param(3, 1, [1, 1, 1], id="one by one"),
    ],
)
def test_pieces_are_few_and_nearly_equal(batch_size, largest, sizes):
    assert piece_sizes(batch_size, largest) == sizes
