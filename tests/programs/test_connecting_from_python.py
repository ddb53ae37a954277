"""`mpi_landscape.connect(...)`: the same verb from a script, with networks and states handed over."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import mpi_landscape
from mpi_landscape.errors import LandscapeError

X, Y = torch.randn(60, 5, generator=torch.Generator().manual_seed(1)), torch.arange(60) % 3
CRITERION = nn.CrossEntropyLoss()
SHORT = {"epochs": 3, "batch_size": 20, "num_points": 5, "learning_rate": 0.05}
COMPUTE = {"device": "cpu", "threads": 1}


def made(seed):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(5, 16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 3))
    optimizer = torch.optim.SGD(model.parameters(), 0.3)
    for _ in range(60):
        optimizer.zero_grad()
        CRITERION(model(X), Y).backward()
        optimizer.step()
    return model


@pytest.fixture(scope="module")
def ends():
    return made(1), made(2)


def connected(start, end, model=None, **options):
    said = {"options": SHORT, "compute": COMPUTE, **options}
    return mpi_landscape.connect(model or start, CRITERION, (X, Y), start, end, **said)


def loss_of(model):
    with torch.no_grad():
        return CRITERION(copy.deepcopy(model).eval()(X), Y).item()


def test_the_ends_of_a_path_have_the_losses_of_the_networks(ends):
    found = connected(*ends)
    np.testing.assert_allclose(found.train_loss[[0, -1]], [loss_of(ends[0]), loss_of(ends[1])], rtol=1e-5)
    assert found.splits == ("train",)
    assert found.ending.name == "FINISHED"
    assert found.barriers["barrier_train"] <= found.barriers["line_barrier_train"]


def test_the_network_is_left_as_it_was_in_its_mode(ends):
    model = copy.deepcopy(ends[0]).train()
    before = copy.deepcopy(model.state_dict())
    connected(ends[1], ends[0], model=model)
    assert all(torch.equal(before[name], each) for name, each in model.state_dict().items())
    assert model.training


def test_networks_states_and_files_are_the_same_solutions(ends, tmp_path):
    paths = []
    for number, end in enumerate(ends):
        paths.append(tmp_path / f"{number}.pt")
        torch.save(end.state_dict(), paths[-1])
    wanted = connected(*ends).train_loss.tobytes()
    assert connected(ends[0].state_dict(), ends[1].state_dict(), model=made(3)).train_loss.tobytes() == wanted
    assert connected(*paths, model=made(3)).train_loss.tobytes() == wanted


def test_an_output_is_kept_and_read_again(ends, tmp_path, capsys):
    output = tmp_path / "path.h5"
    first = connected(*ends, output=output)
    capsys.readouterr()
    second = connected(*ends, output=output)
    assert second.train_loss.tobytes() == first.train_loss.tobytes()
    assert "steps" not in capsys.readouterr().err
    with pytest.raises(LandscapeError, match="differs in method"):
        connected(*ends, output=output, method="string", options={"num_points": 5, "steps": 2})


def test_a_temporary_file_is_gone_with_what_was_returned(ends):
    found = connected(*ends, method="line", options={"num_points": 3})
    place = Path(found.path)
    assert place.exists()
    del found
    assert not place.exists()


def test_a_picture_is_a_figure(ends):
    figure = connected(*ends).plot(title="a path")
    assert figure.axes[0].get_title() == "a path"


REFUSED = {
    "an end that is none": (
        lambda start, _: connected(start, 3),
        r"connect\(\): end is 3; expected the path of",
    ),
    "an end of another network": (
        lambda start, _: connected(start, nn.Linear(5, 3)),
        r"connect\(\): end: does not fit the network",
    ),
    "an unknown option": (
        lambda start, end: connected(start, end, options={"epoch": 3}),
        "unknown field 'epoch'",
    ),
    "a method twice": (
        lambda start, end: connected(start, end, options={"method": "line"}),
        "options has method, which is an argument of its own",
    ),
    "the same": (lambda start, _: connected(start, start), "have the same trained parameters"),
}


@pytest.mark.parametrize(("call", "words"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_is_refused(ends, call, words):
    with pytest.raises(LandscapeError, match=words):
        call(*ends)


def test_a_loss_that_goes_past_the_network_is_refused(ends):
    model = copy.deepcopy(ends[0])
    weight = model[0].weight

    def penalized(network, batch):
        losses = nn.functional.cross_entropy(network(batch[0]), batch[1], reduction="none")
        return losses + weight.square().sum()

    with pytest.raises(LandscapeError, match="reaches some of them past the network"):
        mpi_landscape.connect(
            model, penalized, (X, Y), model, ends[1], options=SHORT, compute={**COMPUTE, "batch_size": 20}
        )
