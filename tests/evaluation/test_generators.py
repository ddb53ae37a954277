"""What is seen of a pass: global generators, and parameters that it does not use."""

import random

import numpy as np
import pytest
import torch
from torch import nn

from mpi_landscape.evaluation.engine.dataflow import observed


def seeded_numpy():
    np.random.seed(5)
    return np.random.randn()


def seeded_python():
    random.seed(5)
    return random.random()


def seeded_torch():
    torch.manual_seed(5)
    return torch.rand(()).item()


@pytest.mark.parametrize("draw", [seeded_numpy, seeded_python, seeded_torch])
def test_a_generator_that_every_pass_seeds_alike_is_seen(draw):
    layer = nn.Linear(2, 2)
    draw()  # so that the state is the one that the pass leaves
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    assert observed(layer, lambda network: network(torch.ones(1, 2)) + draw()).random is not None
    assert states == (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())


def test_a_pass_that_draws_nothing():
    assert observed(nn.Linear(2, 2), lambda network: network(torch.ones(1, 2))).random is None


def test_a_parameter_whose_place_alone_is_asked_for_is_unused():
    def run(network):
        network.weight.data_ptr()
        return network.bias * 2

    assert observed(nn.Linear(2, 2), run).unused == ("weight",)
