import itertools

import numpy as np
import torch

from mpi_landscape.training.randomness import generator, mixed


def test_numbers_of_neighbouring_places_are_unrelated():
    places = list(itertools.product(range(4), range(3), range(20), range(20)))
    numbers = np.array([mixed(*place) for place in places])
    assert len(set(numbers.tolist())) == len(places)
    assert numbers.min() >= 0
    bits = (numbers[:, None] >> np.arange(63)) & 1
    # Each bit is set half of the time: six standard deviations, for the largest of 63.
    assert np.abs(bits.mean(axis=0) - 0.5).max() < 6 * 0.5 / np.sqrt(len(places))


def test_any_whole_number_is_a_seed():
    found = {mixed(0, seed, 1) for seed in (0, -1, 2**31, 2**32, 2**63, 10**30)}
    assert len(found) == 6


def test_draws_do_not_depend_on_the_global_generator():
    torch.manual_seed(0)
    first = torch.rand(3, generator=generator(0, 1, 2))
    torch.manual_seed(1)
    assert torch.equal(torch.rand(3, generator=generator(0, 1, 2)), first)
