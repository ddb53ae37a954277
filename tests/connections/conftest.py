"""What every test of this room may use: searches without a program around them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset

from mpi_landscape.connections.batches import Batches
from mpi_landscape.connections.passes import Passes
from mpi_landscape.connections.space import space_of, state_of
from mpi_landscape.parallel.ranks import Ranks
from mpi_landscape.training.feed import make_feed
from tests.connections import potentials

CPU = torch.device("cpu")


def passes_of(model, loss, start, end, *tensors, batch_size=None, piece_size=None, dtype=None, **options):
    """Passes between two states of a network over a data set in memory."""
    feed = make_feed("train", TensorDataset(*tensors), device=CPU, dtype=dtype)
    before = state_of(model)
    return Passes(
        model=model,
        loss=loss,
        space=space_of(model, {**before, **start}, {**before, **end}, where="test"),
        batches=Batches(feed=feed, batch_size=batch_size or len(feed), piece_size=piece_size, seed=0),
        ranks=Ranks(),
        seed=0,
        **options,
    )


def run(search, passes):
    """Go on with a search to its end; the curve."""
    while not search.is_done:
        search.take(passes.answers(search.curve, search.next_round()))
    return search.curve


@pytest.fixture
def in_potential():
    """Passes in a potential, between its minima, with this many random points per step."""

    def made(potential, pieces=1):
        start, end = ({"w": torch.tensor(each, dtype=torch.float64)} for each in potentials.ENDS[potential])
        model = potentials.particle(potential)
        return passes_of(model, potentials.loss, start, end, torch.zeros(pieces, 1), piece_size=1)

    return made


def barrier_of(potential, curve, number=2001):
    """Of a curve, by a dense scan."""
    points = np.stack([curve.point(float(t)).numpy() for t in np.linspace(0, 1, number)])
    energies = potentials.energies(potential, points)
    return energies.max() - max(energies[0], energies[-1])
