"""grid.alpha: auto without a trajectory: the range ends where the loss has risen, as a plain loop finds it there."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn

import mpi_landscape
from mpi_landscape import surface
from mpi_landscape.errors import LandscapeError
from mpi_landscape.storage.surface.reader import read_direction, read_surface

CLASSES = 5


def examples():
    generator = torch.Generator().manual_seed(0)
    centers = 2 * torch.randn(CLASSES, 6, generator=generator)
    labels = torch.arange(60) % CLASSES
    return centers[labels] + 0.2 * torch.randn(60, 6, generator=generator), labels


def trained():
    torch.manual_seed(1)
    model, (x, y) = nn.Sequential(nn.Linear(6, 20), nn.Tanh(), nn.Linear(20, CLASSES)), examples()
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    for _ in range(80):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    return model.eval()


@pytest.fixture(scope="module")
def network():
    return trained()


def plain_loss(model, path, axis, coordinate, criterion=nn.functional.cross_entropy):
    """The loss at a point of an axis, of the direction that the file has."""
    direction, _ = read_direction(path, axis)
    moved, start = copy.deepcopy(model), 0
    with torch.no_grad():
        for each in moved.parameters():
            step = torch.from_numpy(direction[start : start + each.numel()].reshape(each.shape))
            each.add_(coordinate * step)
            start += each.numel()
        x, y = examples()
        return float(criterion(moved(x), y))


@pytest.mark.parametrize("loss", ["cross_entropy", nn.CrossEntropyLoss(label_smoothing=0.01)])
def test_of_a_cross_entropy_the_range_ends_where_the_loss_is_that_of_guessing(network, tmp_path, loss):
    path = tmp_path / "auto.h5"
    found = mpi_landscape.landscape(
        network, loss, examples(), alpha="auto", beta={"auto": True, "num": 5}, output=path
    )
    assert found.train_loss.shape == (51, 5)
    criterion = nn.functional.cross_entropy if isinstance(loss, str) else loss
    for axis, values in (("alpha", found.alpha), ("beta", found.beta)):
        assert 0 in values
        for end in (values[0], values[-1]):
            assert plain_loss(network, path, axis, end, criterion) >= math.log(CLASSES)
        # The one of the two that is nearer is not far beyond: steps are rounded up.
        near = min(-values[0], values[-1])
        inside = [plain_loss(network, path, axis, sign * near / 1.6, criterion) for sign in (-1, 1)]
        assert min(inside) < math.log(CLASSES)


def test_of_another_loss_it_ends_at_ten_times_the_centers_and_is_kept_by_the_file(network, tmp_path):
    def squares(model, batch):
        return (model(batch[0]) - 1).square().mean(1)

    options = {"alpha": {"auto": True, "num": 7}, "beta": None, "output": tmp_path / "auto.h5"}
    found = mpi_landscape.landscape(network, squares, examples(), time_limit=60, **options)
    center = found.train_loss[list(found.alpha).index(0.0)]
    assert found.train_loss[0] >= 10 * center
    assert found.train_loss[-1] >= 10 * center
    again = mpi_landscape.landscape(network, squares, examples(), **options)
    assert again.train_loss.tobytes() == found.train_loss.tobytes()


def test_along_a_difference_the_range_goes_beyond_both_ends(network):
    other = copy.deepcopy(network)
    with torch.no_grad():
        for each in other.parameters():
            each.mul_(1.01)
    found = mpi_landscape.landscape(
        network, "cross_entropy", examples(), alpha={"auto": True, "num": 5}, beta=None,
        directions={"alpha": {"kind": "difference", "to": other}},
    )  # fmt: skip
    assert found.alpha[0] <= -0.5
    assert found.alpha[-1] >= 1.5
    assert 0 in found.alpha


def test_a_loss_that_never_rises_is_refused_in_one_line(network):
    def bounded(model, batch):
        return 1 + torch.tanh(model(batch[0]).sum(1)) / 100

    with pytest.raises(LandscapeError, match=r"grid\.alpha: auto: the train loss does not rise to") as caught:
        mpi_landscape.landscape(network, bounded, examples(), alpha="auto", beta=None)
    assert "\n" not in str(caught.value)
    with pytest.raises(LandscapeError, match="10 times the center's, which is 0"):
        mpi_landscape.landscape(
            network, lambda model, batch: 0 * model(batch[0]).sum(1), examples(), alpha="auto", beta=None
        )


@pytest.mark.mpi
def test_any_number_of_ranks_finds_the_same_range(study, standing, contents):
    study.edit("alpha: [-0.75, 1.5, 7]", "alpha: {auto: true, num: 5}")
    study.edit("beta: [0, 2, 4]", "beta: auto")
    study.edit("compute: {", "compute: {threads: 1, ")
    found = []
    for size in (1, 3):
        output = study.folder / f"{size}.h5"
        done = standing(
            size, "-m", "mpi_landscape.surface", study.configuration, "--set", "grid.beta.num=3",
            "--output", output, cwd=study.folder,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "found by grid.alpha: auto" in done.stdout
        found.append(contents(output))
    assert found[0] == found[1]
    line = read_surface(output)
    assert line.train_loss.shape == (5, 3)
    center = line.train_loss[tuple(int(np.argmin(abs(axis))) for axis in (line.alpha, line.beta))]
    assert line.train_loss[0, list(line.beta).index(0.0)] >= 10 * center


def test_the_plan_says_the_range_and_numbers_take_the_place_of_auto(study, here):
    study.edit("alpha: [-0.75, 1.5, 7]", "alpha: auto")
    told = here(surface.main, study.configuration, "--line", "--dry-run")
    assert told.status == 0, told.err
    assert "in 51, found by grid.alpha: auto" in told.out
    told = here(surface.main, study.configuration, "--line", "--dry-run", "--alpha=-1:1:3")
    assert told.status == 0, told.err
    assert "found by" not in told.out
