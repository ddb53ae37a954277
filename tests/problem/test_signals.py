"""MNIST-1D, as its own package makes it, and the network of its paper."""

import numpy as np
import pytest
import torch
from torch import nn

from mpi_landscape.errors import LandscapeError
from mpi_landscape.problem.datasets.signals import mnist1d
from mpi_landscape.problem.networks.convolutional import cnn1d


def test_the_signals_are_those_of_the_package_and_no_generator_moves():
    data = pytest.importorskip("mnist1d.data", reason="pip install 'mpi_landscape[mnist1d]'")
    before = np.random.get_state()[1].copy(), torch.get_rng_state()
    splits = mnist1d(num_samples=50, seed=7, limit={"train": 30})
    assert np.array_equal(np.random.get_state()[1], before[0])
    assert torch.equal(torch.get_rng_state(), before[1])
    arguments = data.get_dataset_args()
    arguments.num_samples, arguments.seed = 50, 7
    made = data.make_dataset(arguments)
    assert {name: len(split) for name, split in splits.items()} == {"train": 30, "test": 10}
    signal, label = splits["train"][29]
    assert signal.shape == (1, 40)
    assert np.array_equal(signal[0].numpy(), made["x"][29].astype(np.float32))
    assert int(label) == made["y"][29]


@pytest.mark.parametrize(
    ("arguments", "said"), [({"num_samples": 3}, "at least 20"), ({"seed": -1}, "seed is -1")]
)
def test_what_is_wrong_is_said(arguments, said):
    with pytest.raises(LandscapeError, match=said):
        mnist1d(**arguments)


def test_the_network_is_that_of_the_paper():
    network = cnn1d()
    # Conv1d(1, 25, 5), twice Conv1d(25, 25, 3), Linear(125, 10).
    assert sum(each.numel() for each in network.parameters()) == 150 + 2 * 1900 + 1260
    assert network(torch.zeros(2, 1, 40)).shape == (2, 10)
    assert [each.stride for each in network if isinstance(each, nn.Conv1d)] == [(2,)] * 3
