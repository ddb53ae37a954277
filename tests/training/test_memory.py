import copy

import pytest
import torch
from torch import nn

from mpi_landscape.training.memory import activation_bytes, choose_piece_size


def squares(model, batch):
    return model(batch[0]).square().sum(1)


@pytest.mark.parametrize("count", [1, 7])
@pytest.mark.parametrize(
    ("layers", "numbers", "why"),
    [
        ([nn.Linear(3, 5)], 3 + 5, "its input, and what is squared"),
        ([nn.Linear(3, 5), nn.Tanh()], 3 + 5, "what tanh gives is what is squared: once"),
        ([nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 4)], 3 + 5 + 4, "what tanh gives is the next one's input"),
        ([nn.Linear(3, 5), nn.Sigmoid(), nn.Tanh()], 3 + 5 + 5, "both"),
        ([nn.Flatten(), nn.Linear(3, 5)], 3 + 5, "a view is no memory of its own"),
    ],
)
def test_what_autograd_keeps_is_counted_once_and_without_parameters(count, layers, numbers, why):
    batch = [torch.rand(count, 3)]
    assert activation_bytes(nn.Sequential(*layers), squares, batch) == 4 * count * numbers, why


def test_a_step_in_training_mode_is_what_counts():
    # A dropped number is kept by a mask of one byte per number (and in evaluation mode by nothing).
    model = nn.Sequential(nn.Linear(3, 5), nn.Dropout(0.5)).eval()
    without = activation_bytes(nn.Sequential(model[0]), squares, [torch.rand(7, 3)])
    assert activation_bytes(model, squares, [torch.rand(7, 3)]) > without


def test_the_network_is_left_as_it_was():
    model = nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5)).eval()
    before = copy.deepcopy(model.state_dict())
    with torch.no_grad():  # as it is when nothing is trained yet
        assert activation_bytes(model, squares, [torch.rand(7, 3)]) > 0
    assert not model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize(
    ("batch_size", "each", "available", "size"),
    [
        pytest.param(128, 10, 1280, 128, id="just fits"),
        pytest.param(128, 10, 1279, 64, id="two halves, not 127 and 1"),
        pytest.param(100, 10, 400, 34, id="34, 33 and 33, not 40, 40 and 20"),
        pytest.param(128, 10, 15, 1, id="one by one"),
        pytest.param(128, 10, 5, 1, id="one has to go"),
        pytest.param(128, 10, -5, 1, id="nothing is left"),
        pytest.param(128, 0, 5, 128, id="takes nothing"),
        pytest.param(128, 10, 1e30, 128, id="no more than the batch"),
        pytest.param(50_000, 1_000_000.0, 8e9, 7143, id="all of CIFAR in seven"),
    ],
)
def test_a_batch_goes_through_in_as_few_nearly_equal_pieces_as_fit(batch_size, each, available, size):
    assert choose_piece_size(batch_size, each, available) == size
