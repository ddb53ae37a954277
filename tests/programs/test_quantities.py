"""More than the loss at every point: the norm of its gradient, and numbers that it returns under names of its own."""

import json
import textwrap

import h5py
import numpy as np
import pytest
import torch

from mpi_landscape import inspect
from mpi_landscape import surface as program
from mpi_landscape.storage.surface.reader import read_surface

# A loss that is quadratic in the parameters, so that value and gradient are known at every point: with the examples x of the
# batch and w, b the parameters, l = |w|^2 / 2 + x |b|^2 / 2.
BOWL = """
import torch
from torch import nn
from torch.utils.data import TensorDataset

class Bowl(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([[1.0, -2.0, 0.5], [0.25, 3.0, -1.0]]))
        self.bias = nn.Parameter(torch.tensor([0.5, 1.5]))

    def forward(self, x):
        return self.weight.square().sum() / 2 + x[:, 0] * self.bias.square().sum() / 2

def data():
    x = torch.tensor([[1.0], [2.0], [4.0], [5.0], [3.0]])
    return {"train": TensorDataset(x), "test": TensorDataset(x[:2] * 3)}

def plain(model, batch):
    return model(batch[0])

def named(model, batch):
    x = batch[0][:, 0]
    return {"loss": model(batch[0]), "first": x, "is_large": x > 3, "nll": x * 0 + model.bias.sum()}

def named_otherwise(model, batch):
    x = batch[0][:, 0]
    found = {"loss": model(batch[0]), "first": x}
    return found if len(x) == 2 and x.max() == 6 else {**found, "more": x}

def misshapen(model, batch):
    return {"loss": model(batch[0]), "top5": batch[0]}

def taken(model, batch):
    return {"loss": model(batch[0]), "gradient_norm": batch[0][:, 0]}

def cut_off(model, batch):
    return model(batch[0]).detach()
"""
CONFIGURATION = """
model: {{target: "{module}:Bowl"}}
data: {{target: "{module}:data"}}
loss: {{target: "{module}:{loss}"}}
directions: {{alpha: {{ignore: {ignore}}}, beta: {{ignore: {ignore}}}}}
grid: {{alpha: [-1, 1, 5], beta: [0, 2, 3]}}
compute: {{batch_size: 2, points_per_tile: 4, threads: 2}}
output: {folder}/surface.h5
"""


@pytest.fixture
def bowl(study):
    """Write the study, with a loss."""
    (study.folder / f"{study.module}.py").write_text(textwrap.dedent(BOWL))

    def make(loss="plain", ignore="[]"):
        text = CONFIGURATION.format(loss=loss, ignore=ignore, folder=study.folder, module=study.module)
        study.configuration.write_text(text)
        return study.configuration

    return make


@pytest.fixture
def run(here):
    """Compute it in this process."""
    return lambda configuration, *arguments: here(program.main, configuration, *arguments)


@pytest.fixture
def done(run):
    """The same, which must succeed; returns the surface."""

    def compute(configuration, *arguments):
        ended = run(configuration, *arguments)
        assert ended.status == 0, ended.err
        return read_surface(configuration.parent / "surface.h5")

    return compute


def vectors(path):
    with h5py.File(path, "r") as file:
        return [file[f"directions/{name}"][...].astype(np.float64) for name in ("center", "alpha", "beta")]


GRADIENT = ("--set", "compute.quantities=[gradient_norm]")


@pytest.mark.parametrize(
    ("ignore", "moving", "reason"),
    [("[]", slice(0, 8), "all move"), ("[bias]", slice(0, 6), "a tensor that stands still does not count")],
)
def test_the_norm_of_the_gradient_is_that_of_a_bowl_at_every_point(bowl, ignore, moving, reason, done):
    surface = done(bowl(ignore=ignore), *GRADIENT)
    center, alpha, beta = vectors(surface.path)
    for split, mean in (("train", 3.0), ("test", 4.5)):
        found = surface.values[f"{split}_gradient_norm"]
        assert found.shape == (5, 3)
        for i, a in enumerate(surface.alpha):
            for j, b in enumerate(surface.beta):
                point = center + a * alpha + b * beta
                gradient = np.concatenate([point[:6], mean * point[6:]])[moving]
                assert found[i, j] == pytest.approx(np.linalg.norm(gradient), rel=1e-6), reason


def test_the_loss_has_the_same_bits_with_the_gradient_and_without(bowl, done):
    alone = done(bowl(), "--set", "compute.data_shards=1")
    both = done(bowl(), "--overwrite", *GRADIENT)
    for name, values in alone.values.items():
        assert values.tobytes() == both.values[name].tobytes()


def test_a_resumed_job_and_streamed_data_give_the_same_bits(bowl, done):
    path = bowl()
    whole = done(path, *GRADIENT)
    with h5py.File(whole.path, "r+") as file:
        # As if it had been killed before half of the tiles.
        file["tiles/status"][3:] = 0
        file["train_gradient_norm"][2:] = np.nan
    again = done(path, *GRADIENT)
    for name, values in whole.values.items():
        assert values.tobytes() == again.values[name].tobytes()
    streamed = done(path, "--overwrite", *GRADIENT, "--set", "compute.data=streamed")
    assert streamed.values["train_gradient_norm"].tobytes() == whole.values["train_gradient_norm"].tobytes()


@pytest.mark.mpi
def test_the_bits_are_the_same_on_any_number_of_ranks(bowl, standing, done):
    path = bowl()
    alone = done(path, *GRADIENT)
    ended = standing(3, "-m", "mpi_landscape.surface", str(path), "--overwrite", *GRADIENT, cwd=path.parent)
    assert ended.returncode == 0, ended.stderr
    shared = read_surface(alone.path)
    for name, values in alone.values.items():
        assert values.tobytes() == shared.values[name].tobytes()


def test_what_a_loss_returns_under_its_own_name_is_kept_as_a_mean(bowl, done, here):
    path = bowl("named")
    surface = done(path)
    center, alpha, beta = vectors(surface.path)
    grid = (surface.alpha[:, None, None] * alpha + surface.beta[None, :, None] * beta + center)[..., 6:].sum(
        -1
    )
    assert (surface.values["train_first"] == 3.0).all()
    assert (surface.values["train_is_large"] == 0.4).all()
    assert (surface.values["test_is_large"] == 0.5).all()
    assert surface.values["train_nll"] == pytest.approx(grid, rel=1e-6)
    assert surface.units["train_nll"] == "per example"
    shown = here(inspect.main, surface.path, "--json")
    assert json.loads(shown.out)["quantities"]["train_first"]["max"]["value"] == 3.0


def test_further_numbers_are_estimated_from_samples_too(bowl, done):
    surface = done(bowl("named"), "--relative-error", "0.9")
    assert np.isfinite(surface.values["train_first"]).all()
    exact = done(bowl("named"))
    assert (exact.values["train_first"] == 3.0).all()
    assert (exact.values["train_loss_stderr"] == 0).all()


BAD = [
    ("plain", ["compute.quantities=[loss, top5]"], ["'top5'", "loss, gradient_norm"], "an unknown name"),
    ("named", ["compute.quantities=[top5]"], ["'top5'", "loss, first, is_large, nll"], "not returned"),
    ("misshapen", [], ["top5 has shape (2, 1)", "(2,)"], "a wrong shape"),
    ("taken", [], ["'gradient_norm'", "valid are"], "a name that is taken"),
    ("named_otherwise", [], ["one split", "more"], "splits that differ"),
    ("cut_off", ["compute.quantities=[gradient_norm]"], ["no gradient", "detach"], "no gradient"),
    (
        "plain",
        ["compute.quantities=[gradient_norm]", "compute.data_shards=2"],
        ["compute.data_shards is 2", "whole split"],
        "several shards",
    ),
    (
        "plain",
        ["compute.quantities=[gradient_norm]", "compute.relative_error=0.1"],
        ["relative_error", "gradient_norm", "samples"],
        "samples",
    ),
]


@pytest.mark.parametrize(("loss", "settings", "words", "reason"), BAD, ids=[row[-1] for row in BAD])
def test_what_cannot_be_known_is_refused_in_one_line_and_leaves_no_file(
    bowl, loss, settings, words, reason, run
):
    path = bowl(loss)
    ended = run(path, *(word for setting in settings for word in ("--set", setting)))
    assert ended.status == 2, ended.err
    (line,) = ended.err.splitlines()
    assert all(word in line for word in words), line
    assert not (path.parent / "surface.h5").exists(), reason


def test_a_surface_of_losses_is_not_gone_on_with_as_one_of_gradients(bowl, done, run):
    path = bowl()
    done(path)
    ended = run(path, *GRADIENT)
    assert ended.status == 2
    assert "quantities (file: nothing; now: gradient_norm)" in ended.err


def test_the_gradient_is_that_of_a_plain_loop_in_float64(tmp_path):
    import mpi_landscape

    torch.manual_seed(3)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(2, 4, 3),
        torch.nn.BatchNorm2d(4),
        torch.nn.Tanh(),
        torch.nn.Flatten(),
        torch.nn.Linear(64, 3),
    )
    model[1].running_mean.uniform_(-1, 1)
    model[1].running_var.uniform_(0.5, 2)
    data = torch.utils.data.TensorDataset(torch.randn(37, 2, 6, 6), torch.randint(0, 3, (37,)))
    surface = mpi_landscape.landscape(
        model,
        "cross_entropy",
        data,
        alpha=(-1, 1, 3),
        beta=(0, 1, 2),
        output=tmp_path / "s.h5",
        compute={"quantities": ["gradient_norm"], "batch_size": 8},
    )
    center, alpha, beta = vectors(surface.path)
    exact = model.double().eval()
    own = list(exact.parameters())
    moving = [name for name, _ in exact.named_parameters() if name in ("0.weight", "4.weight")]
    for i, a in enumerate(surface.alpha):
        for j, b in enumerate(surface.beta):
            torch.nn.utils.vector_to_parameters(torch.from_numpy(center + a * alpha + b * beta), own)
            inputs, targets = data.tensors
            loss = torch.nn.functional.cross_entropy(exact(inputs.double()), targets)
            named = dict(exact.named_parameters())
            found = torch.autograd.grad(loss, [named[name] for name in moving])
            norm = float(sum((each**2).sum() for each in found).sqrt())
            assert surface.values["train_gradient_norm"][i, j] == pytest.approx(norm, rel=2e-6)
