"""Whose statistics batch normalization has away from the center: compute.batch_norm, against torch's own update_bn."""

from __future__ import annotations

import copy
import shutil

import h5py
import numpy as np
import pytest
import torch
from torch import nn
from torch.optim.swa_utils import update_bn

import mpi_landscape
from mpi_landscape import inspect, surface
from mpi_landscape.errors import LandscapeError
from mpi_landscape.storage.surface.reader import read_surface
from tests.programs.test_rank_independence import WRITERS

CRITERION = nn.CrossEntropyLoss()
BATCH = 50


def examples(number, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(number, 6, generator=generator), torch.randint(3, (number,), generator=generator)


DATA = {"train": examples(203, 1), "test": examples(77, 2)}


def network(hidden=16, norm=nn.BatchNorm1d):
    return nn.Sequential(
        nn.Linear(6, hidden), norm(hidden), nn.ReLU(),
        nn.Linear(hidden, hidden, bias=False), nn.BatchNorm1d(hidden, affine=False), nn.ReLU(),
        nn.Linear(hidden, 3),
    )  # fmt: skip


def trained(seed, steps=40):
    torch.manual_seed(seed)
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    for _ in range(steps):
        optimizer.zero_grad()
        CRITERION(model(DATA["train"][0]), DATA["train"][1]).backward()
        optimizer.step()
    return model.eval()


@pytest.fixture(scope="module")
def ends():
    return trained(1), trained(2)


def line(ends, how, **options):
    start, end = ends
    return mpi_landscape.landscape(
        start, CRITERION, DATA, alpha=(-0.5, 1.5, 5), beta=None,
        directions={"alpha": {"kind": "difference", "to": end}},
        compute={"batch_norm": how, "batch_size": BATCH, "device": "cpu", **options.pop("compute", {})}, **options,
    )  # fmt: skip


def moved(ends, alpha):
    """The network at a point of the line, with the statistics of its start."""
    start, end = ends
    model = copy.deepcopy(start)
    with torch.no_grad():
        for own, other in zip(model.parameters(), end.parameters(), strict=True):
            own.add_((other - own) * alpha)
    return model


def plain_losses(model):
    with torch.no_grad():
        return [CRITERION(model.eval()(x), y).item() for x, y in DATA.values()]


def test_recomputed_statistics_are_those_of_update_bn_at_every_point_and_beyond_both_ends(ends):
    found = line(ends, "recomputed")
    for place, alpha in enumerate(found.alpha):
        model = moved(ends, alpha)
        update_bn(DATA["train"][0].split(BATCH), model)
        wanted = plain_losses(model)
        np.testing.assert_allclose(
            [found.train_loss[place], found.test_loss[place]], wanted, rtol=2e-6, err_msg=f"at {alpha}"
        )


def test_stored_statistics_are_the_centers_and_interpolated_ones_move_along(ends):
    stored, between = line(ends, "stored"), line(ends, "interpolated")
    start, end = ends
    for place, alpha in enumerate(stored.alpha):
        model = moved(ends, alpha)
        np.testing.assert_allclose(stored.train_loss[place], plain_losses(model)[0], rtol=2e-6)
        for name, buffer in model.named_buffers():
            if buffer.is_floating_point():
                buffer.copy_(torch.lerp(start.get_buffer(name), end.get_buffer(name), alpha))
        if any((buffer < 0).any() for name, buffer in model.named_buffers() if name.endswith("var")):
            assert np.isnan(between.train_loss[place])
        else:
            np.testing.assert_allclose(between.train_loss[place], plain_losses(model)[0], rtol=2e-6)
    assert np.isnan(between.train_loss).any()
    assert not np.isnan(line(ends, "recomputed").train_loss).any()


def test_the_network_is_left_as_it_was_and_the_file_says_what_was_done(ends, tmp_path):
    before = copy.deepcopy(ends[0].state_dict())
    line(ends, "recomputed", output=tmp_path / "line.h5")
    assert all(torch.equal(before[name], value) for name, value in ends[0].state_dict().items())
    attributes = read_surface(tmp_path / "line.h5").attributes
    assert attributes["identity_batch_norm"] == "recomputed over train, 203 examples in batches of 50"
    with pytest.raises(LandscapeError, match="differs in batch_norm"):
        line(ends, "stored", output=tmp_path / "line.h5")


def test_a_network_without_batch_normalization_is_evaluated_as_ever():
    model = nn.Linear(6, 3)
    one, other = (
        mpi_landscape.landscape(
            model, CRITERION, DATA, alpha=(-1, 1, 3), beta=None, compute={"batch_norm": how}
        )
        for how in ("recomputed", "auto")
    )
    assert one.train_loss.tobytes() == other.train_loss.tobytes()


def test_any_number_of_threads_and_any_cut_into_tiles_give_the_same_bits(ends):
    found = [
        line(ends, "recomputed", compute=options).train_loss.tobytes()
        for options in ({"threads": 1}, {"threads": 3}, {"points_per_tile": 1}, {"data": "streamed"})
    ]
    assert len(set(found)) == 1


class Own(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.register_buffer("running_mean", torch.zeros(size))

    def forward(self, x):
        return x - self.running_mean


class OwnNorm(Own):
    pass


REFUSED = {
    "statistics of a kind of its own": ({}, OwnNorm, "1 is a OwnNorm with running statistics"),
    "steps": ({"engine": ["folded"]}, None, r"engine is \[folded\], but with batch_norm recomputed"),
    "bfloat16": ({"precision": "bfloat16"}, None, "valid for it are float32, tf32 and float64"),
    "samples": ({"relative_error": 0.1}, None, "by a pass over all of the training data"),
    "a quantity": ({"quantities": ["gradient_norm"]}, None, "quantities has gradient_norm"),
}


@pytest.mark.parametrize(("options", "norm", "text"), REFUSED.values(), ids=REFUSED)
def test_what_does_not_fit_is_refused_in_one_line(options, norm, text):
    model = network(norm=norm or nn.BatchNorm1d)
    with pytest.raises(LandscapeError, match=text) as caught:
        mpi_landscape.landscape(
            model, CRITERION, DATA, alpha=(-1, 1, 3), beta=None, compute={"batch_norm": "recomputed", **options}
        )  # fmt: skip
    assert "\n" not in str(caught.value)


def test_two_words_that_say_the_opposite_are_refused(ends):
    with pytest.raises(LandscapeError, match=r"batch_norm is stored, and directions\.normalization_buffers"):
        mpi_landscape.landscape(
            ends[0], CRITERION, DATA, alpha=(0, 1, 3), beta=None, compute={"batch_norm": "stored"},
            directions={"alpha": {"kind": "difference", "to": ends[1]}, "normalization_buffers": True},
        )  # fmt: skip


RESNET = """
model: {{name: resnet8, arguments: {{width: 4, input_size: [1, 8, 8]}}}}
data: {{name: digits, arguments: {{limit: 200}}}}
grid: {{alpha: [-1, 0.5, 3], beta: [-0.25, 1, 3]}}
compute: {{batch_norm: recomputed, batch_size: 64, points_per_tile: 2, device: cpu}}
output: {folder}/reference.h5
"""


@pytest.fixture
def resnet(tmp_path):
    path = tmp_path / "resnet.yaml"
    path.write_text(RESNET.format(folder=tmp_path))
    return path


@pytest.mark.mpi
@pytest.mark.stack
@pytest.mark.parametrize("writer", WRITERS)
def test_any_number_of_ranks_and_either_writer_give_the_same_bits(resnet, standing, contents, writer):
    found = []
    for size in (1, 2, 3):
        output = resnet.parent / f"{size}.h5"
        done = standing(
            size, "-m", "mpi_landscape.surface", resnet, "--output", output, "--writer",
            "root" if size == 1 else writer,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "batch norm  recomputed over train" in done.stdout
        found.append(contents(output))
    assert found[1] == found[0]
    assert found[2] == found[0]


def test_what_is_left_of_a_file_is_computed_to_the_same_bits_and_looked_at_again(resnet, here, contents):
    output = resnet.parent / "reference.h5"
    assert here(surface.main, resnet).status == 0
    whole = contents(output)
    left = resnet.parent / "left.h5"
    shutil.copy(output, left)
    with h5py.File(left, "r+") as file:
        for tile in (1, 4, 5):
            file["tiles/status"][tile] = 0
        file["tiles/train_sums"][0, 2:4] = np.nan
    assert here(surface.main, resnet, "--output", left).status == 0
    assert contents(left) == whole
    checked = here(inspect.main, "--check", left, resnet)
    assert checked.status == 0, checked.err + checked.out
    assert "all agree" in checked.out
