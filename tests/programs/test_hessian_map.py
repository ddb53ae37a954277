"""A map of curvature: both ends of the Hessian at every point, against known ones, dense ones and itself."""

import json

import h5py
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

import mpi_landscape
from mpi_landscape import hessian, inspect, surface
from mpi_landscape.geometry.layout import layout_of
from mpi_landscape.storage.surface.reader import read_surface
from tests.exhaustive import rows
from tests.programs.conftest import killed_in_the_middle

GRID = ("--set", "hessian.at=grid")
# Residuals so small that what is left is rounding.
TIGHT = {"tolerance": 1e-6, "most_steps": 60}
# A network of numbers that are few enough for a dense Hessian.
WRITERS = ["root", *["parallel"] * bool(h5py.get_config().mpi)]


class Residual(nn.Module):
    """A convolution, a block with batch normalization and a shortcut, and a linear layer."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(1, 3, 3, padding=1)
        self.norm = nn.BatchNorm2d(3)
        self.second = nn.Conv2d(3, 3, 3, padding=1, bias=False)
        self.last = nn.Linear(3, 4)

    def forward(self, images):
        before = torch.relu(self.norm(self.first(images)))
        return self.last((before + torch.tanh(self.second(before))).mean((2, 3)))


class Attention(nn.Module):
    """Self-attention over the rows of an image, with a layer norm."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(5, 4)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.norm = nn.LayerNorm(4)
        self.last = nn.Linear(4, 4)

    def forward(self, images):
        rows = self.first(images[:, 0])
        return self.last(self.norm(rows + self.attention(rows, rows, rows, need_weights=False)[0]).mean(1))


def mlp():
    return nn.Sequential(nn.Flatten(), nn.Linear(25, 4), nn.ReLU(), nn.Linear(4, 4))


def made(network, seed=0):
    """A network and data that it fits a little."""
    torch.manual_seed(seed)
    model = network()
    data = torch.randn(24, 1, 5, 5), torch.randint(0, 4, (24,))
    optimizer = torch.optim.SGD(model.parameters(), 0.3)
    for _ in range(15):
        optimizer.zero_grad()
        F.cross_entropy(model(data[0]), data[1]).backward()
        optimizer.step()
    return model, data


def dense(model, data, surface, point, names=None):
    """(n, n) float64: the Hessian at a point of the plane of a surface file, by a plain loop over the rows of its gradient."""
    layout = layout_of(model)
    with h5py.File(surface.path, "r") as file:
        vectors = [
            torch.from_numpy(file[f"directions/{name}"][...]).double() for name in ("center", "alpha", "beta")
        ]
    state = layout.views(vectors[0] + point[0] * vectors[1] + point[1] * vectors[2])
    names = list(state) if names is None else names
    buffers = {
        name: each.double() if each.is_floating_point() else each for name, each in model.named_buffers()
    }
    parameters = {name: state[name].clone().requires_grad_() for name in names}
    model.eval()
    with sdpa_kernel(SDPBackend.MATH):  # the one that has second derivatives
        outputs = torch.func.functional_call(model, {**state, **buffers, **parameters}, (data[0].double(),))
    gradient = torch.autograd.grad(
        F.cross_entropy(outputs, data[1]), list(parameters.values()), create_graph=True
    )
    lines = []
    for number in torch.cat([each.reshape(-1) for each in gradient]):
        line = torch.autograd.grad(number, list(parameters.values()), retain_graph=True)
        lines.append(torch.cat([each.reshape(-1) for each in line]))
    return torch.stack(lines), {name: each.detach() for name, each in parameters.items()}


def ends_of(matrix):
    values = torch.linalg.eigvalsh(matrix)
    return values[-1].item(), values[0].item()


@pytest.mark.parametrize(
    ("network", "precision", "rounding"),
    rows(
        {
            "ReLU, float64": (mlp, "float64", 1e-10),
            "ReLU, float32": (mlp, "float32", 1e-6),
            "batch norm, float64": (Residual, "float64", 1e-10),
            "batch norm, float32": (Residual, "float32", 1e-6),
            "attention, float64": (Attention, "float64", 1e-10),
            "attention, float32": (Attention, "float32", 1e-5),
        },
        "ReLU, float32",
        "batch norm, float64",
    ),
)
def test_both_ends_are_those_of_a_dense_hessian(network, precision, rounding):
    model, data = made(network)
    found = mpi_landscape.hessian(
        model,
        "cross_entropy",
        {"train": data, "test": (data[0][:6], data[1][:6])},
        at="grid",
        alpha=(-0.5, 1, 3),
        beta=(0, 0.5, 2),
        compute={"precision": precision, "batch_size": 7},
        **TIGHT,
    )
    assert list(found.done) == ["train"]
    worst = 0.0
    for i, a in enumerate(found.alpha):
        for j, b in enumerate(found.beta):
            top, low = ends_of(dense(model, data, found, (a, b))[0])
            worst = max(worst, abs(found.train_lambda_max[i, j] - top) / top)
            worst = max(worst, abs(found.train_lambda_min[i, j] - low) / top)
            assert found.train_curvature_ratio[i, j] == pytest.approx(abs(low / top), rel=1e-3)
    assert worst < rounding, worst
    assert (found.train_lambda_min < 0).all()
    assert found.attributes["hessian_num_parameters"] == sum(each.numel() for each in model.parameters())


def test_only_parameters_that_move_are_varied_where_that_is_asked_for():
    model, data = made(Residual)
    model.second.weight.requires_grad_(False)
    found = mpi_landscape.hessian(
        model, "cross_entropy", data, at="grid", alpha=(0, 1, 2), beta=(0.5, 1, 1), parameters="moving", **TIGHT
    )  # fmt: skip
    names = ["first.weight", "last.weight"]
    for i, a in enumerate(found.alpha):
        top, low = ends_of(dense(model, data, found, (a, 0.5), names)[0])
        assert found.train_lambda_max[i, 0] == pytest.approx(top, rel=1e-5)
        assert found.train_lambda_min[i, 0] == pytest.approx(low, abs=1e-5 * top)
    assert found.attributes["hessian_parameters"] == "moving"
    assert found.attributes["hessian_num_parameters"] == 27 + 12


def rescaled(model):
    """The same function, with one layer ten times as large and the next one ten times as small."""
    with torch.no_grad():
        model[1].weight *= 10
        model[1].bias *= 10
        model[3].weight /= 10
    return model


def test_curvature_in_filter_normalized_coordinates_stays_where_a_layer_is_rescaled():
    model, data = made(mlp)
    asked = {"at": "grid", "alpha": (0, 1, 1), "beta": (0, 1, 1), "normalized": True, **TIGHT}
    # The bias of a unit is a filter of its own, whose norm goes with it.
    first = mpi_landscape.hessian(model, "cross_entropy", data, **asked)
    matrix, state = dense(model, data, first, (0, 0))
    scale = torch.cat(
        [
            (each.norm(dim=1, keepdim=True).expand_as(each) if each.ndim > 1 else each.norm().expand_as(each)).reshape(-1)
            for each in state.values()
        ]
    )  # fmt: skip
    top, low = ends_of(scale[:, None] * matrix * scale)
    assert first.train_lambda_max_normalized[0, 0] == pytest.approx(top, rel=1e-5)
    assert first.train_lambda_min_normalized[0, 0] == pytest.approx(low, abs=1e-5 * top)
    second = mpi_landscape.hessian(rescaled(model), "cross_entropy", data, **asked)
    assert second.train_lambda_max_normalized[0, 0] == pytest.approx(top, rel=1e-4)
    assert second.train_lambda_max[0, 0] > 2 * first.train_lambda_max[0, 0]


def test_the_hessian_of_a_bowl_is_the_same_at_every_point(study, here):
    # 1/4, 2/4, ..., 12/4 of the weights, and 1 five times.
    assert here(hessian.main, study.configuration, *GRID).status == 0
    found = read_surface(study.folder / "curvature_map.h5")
    # Errors are of the order of the squares of residuals, 1e-3 and 1e-2.
    np.testing.assert_allclose(found.train_lambda_max, 3, rtol=1e-5)
    np.testing.assert_allclose(found.train_lambda_min, 0.25, rtol=1e-3)
    np.testing.assert_allclose(found.train_curvature_ratio, 1 / 12, rtol=1e-3)
    assert found.train_lambda_max.shape == (7, 4)
    # Twelve distinct eigenvalues: so many products at most.
    assert (found.train_hessian_products <= 17).all()
    ended = here(inspect.main, study.folder / "curvature_map.h5", "--json")
    facts = json.loads(ended.out)["curvature"]["train"]
    assert facts["largest_ratio"]["value"] == pytest.approx(1 / 12, rel=1e-3)
    assert facts["not_convex"] == 0
    assert facts["unresolved"] == 0
    assert facts["points"] == 28
    assert facts["products"] == int(found.train_hessian_products.sum())
    assert "|λmin/λmax| at most 0.0833" in here(inspect.main, study.folder / "curvature_map.h5").out


def test_losses_come_along_and_are_those_of_the_surface(study, here, computed):
    computed()
    assert here(hessian.main, study.configuration, *GRID).status == 0
    found, own = read_surface(study.folder / "curvature_map.h5"), read_surface(study.output)
    np.testing.assert_array_equal(found.train_loss, own.train_loss)
    assert "test_loss" not in found.values


def test_a_map_is_checked_as_a_surface_is_and_has_no_weight_decay_added(study, here):
    assert here(hessian.main, study.configuration, *GRID).status == 0
    ended = here(inspect.main, "--check", study.folder / "curvature_map.h5", study.configuration)
    assert ended.status == 0, ended.err
    assert "test" not in ended.out.replace(str(study.folder), "")
    found = read_surface(study.folder / "curvature_map.h5").with_weight_decay(0.1)
    assert list(found.values) == ["train_loss"]


def test_a_surface_file_says_points_and_plane(study, here, computed):
    computed("--alpha=-0.5:1:4", "--beta=0:1:3", "--set", "directions.alpha.seed=9")
    before = study.output.read_bytes()
    ended = here(hessian.main, study.configuration, "--set", f"hessian.at={study.output}")
    assert ended.status == 0, ended.err
    assert study.output.read_bytes() == before
    found, own = read_surface(study.folder / "curvature_map.h5"), read_surface(study.output)
    np.testing.assert_array_equal(found.alpha, own.alpha)
    np.testing.assert_array_equal(found.train_loss, own.train_loss)
    torch.save({"weight": torch.ones(3, 4), "bias": torch.ones(5)}, study.folder / "center.pt")
    ended = here(hessian.main, study.configuration, "--set", f"hessian.at={study.output}", "--overwrite")
    assert ended.status == 2
    assert "is a surface around other parameters than those of model.checkpoint" in ended.err


IMAGES = """
import torch
from torch.utils.data import TensorDataset

def images():
    generator = torch.Generator().manual_seed(1)
    return {"train": TensorDataset(torch.randn(80, 1, 8, 8, generator=generator), torch.arange(80) % 10)}
"""


@pytest.mark.mpi
@pytest.mark.slow
def test_any_number_of_ranks_and_threads_and_either_writer_give_the_same_bits(
    study, standing, contents, here
):
    text = """
model: {{name: mlp, arguments: {{hidden: [8], activation: tanh, input_size: [1, 8, 8]}}}}
data: {{target: "{module}:images"}}
grid: {{alpha: [-1, 0.5, 3], beta: [-0.25, 1, 4]}}
compute: {{device: cpu, batch_size: 16}}
hessian: {{at: grid, starts: {starts}, output: {starts}.h5}}
"""
    (study.folder / f"{study.module}.py").write_text(IMAGES)
    for starts, sizes in (("cold", (3,)), ("tiles", (2,))):
        (study.folder / f"{starts}.yaml").write_text(text.format(starts=starts, module=study.module))
        ended = here(hessian.main, f"{starts}.yaml", "--set", "compute.threads=2")
        assert ended.status == 0, ended.err
        reference = contents(study.folder / f"{starts}.h5")
        assert {"train_lambda_min", "train_loss", "tiles/checksum"} <= reference.keys()
        for size in sizes:
            for writer in WRITERS:
                output = study.folder / f"{starts}_{size}_{writer}.h5"
                done = standing(
                    size,
                    *(
                        "-m",
                        "mpi_landscape.hessian",
                        f"{starts}.yaml",
                        "--writer",
                        writer,
                        "--output",
                        output,
                    ),
                    *("--set", "compute.threads=1"),
                    cwd=study.folder,
                )
                assert done.returncode == 0, done.stderr
                assert contents(output) == reference, (starts, size, writer)


def test_killed_and_resumed_equals_uninterrupted(study, here, contents):
    small = ("--set", "compute.points_per_tile=1", "--set", "compute.batch_size=10")
    assert here(hessian.main, study.configuration, *GRID, *small).status == 0
    reference, output = contents(study.folder / "curvature_map.h5"), study.folder / "half.h5"
    killed_in_the_middle(
        study.folder, output, str(study.configuration), *GRID, *small, "--output", str(output), program="hessian", sleep="0.01"
    )  # fmt: skip
    assert "mpi_landscape.hessian" in here(inspect.main, output).out
    assert here(hessian.main, study.configuration, *GRID, *small, "--output", output).status == 0
    assert contents(output) == reference
    ended = here(
        hessian.main,
        study.configuration,
        *GRID,
        *small,
        "--output",
        output,
        "--set",
        "hessian.tolerance=1e-3",
    )
    assert ended.status == 2
    assert "residuals of 0.01" in ended.err


SADDLE = """
import torch
from torch import nn
from torch.utils.data import TensorDataset

class Saddle(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([[1.0, 1.0]]))

    def forward(self, x):
        first, second = self.weight[0]
        # Not finite to the right of 1.5.
        return (first**2 - second**2) * x[:, 0] + torch.log(1.5 - first).detach() * 0

def data():
    return {"train": TensorDataset(torch.tensor([[1.0], [2.0], [6.0]]))}

def loss(model, batch):
    return model(batch[0])

def convex(model, batch):
    return model.weight[0, 0] ** 2 * batch[0][:, 0] + 0 * model.weight[0, 1] ** 2

def bowl(model, batch):
    return (2 * model.weight[0, 0] ** 2 + model.weight[0, 1] ** 2) * batch[0][:, 0]
"""


@pytest.fixture
def saddle(study):
    (study.folder / f"{study.module}.py").write_text(SADDLE)
    text = f"""
model: {{target: "{study.module}:Saddle"}}
data: {{target: "{study.module}:data"}}
loss: {{target: "{study.module}:loss"}}
directions: {{alpha: {{normalize: none}}}}
grid: {{alpha: [-2, 2, 5], beta: null}}
hessian: {{at: grid, output: map.h5}}
"""
    study.configuration.write_text(text)
    return study


def test_a_point_whose_loss_is_not_finite_is_nan_and_the_rest_goes_on(saddle, here):
    ended = here(hessian.main, saddle.configuration)
    assert ended.status == 0, ended.err
    found = read_surface(saddle.folder / "map.h5")
    finite = np.isfinite(found.train_loss)
    assert 0 < finite.sum() < 5
    np.testing.assert_allclose(found.train_lambda_max[finite], 6, rtol=1e-6)
    np.testing.assert_allclose(found.train_lambda_min[finite], -6, rtol=1e-6)
    assert np.isnan(found.train_lambda_max[~finite]).all()
    assert found.done["train"].all()
    assert f"at {5 - finite.sum()} of 5 points the loss is not finite" in ended.out
    assert "beyond 0.1 at 100 % of the points" in ended.out


def test_a_ratio_of_positive_ends_does_not_count_as_not_convex(saddle, here):
    saddle.edit(":loss", ":bowl")
    saddle.edit("alpha: [-2, 2, 5]", "alpha: [-0.5, 0.5, 3]")
    assert here(hessian.main, saddle.configuration).status == 0
    facts = json.loads(here(inspect.main, saddle.folder / "map.h5", "--json").out)["curvature"]["train"]
    assert facts["largest_ratio"]["value"] == pytest.approx(0.5, rel=1e-3)
    assert facts["not_convex"] == 0


def test_a_lower_end_that_is_zero_is_said_and_never_shown_as_a_place(saddle, here):
    saddle.edit(":loss", ":convex")
    saddle.edit("alpha: [-2, 2, 5]", "alpha: [-0.5, 0.5, 3]")
    ended = here(hessian.main, saddle.configuration)
    assert ended.status == 0, ended.err
    assert "at 3 of 3 points λmin is 0 within the rounding of products" in ended.out
    assert "|λmin/λmax|" not in ended.out


def test_a_gauss_newton_map_has_no_lower_end(study, here):
    text = """
model: {name: mlp, arguments: {hidden: [4], input_size: [1, 8, 8]}}
data: {name: digits, splits: [train]}
grid: {alpha: [0, 1, 2], beta: null}
hessian: {at: grid, operator: gauss_newton, output: map.h5}
"""
    study.configuration.write_text(text)
    ended = here(hessian.main, study.configuration)
    assert ended.status == 0, ended.err
    found = read_surface(study.folder / "map.h5")
    assert "train_lambda_min" not in found.values
    assert (found.train_lambda_max > 0).all()


PERCEPTRON = """
model: {name: mlp, arguments: {hidden: [4], input_size: [1, 8, 8]}}
data: {name: digits, splits: [train]}
grid: {alpha: [0, 1, 2], beta: null}
hessian: {at: grid, output: map.h5}
"""


@pytest.mark.parametrize(
    "engine", ["plain", pytest.param("compiled", marks=[pytest.mark.slow, pytest.mark.exhaustive])]
)
def test_another_way_of_products_is_asked_for_said_and_gives_the_same(study, here, engine):
    study.configuration.write_text(PERCEPTRON)
    assert here(hessian.main, study.configuration).status == 0
    own = read_surface(study.folder / "map.h5")
    assert own.attributes["hessian_engine"] == "double backward, loss in float64"
    ended = here(hessian.main, study.configuration, "--set", f"hessian.engine={engine}")
    # A run is not continued by other arithmetic.
    assert ended.status == 2
    assert "hessian" in ended.err
    ended = here(hessian.main, study.configuration, "--set", f"hessian.engine={engine}", "--overwrite")
    assert ended.status == 0, ended.err
    found = read_surface(study.folder / "map.h5")
    assert found.attributes["hessian_engine"].startswith(
        {"plain": "double backward", "compiled": "compiled forward over reverse mode"}[engine]
    )
    assert found.attributes["hessian_engine"] != own.attributes["hessian_engine"]
    np.testing.assert_allclose(found.train_lambda_max, own.train_lambda_max, rtol=1e-5)
    np.testing.assert_allclose(found.train_lambda_min, own.train_lambda_min, rtol=2e-2)


def test_a_way_that_is_dropped_is_said(study, here):
    text = PERCEPTRON.replace("hessian: {", f"loss: {{target: '{study.module}:loss'}}\nhessian: {{")
    (study.folder / f"{study.module}.py").write_text(SINGLE)
    study.configuration.write_text(text)
    ended = here(hessian.main, study.configuration)
    assert ended.status == 0, ended.err
    assert "engine      loss in float64 dropped: " in ended.out


SINGLE = """
import torch

def loss(model, batch):
    outputs = model(batch[0])
    assert outputs.dtype == torch.float32, "float32 alone"
    return torch.nn.functional.cross_entropy(outputs, batch[1], reduction="none")
"""

REFUSED = {
    "compiled parts": (
        "hessian={at: grid, engine: compiled, operator: remainder}",
        "whose products are not compiled",
    ),
    "a lower precision": ("compute.precision=bfloat16", "further off than small eigenvalues are from zero"),
    "types that are kept": ("compute.precision=kept", "valid for it are float32 and float64"),
    "samples": ("compute.relative_error=0.1", "cannot be estimated from samples"),
    "statistics of their own": (
        "compute.batch_norm=recomputed",
        "valid for a Hessian are stored and interpolated",
    ),
    "a spectrum": ("hessian.values=spectrum", "values is spectrum and at is grid"),
    "no such split": ("hessian.split=validation", "hessian.split is validation"),
    "no such parameters": ("hessian.parameters=[nothing*]", "hessian.parameters"),
    "shards": ("compute.data_shards=2", "lambda_max is known only from a whole split; leave it auto"),
    "more vectors than memory": ("hessian.most_steps=10000", "takes 10000 + 9 vectors of 17 numbers"),
    "the surface's quantities": ("compute.quantities=[lambda_max]", "python -m mpi_landscape.hessian finds"),
}


@pytest.mark.parametrize(("setting", "said"), rows(REFUSED, "a lower precision", "no such split"))
def test_what_cannot_be_right_is_refused_in_one_line(study, here, setting, said, monkeypatch):
    if "most_steps" in setting:
        monkeypatch.setattr("mpi_landscape.surfaces.searching.vector_bytes", lambda *_: 2**60)
    ended = here(hessian.main, study.configuration, *GRID, "--set", setting)
    assert ended.status == 2
    assert said in ended.err
    assert ended.err.count("\n") == 1
    assert not (study.folder / "curvature_map.h5").exists()


def test_a_surface_does_not_compute_eigenvalues(study, here):
    ended = here(surface.main, study.configuration, "--set", "compute.quantities=[lambda_min]")
    assert ended.status == 2
    assert "quantities has lambda_min, which python -m mpi_landscape.hessian finds" in ended.err


def test_a_dry_run_says_what_a_map_takes_and_writes_nothing(study, here):
    ended = here(hessian.main, study.configuration, *GRID, "--dry-run")
    assert ended.status == 0, ended.err
    assert (
        "λmax and λmin of the hessian by 17 numbers (trainable), residuals of 1 %, starts cold" in ended.out
    )
    assert "60 + 9 vectors" in ended.out
    assert not (study.folder / "curvature_map.h5").exists()
