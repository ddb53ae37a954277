"""Faults that begin while the work goes on, or that only the ends and the end show."""

import copy

import h5py
import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

import mpi_landscape
from mpi_landscape.evaluation.engine import channels_last, first_layer, folding, fusing
from mpi_landscape.evaluation.evaluator import Evaluator
from mpi_landscape.storage.surface.reader import read_surface
from mpi_landscape.surfaces import watching


def data(count=64, size=8):
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(count, 3, size, size, generator=generator)
    return TensorDataset(images, torch.randint(0, 4, (count,), generator=generator))


def convolutional():
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4),
    )  # fmt: skip
    network[1].running_var.mul_(2)
    return network.eval()


def perceptron():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 8), nn.Tanh(), nn.Linear(8, 4)).eval()


def compute(network, tmp_path, **options):
    options = {"alpha": (-1, 1, 5), "beta": (-1, 1, 3), "compute": {"batch_size": 16}, **options}
    return mpi_landscape.landscape(network, "cross_entropy", data(), output=tmp_path / "mine.h5", **options)


def at_tile(number, monkeypatch):
    """The evaluator is wrong from a tile on: what it returns is a percent off."""
    right, calls = Evaluator.tile, [0]

    def wrong(self, pieces, points, between=None):
        sums = right(self, pieces, points, between)
        calls[0] += between is not None  # tiles of the work alone
        return sums * np.array([1.01, 1, 1, 1.0201]) if calls[0] > number else sums

    monkeypatch.setattr(Evaluator, "tile", wrong)
    return calls


def test_a_fault_that_begins_at_tile_100_is_caught_while_it_works(tmp_path, monkeypatch):
    monkeypatch.setattr(watching, "SHARE", 1.0)  # of the time, so that it does not depend on the machine
    calls = at_tile(100, monkeypatch)
    options = {"alpha": (-1, 1, 15), "beta": (-1, 1, 10), "compute": {"batch_size": 16, "points_per_tile": 1}}
    with pytest.raises(
        mpi_landscape.LandscapeError, match=r"by the engine and .* by the network itself; .*engine=plain"
    ):
        compute(convolutional(), tmp_path, **options)
    assert 100 < calls[0] < 150
    assert 0 < read_surface(tmp_path / "mine.h5").progress < 1


def test_a_right_surface_is_looked_at_and_finished(tmp_path, monkeypatch):
    monkeypatch.setattr(watching, "SHARE", 1.0)
    looked = []
    right = watching.Watch._compare
    monkeypatch.setattr(
        watching.Watch, "_compare", lambda self, *given: looked.append(given) or right(self, *given)
    )
    assert compute(convolutional(), tmp_path).progress == 1
    assert len(looked) > 2


def folded_wrongly(monkeypatch):
    right = folding.fold_vectors

    def wrong(pairs, network, center, directions, layout):
        right(pairs, network, center, directions, layout)
        directions[0].mul_(1.001)

    monkeypatch.setattr(folding, "fold_vectors", wrong)


def reordered_wrongly(monkeypatch):
    right = channels_last.reorder

    def wrong(vectors, layout, names):
        right(
            vectors[:-1], layout, names
        )  # the second direction stays as it was: nothing shows at the center

    monkeypatch.setattr(channels_last, "reorder", wrong)


def fused_wrongly(monkeypatch):
    right = fusing.FusedConvolution.forward

    def wrong(self, images, other=None):
        result = right(self, images, other)
        return result * (1.001 if float(images.detach().abs().max()) > 3 else 1)

    monkeypatch.setattr(fusing.FusedConvolution, "forward", wrong)


def kept_too_long(monkeypatch):
    monkeypatch.setattr(first_layer.FirstLayer, "begin", lambda self: None)


@pytest.mark.parametrize(
    ("plant", "make", "step"),
    [
        (folded_wrongly, convolutional, "folded"),
        (reordered_wrongly, convolutional, "channels-last"),
        (fused_wrongly, convolutional, "fused"),
        (kept_too_long, perceptron, "first-layer"),
    ],
)
def test_a_fault_planted_in_a_step_is_caught_before_the_first_tile(
    plant, make, step, tmp_path, monkeypatch, capsys
):
    network = make()
    wanted = compute(copy.deepcopy(network), tmp_path, compute={"engine": "plain", "batch_size": 16}).values[
        "train_loss"
    ]
    capsys.readouterr()
    plant(monkeypatch)
    found = compute(network, tmp_path, overwrite=True)
    assert f"{step} dropped" in capsys.readouterr().out
    np.testing.assert_allclose(found.values["train_loss"], wanted, rtol=1e-5)


class Drifting(nn.Module):
    """Its outputs grow by a billionth of what has been evaluated: no two passes show it."""

    def __init__(self):
        super().__init__()
        self.layer, self.calls = nn.Linear(192, 4), 0

    def forward(self, images):
        self.calls += 1
        return self.layer(images.flatten(1)) * (1 + max(0, self.calls - 150) * 1e-2)


def test_a_network_that_changes_while_it_works_is_refused(tmp_path):
    with pytest.raises(
        mpi_landscape.LandscapeError, match=r"in another|after the last one|by the network itself"
    ):
        compute(Drifting(), tmp_path, alpha=(-1, 1, 41), beta=(-1, 1, 5))


def test_checked_points_stand_in_the_file_and_another_loss_of_the_same_name_is_refused(tmp_path):
    def losses(scale):
        def mine(model, batch):
            outputs = model(batch[0])
            return nn.functional.cross_entropy(outputs, batch[1], reduction="none") + scale[0] * (
                outputs - center(batch[0])
            ).square().sum(1)

        return mine

    network = perceptron()
    center = copy.deepcopy(network)
    output = tmp_path / "mine.h5"
    options = {"alpha": (-1, 1, 5), "beta": None, "output": output}
    mpi_landscape.landscape(network, losses([0.0]), data(), **options)
    with h5py.File(output) as file:
        points, plain = file.attrs["checked_points"], file.attrs["checked_train_loss_plain"]
        engine = file.attrs["checked_train_loss"]
    assert points.shape == (4, 1)
    assert len(np.unique(plain)) > 2
    np.testing.assert_allclose(engine, plain, rtol=1e-5)
    mpi_landscape.landscape(network, losses([0.0]), data(), **options)
    with pytest.raises(mpi_landscape.LandscapeError, match="belongs to another run"):
        mpi_landscape.landscape(network, losses([1.0]), data(), **options)


def test_a_loss_that_does_not_follow_the_parameters_is_said(tmp_path, capsys):
    class Constant(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(192, 4)

        def forward(self, images):
            return images.flatten(1)[:, :4] + 0 * self.layer(images.flatten(1))

    surface = compute(Constant(), tmp_path)
    assert "does not follow the parameters" in capsys.readouterr().out
    from plotting.picture.field import warning_facts

    (fact,) = warning_facts(surface)
    assert "does not follow" in fact


def test_an_end_that_is_not_the_end_is_said_and_both_losses_are_kept(tmp_path, capsys):
    class Kept(nn.Module):
        """Multiplies by an integer buffer, which no direction leads to."""

        def __init__(self, factor):
            super().__init__()
            self.layer = nn.Linear(192, 4)
            self.register_buffer("factor", torch.tensor(factor))

        def forward(self, images):
            return self.layer(images.flatten(1)) * self.factor

    torch.manual_seed(0)
    here, there = Kept(1), Kept(3)
    torch.save(there.state_dict(), tmp_path / "there.pt")
    directions = {"alpha": {"kind": "difference", "to": str(tmp_path / "there.pt")}, "beta": None}
    surface = compute(here, tmp_path, alpha=(0, 1, 5), beta=None, directions=directions)
    assert "alpha = 1 is not the end" in capsys.readouterr().out
    along, end = surface.attributes["checked_alpha_end"]
    images, labels = data().tensors
    chosen = np.unique(np.linspace(0, 63, 32).astype(int))
    with torch.no_grad():
        wanted = nn.functional.cross_entropy(there(images[chosen]), labels[chosen])
    assert end == pytest.approx(float(wanted), rel=1e-5)
    assert along != pytest.approx(end, rel=1e-2)
