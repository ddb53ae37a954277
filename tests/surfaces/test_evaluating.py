"""A large network that nothing rewrites is moved itself, and gives the bits of its copies."""

import numpy as np
import torch
from torch import nn

import mpi_landscape
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
