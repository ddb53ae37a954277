import pytest
import torch
from torch import nn

from mpi_landscape.configuration.sections.training import Phase
from mpi_landscape.errors import LandscapeError
from mpi_landscape.training.feed import make_feed
from mpi_landscape.training.loop import Training
from mpi_landscape.training.recipe import Recipe

CPU = torch.device("cpu")


def training(model, dataset, *, batch_sizes, piece_size=None, epochs=1):
    phases = [
        Phase(epochs=epochs, optimizer="sgd", batch_size=size, learning_rate=0.1) for size in batch_sizes
    ]
    return Training(
        model,
        lambda network, batch: network(batch[0]).flatten(1).square().sum(1),
        {"train": make_feed("train", dataset, device=CPU, dtype=torch.float32)},
        Recipe(phases=tuple(phases), piece_size=piece_size),
        device=CPU,
    )


def normalized():
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))


@pytest.mark.parametrize(
    ("batch_sizes", "piece_size", "words"),
    [
        pytest.param([3], None, "3 of 7 examples", id="7 = 3 + 3 + 1"),
        pytest.param([7, 2], None, "2 of 7 examples", id="in a later phase"),
        pytest.param(["all"], 1, "all of 7 examples", id="pieces of one"),
    ],
)
def test_an_example_by_itself_is_refused_before_the_first_step(
    batch_sizes, piece_size, words, classification
):
    model = normalized()
    before = model[0].weight.clone()
    with pytest.raises(LandscapeError, match=words) as caught:
        next(training(model, classification(), batch_sizes=batch_sizes, piece_size=piece_size).epochs())
    assert "choose another batch_size" in str(caught.value)
    assert torch.equal(model[0].weight, before)
    assert int(model[1].num_batches_tracked) == 0


@pytest.mark.parametrize(
    ("batch_sizes", "piece_size", "epochs"),
    [
        pytest.param([4], None, 1, id="7 = 4 + 3"),
        pytest.param([7], 6, 1, id="7 in two pieces = 4 + 3"),
        pytest.param([3], None, 0, id="no step is made"),
    ],
)
def test_two_examples_are_enough(batch_sizes, piece_size, epochs, classification):
    done = list(
        training(
            normalized(), classification(), batch_sizes=batch_sizes, piece_size=piece_size, epochs=epochs
        ).epochs()
    )
    assert len(done) == 1 + epochs


def test_one_image_has_pixels_to_normalise_over(pictures):
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4))
    assert len(list(training(model, pictures(11), batch_sizes=[5]).epochs())) == 2
    # The example that was tried by itself left no trace: three batches.
    assert int(model[1].num_batches_tracked) == 3


def test_another_error_of_the_network_stays_what_it_is(classification):
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = normalized()

        def forward(self, inputs):
            raise ValueError("even numbers only")

    with pytest.raises(ValueError, match="even numbers only"):
        next(training(Odd(), classification(), batch_sizes=[3]).epochs())
