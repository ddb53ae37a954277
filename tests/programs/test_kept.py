"""Networks in 16 bits that stay so: compute.precision: kept."""

import subprocess
import sys

import h5py
import numpy as np
import pytest
import torch
from torch import nn

import mpi_landscape
from mpi_landscape import inspect, surface
from mpi_landscape.errors import LandscapeError
from mpi_landscape.geometry.directions import random_direction
from mpi_landscape.geometry.layout import layout_of
from mpi_landscape.storage.surface.reader import read_surface
from tests.programs.conftest import FAR, killed_in_the_middle

KEPT = {"precision": "kept", "batch_size": 16, "device": "cpu"}
GRID = {"alpha": (-1, 0.5, 4), "beta": (0, 1, 3)}


class Words(nn.Module):
    """Weights in one type, a normalization in another, as in language models."""

    def __init__(self, dtype, norm):
        super().__init__()
        torch.manual_seed(4)
        self.table = nn.Embedding(30, 12)
        self.inner = nn.Linear(12, 40)
        self.norm = nn.LayerNorm(40)
        self.outer = nn.Linear(40, 30)
        self.to(dtype)
        self.norm.to(norm)

    def forward(self, words):
        hidden = torch.relu(self.inner(self.table(words)))
        hidden = self.norm(hidden.to(self.norm.weight.dtype)).to(self.outer.weight.dtype)
        return self.outer(hidden).mean(1)


def examples(count=50):
    torch.manual_seed(5)
    return torch.randint(0, 30, (count, 6)), torch.randint(0, 30, (count,))


def loss(model, batch):
    """In the type of the network up to here."""
    words, labels = batch
    return nn.functional.cross_entropy(model(words).float(), labels, reduction="none")


def rows_scaled(drawn, center):
    """Filter by filter, a row each: Li et al. 2018, section 4."""
    scale = center.double().norm(dim=1, keepdim=True) / drawn.double().norm(dim=1, keepdim=True)
    return (drawn.double() * scale).float()


def plain_losses(model, data, moved, points):
    """The mean loss at some points, by a plain loop over tensors and batches."""
    center = {name: each.detach().clone() for name, each in model.named_parameters()}
    found = []
    with torch.no_grad():
        for alpha, beta in points:
            for name, each in model.named_parameters():
                if name in moved:
                    delta, eta = moved[name]
                    each.copy_((center[name].float() + alpha * delta + beta * eta).to(each.dtype))
            batches = zip(*(each.split(16) for each in data), strict=True)
            losses = [loss(model, batch).double() for batch in batches]
            found.append(float(torch.cat(losses).mean()))
        for name, each in model.named_parameters():
            each.copy_(center[name])
    return np.array(found)


TYPES = {
    "bfloat16": (torch.bfloat16, torch.bfloat16),
    "float16": (torch.float16, torch.float16),
    "a mix": (torch.bfloat16, torch.float32),
    "float32": (torch.float32, torch.float32),
}


@pytest.mark.parametrize(("dtype", "norm"), TYPES.values(), ids=TYPES)
def test_the_values_are_those_of_a_plain_loop(tmp_path, dtype, norm):
    model, data = Words(dtype, norm).eval(), examples()
    before = {name: each.detach().clone() for name, each in model.named_parameters()}
    found = mpi_landscape.landscape(model, loss, data, **GRID, compute=KEPT, output=tmp_path / "kept.h5")
    assert {each.dtype for each in model.parameters()} == {dtype, norm}
    assert all(torch.equal(each, before[name]) for name, each in model.named_parameters())
    layout = layout_of(model)
    drawn = [layout.views(random_direction(layout, seed=seed)) for seed in (1, 2)]
    moved = {
        name: [rows_scaled(each[name], before[name]) for each in drawn]
        for name in ("table.weight", "inner.weight", "outer.weight")
    }
    points = [(alpha, beta) for alpha in found.alpha for beta in found.beta]
    with mpi_landscape.evaluation.arithmetic.exact_arithmetic():
        wanted = plain_losses(model, data, moved, points)
    np.testing.assert_allclose(found.train_loss.ravel(), wanted, rtol=1e-6)
    assert np.ptp(wanted) > 0.01
    with h5py.File(tmp_path / "kept.h5") as file:
        assert "center" not in file["directions"]
        assert file.attrs["vectors"] in ("recipe", b"recipe")
        assert str(dtype).removeprefix("torch.") in str(file.attrs["weights"])
        assert str(norm).removeprefix("torch.") in str(file.attrs["weights"])
        # From which weight decay follows: of all parameters at the center.
        square = sum(float(each.double().square().sum()) for each in before.values())
        np.testing.assert_allclose(file.attrs["squared_norm_all"][0], square, rtol=1e-12)


def test_in_float32_it_is_the_surface_of_float32_but_for_rounding():
    model, data = Words(torch.float32, torch.float32), examples()
    one, other = (
        mpi_landscape.landscape(
            model, "cross_entropy", data, **GRID, compute={**KEPT, "precision": precision}
        )
        for precision in ("kept", "float32")
    )
    np.testing.assert_allclose(one.train_loss, other.train_loss, rtol=1e-6)


def test_the_end_of_a_difference_is_the_other_network():
    model, other = (Words(torch.bfloat16, torch.float32).eval() for _ in range(2))
    with torch.no_grad():
        for each in other.parameters():
            each.add_(0.05 * torch.randn_like(each))
    data = examples()
    found = mpi_landscape.landscape(
        model, loss, data, alpha=(0, 1, 3), beta=None,
        directions={"alpha": {"kind": "difference", "to": other}}, compute=KEPT,
    )  # fmt: skip
    for place, network in ((0, model), (2, other)):
        with mpi_landscape.evaluation.arithmetic.exact_arithmetic():
            (wanted,) = plain_losses(network, data, {}, [(0, 0)])
        np.testing.assert_allclose(found.train_loss[place], wanted, rtol=1e-12)


REFUSED = {
    "steps": ({"engine": ["folded"]}, {}, "engine is \\[folded\\], but with precision kept"),
    "a quantity of copies": ({"quantities": ["gradient_norm"]}, {}, "quantities has gradient_norm, which needs a copy"),
    "a vector of a file": ({}, {"alpha": {"kind": "file", "path": "a.npy"}}, "directions.alpha is of kind file"),
    "what is parallel": ({}, {"alpha": {"seed": 1}, "beta": {"seed": 1}}, "are parallel"),
    "nothing that moves": ({}, {"alpha": {"ignore": ["*"]}}, "leaves no tensor to move"),
}  # fmt: skip


@pytest.mark.parametrize(("compute", "directions", "text"), REFUSED.values(), ids=REFUSED)
def test_what_does_not_fit_is_refused_in_one_line(compute, directions, text):
    with pytest.raises(LandscapeError, match=text) as caught:
        mpi_landscape.landscape(
            Words(torch.bfloat16, torch.bfloat16), "cross_entropy", examples(), **GRID,
            compute={**KEPT, **compute}, directions=directions,
        )  # fmt: skip
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("dtype", "text"),
    [
        (torch.int8, "parameter outer.weight is torch.int8, and between two quantized numbers"),
        (torch.float8_e4m3fn, "parameter outer.weight is torch.float8_e4m3fn, and between"),
        (torch.complex64, "parameter outer.weight is complex"),
    ],
)
def test_weights_in_which_nothing_moves_by_small_steps_are_refused(dtype, text):
    model = Words(torch.bfloat16, torch.bfloat16)
    model.outer.weight = nn.Parameter(torch.ones(30, 40).to(dtype), requires_grad=False)
    with pytest.raises(LandscapeError, match=text):
        mpi_landscape.landscape(model, "cross_entropy", examples(), **GRID, compute=KEPT)


class Centered(Words):
    def forward(self, words):
        outputs = super().forward(words)
        return outputs - 0.5 * outputs.mean(0)


class Insisting(Centered):
    """Cannot be computed in another type."""

    def forward(self, words):
        assert self.inner.weight.dtype == torch.bfloat16
        return super().forward(words)


@pytest.mark.parametrize("kind", [Centered, Insisting])
def test_a_loss_that_depends_on_its_batch_is_refused_though_16_bits_round_much(kind):
    model = kind(torch.bfloat16, torch.float32)
    with torch.no_grad():
        model.outer.weight.mul_(20)
    with pytest.raises(LandscapeError, match="must not depend on the other examples of its batch"):
        mpi_landscape.landscape(model, loss, examples(), **GRID, compute=KEPT)


def test_a_grid_beyond_the_type_of_a_tensor_is_refused_with_its_name():
    model = Words(torch.float16, torch.float32)
    with pytest.raises(
        LandscapeError, match=r"numbers of table.weight would be beyond float16; valid is a smaller"
    ):
        mpi_landscape.landscape(
            model, "cross_entropy", examples(), alpha=(-1, 1e5, 3), beta=None, compute=KEPT
        )  # fmt: skip


@pytest.fixture
def half(study):
    """The bowl in bfloat16, from a file."""
    study.edit_module("torch.zeros(3, 4)", "torch.zeros(3, 4, dtype=torch.bfloat16)")
    study.edit("device: cpu", "device: cpu, precision: kept")
    return study


@pytest.mark.mpi
def test_any_number_of_ranks_gives_the_same_bits(half, standing, contents):
    found = []
    for size in (1, 2, 3):
        output = half.folder / f"{size}.h5"
        done = standing(
            size, "-m", "mpi_landscape.surface", half.configuration, "--output", output, cwd=half.folder
        )
        assert done.returncode == 0, done.stderr
        assert (
            "weights     kept: bfloat16 (1 tensors), float32 (1 tensors); directions are made anew"
            in done.stdout
        )
        found.append(contents(output))
    assert found[1] == found[0]
    assert found[2] == found[0]


def test_killed_and_resumed_equals_uninterrupted(half, contents):
    half.surface("--output", str(half.folder / "reference.h5"))
    killed_in_the_middle(half.folder, half.output, str(half.configuration))
    half.surface()
    assert read_surface(half.output).progress == 1
    assert contents(half.output) == contents(half.folder / "reference.h5")


def test_a_file_is_looked_at_again_and_another_center_is_refused(half, here):
    assert here(surface.main, half.configuration).status == 0
    told = here(inspect.main, half.output).out
    assert "weights kept: bfloat16 (1 tensors), float32 (1 tensors)" in told
    checked = here(inspect.main, "--check", half.output, half.configuration)
    assert checked.status == 0, checked.err
    assert "all agree" in checked.out
    center = torch.load(half.folder / "center.pt")
    center["weight"][1, 2] += 0.5
    torch.save(center, half.folder / "center.pt")
    assert (
        "holds no vectors, and its center"
        in here(inspect.main, "--check", half.output, half.configuration).err
    )
    assert "differs in center (file: " in here(surface.main, half.configuration).err


MEMORY = """
import sys
from pathlib import Path
import torch
from torch import nn
import mpi_landscape, mpi_landscape.scripting

def status(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(name)).split()[1])

class Words(nn.Module):
    def __init__(self, number, width):
        super().__init__()
        self.table = nn.Embedding(number, width, dtype=torch.bfloat16)
        self.inner = nn.Sequential(*(nn.Linear(width, width, dtype=torch.bfloat16) for _ in range(20)))
        self.outer = nn.Linear(width, number, dtype=torch.bfloat16)

    def forward(self, words):
        return self.outer(self.inner(self.table(words)).mean(1))

compute = {"precision": "kept", "batch_size": 4, "device": "cpu"}
grid = {"alpha": (-1, 1, 2), "beta": (-1, 1, 2), "compute": compute}
data = torch.randint(0, 30, (8, 5)), torch.randint(0, 30, (8,))
# What is imported when it is first needed.
mpi_landscape.landscape(Words(30, 4), "cross_entropy", data, **grid)
before = status("VmRSS")
Path("/proc/self/clear_refs").write_text("5")  # VmHWM begins anew
model = Words(20000, 1000)
size = sum(each.nbytes for each in model.parameters())
mpi_landscape.landscape(model, "cross_entropy", data, **grid, output=sys.argv[1])
sys.stdout.write(f"memory {size} {status('VmHWM') - before}\\n")
"""


@pytest.mark.slow
@pytest.mark.exhaustive
def test_the_peak_of_memory_is_five_times_that_of_the_parameters_at_most(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(tmp_path / "kept.h5")],
        check=False, capture_output=True, text=True, timeout=FAR,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    size, peak = map(int, done.stdout.split("memory ")[-1].split())
    assert size > 120e6
    # A batch of 4 examples and 20,000 outputs takes less than 16 MB, whatever is made of it.
    assert peak < 5 * size + 16e6, f"{peak / size:.2f} times the parameters"
