"""A large network that nothing rewrites is moved itself, and gives the bits of its copies."""

import numpy as np
import pytest
import torch
from torch import nn

import mpi_landscape
from mpi_landscape.evaluation.engine import packing
from mpi_landscape.evaluation.evaluator import Evaluator
from mpi_landscape.evaluation.reference import Reference
from mpi_landscape.surfaces import evaluating, losses, planning


class Odd(nn.Module):
    """Of sizes that no vector register divides."""

    def __init__(self):
        super().__init__()
        self.first, self.gate, self.last = nn.Linear(7, 13), nn.Parameter(torch.randn(13)), nn.Linear(13, 3)

    def forward(self, x):
        return self.last(torch.sin(self.first(x)) * self.gate)


def test_a_network_moved_in_place_gives_the_bits_of_its_copies(tmp_path, monkeypatch):
    torch.manual_seed(0)
    model, data = Odd(), (torch.randn(70, 7), torch.randint(0, 3, (70,)))
    before = {name: each.clone() for name, each in model.state_dict().items()}
    made = []

    def evaluator_of(*arguments):
        made.append(evaluating.evaluator_of(*arguments))
        return made[-1]

    monkeypatch.setattr(losses, "evaluator_of", evaluator_of)

    def surface(name, large, threads):
        for module in (evaluating, planning):
            monkeypatch.setattr(module, "LARGE", large)
        return mpi_landscape.landscape(
            model, "cross_entropy", data, alpha=(-1, 1, 5), beta=(-1, 1, 4), output=tmp_path / f"{name}.h5",
            compute={"threads": threads, "batch_size": 16},
        )  # fmt: skip

    copied, moved, two = surface("copied", 2**26, 1), surface("moved", 1, 1), surface("two", 1, 2)
    assert [type(each) for each in made] == [Evaluator, Reference, Evaluator]
    np.testing.assert_array_equal(moved.train_loss, copied.train_loss)
    np.testing.assert_array_equal(moved.train_loss, two.train_loss)
    assert all(torch.equal(each, before[name]) for name, each in model.state_dict().items())


@pytest.mark.skipif(not packing.is_offered(), reason="oneDNN has no kernels for this processor")
def test_a_large_network_is_not_packed_which_would_take_two_copies_more(tmp_path, monkeypatch):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(20, 192), nn.Linear(192, 192), nn.Tanh(), nn.Linear(192, 20))
    tokens = torch.randint(0, 20, (40, 6))

    def loss(model, batch):
        return nn.functional.cross_entropy(model(batch[0]).mean(1), batch[1], reduction="none")

    labels = {}
    for large in (2**26, 1):
        for module in (evaluating, planning):
            monkeypatch.setattr(module, "LARGE", large)
        surface = mpi_landscape.landscape(
            model, loss, (tokens, tokens[:, 0]), alpha=(-1, 1, 3), beta=None, output=tmp_path / f"{large}.h5",
            compute={"threads": 1},
        )  # fmt: skip
        labels[large] = surface.attributes["identity_engine"]
    assert "packed" in labels[2**26]
    assert "packed" not in labels[1]
