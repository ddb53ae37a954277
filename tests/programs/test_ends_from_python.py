"""Ends of differences that a script hands over: a path, a network, a state dictionary."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

import mpi_landscape

LINE = {"alpha": (0, 1, 2), "beta": None}
SCRIPT = r"""
import os, sys
import torch
from torch import nn
from torch.utils.data import TensorDataset
import mpi_landscape
from mpi_landscape.parallel.launcher import open_ranks

torch.manual_seed(1)
model, data = nn.Linear(3, 4), TensorDataset(torch.randn(20, 3), torch.arange(20) % 4)
torch.manual_seed(2 + open_ranks().rank)
end = nn.Linear(3, 4)
mpi_landscape.landscape(
    model, "cross_entropy", data, alpha=(0, 1, 3), beta=None, output=sys.argv[1],
    directions={"alpha": {"kind": "difference", "to": end}},
)
"""


@pytest.fixture
def problem():
    torch.manual_seed(1)
    model, end = nn.Linear(3, 4), nn.Linear(3, 4)
    return model, end, TensorDataset(torch.randn(20, 3), torch.arange(20) % 4)


def to(end, **further):
    return {"alpha": {"kind": "difference", "to": end, **further}}


def test_every_form_of_an_end_leads_to_the_loss_of_the_other_network(problem, tmp_path):
    model, end, data = problem
    torch.save({"state_dict": end.state_dict()}, tmp_path / "end.pt")
    inputs, labels = data.tensors
    expected = nn.functional.cross_entropy(end(inputs).double(), labels).item()
    forms = {
        "a path": tmp_path / "end.pt",
        "a text": str(tmp_path / "end.pt"),
        "a network": end,
        "a wrapped network": nn.DataParallel(end),
        "a state dictionary": end.state_dict(),
    }
    for name, form in forms.items():
        # One file for all of them: the identity is the numbers, whatever they came in.
        surface = mpi_landscape.landscape(
            model, "cross_entropy", data, **LINE, output=tmp_path / "a.h5", directions=to(form)
        )
        assert surface.values["train_loss"][1] == pytest.approx(expected, rel=1e-6), name
    other = {name: value + 1 for name, value in end.state_dict().items()}
    with pytest.raises(mpi_landscape.LandscapeError, match=r"direction_alpha \(file: "):
        mpi_landscape.landscape(
            model, "cross_entropy", data, **LINE, output=tmp_path / "a.h5", directions=to(other)
        )


def test_the_network_that_is_handed_over_is_left_as_it_is(problem, tmp_path):
    model, end, data = problem
    before = {name: value.clone() for name, value in end.state_dict().items()}
    mpi_landscape.landscape(
        model, "cross_entropy", data, **LINE, output=tmp_path / "a.h5", directions=to(end)
    )
    assert all(torch.equal(value, before[name]) for name, value in end.state_dict().items())
    assert end.training


@pytest.mark.parametrize(
    ("end", "words"),
    [
        (3, "directions.alpha.to is a int; expected a path, a network"),
        (nn.Linear, "directions.alpha.to is a type; expected a path"),
        ({}, "has no tensors by name"),
        ({"weight": np.ones(3)}, "has 'weight', a ndarray; expected a state dictionary"),
        ({"state_dict": {}}, "has 'state_dict', a dict"),
        ({1: torch.ones(2)}, "has no tensors by name"),
        ({"weight": torch.ones(4, 3, device="meta")}, "'weight' has no values"),
        (
            {"weight": torch.ones(4, 2), "bias": torch.ones(4)},
            "weight has shape (4, 2), the network's (4, 3)",
        ),
        (nn.Linear(3, 4, bias=False), "bias is missing"),
    ],
)
def test_what_is_no_end_is_refused_in_one_line(problem, tmp_path, end, words):
    model, _, data = problem
    with pytest.raises(mpi_landscape.LandscapeError) as caught:
        mpi_landscape.landscape(
            model, "cross_entropy", data, **LINE, output=tmp_path / "a.h5", directions=to(end)
        )
    assert str(caught.value).startswith("landscape(): directions.alpha.to")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "a.h5").exists()


@pytest.mark.mpi
def test_on_several_ranks_the_end_of_rank_0_counts(tmp_path, standing, contents):
    (tmp_path / "script.py").write_text(SCRIPT)
    for size in (1, 3):
        done = standing(size, str(tmp_path / "script.py"), str(tmp_path / f"{size}.h5"))
        assert done.returncode == 0, done.stderr
    assert contents(tmp_path / "1.h5") == contents(tmp_path / "3.h5")
