"""A network that keeps what it makes of its parameters does not follow them, and is refused; one that looks again is not."""

import pytest
import torch
from torch import nn

from mpi_landscape.errors import LandscapeError
from mpi_landscape.parallel.ranks import Ranks
from mpi_landscape.placement.roles import share_roles
from mpi_landscape.problem.build import Problem


class Keeping(nn.Module):
    def __init__(self, outdated):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(3, 4)), nn.Parameter(torch.zeros(3))
        self.kept, self.version, self.outdated = None, -1, outdated

    def forward(self, x):
        if self.kept is None or self.outdated(self):
            self.kept, self.version = self.weight.softmax(1), self.weight._version
        return x @ self.kept.t() + self.bias


def roles(model):
    data = torch.utils.data.TensorDataset(torch.randn(8, 4))
    loss = lambda model, batch: model(batch[0]).square().mean(1)  # noqa: E731
    problem = Problem(
        model=model, loss=loss, splits={"train": data}, where="test", loss_name=None, loss_text="loss"
    )
    return share_roles(problem, (), Ranks())


def test_what_is_kept_for_ever_is_refused():
    with pytest.raises(LandscapeError, match="weight is used by the first pass and not by later ones"):
        roles(Keeping(lambda layer: False))


def test_what_is_made_anew_as_the_parameter_is_written_to_is_not():
    model = Keeping(lambda layer: layer.version != layer.weight._version)
    before = [each.detach().clone() for each in model.parameters()]
    roles(model)
    assert all(map(torch.equal, before, model.parameters()))
