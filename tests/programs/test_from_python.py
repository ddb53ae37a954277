"""What a script gets back: a file that nobody named, how it ended, a refusal in one line, weight decay."""

import copy
import gc
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

import mpi_landscape
from mpi_landscape.storage.surface.ending import Ended
from mpi_landscape.storage.surface.reader import read_surface

SMALL = {"alpha": (-1, 0.5, 4), "beta": (0, 1, 3)}


@pytest.fixture
def linear():
    torch.manual_seed(1)
    return nn.Linear(3, 4), TensorDataset(torch.randn(20, 3), torch.arange(20) % 4)


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """The system's folder for temporary files."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def test_a_file_that_nobody_named_lives_as_long_as_its_surface(linear, temporary):
    model, data = linear
    surface = mpi_landscape.landscape(model, "cross_entropy", data, **SMALL)
    path = Path(surface.path)
    assert temporary in path.parents
    np.testing.assert_array_equal(read_surface(path).train_loss, surface.train_loss)
    added = surface.with_weight_decay(0.1)
    del surface
    gc.collect()
    assert path.exists(), "another surface of it is there"
    del added
    gc.collect()
    assert list(temporary.glob("mpi_landscape-*")) == []


def test_it_is_gone_where_the_call_is_refused(linear, temporary):
    model, data = linear
    with pytest.raises(mpi_landscape.LandscapeError):
        mpi_landscape.landscape(model, "cross_entropy", data, **SMALL, compute={"batch_size": -1})
    gc.collect()
    assert list(temporary.glob("mpi_landscape-*")) == []


def test_no_temporary_folder_is_one_line(linear, tmp_path, monkeypatch):
    model, data = linear
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))
    with pytest.raises(mpi_landscape.LandscapeError, match="there is no temporary folder to write to"):
        mpi_landscape.landscape(model, "cross_entropy", data, **SMALL)


def test_its_ending_says_why_it_is_not_finished_and_the_next_call_goes_on(linear, temporary, monkeypatch):
    model, data = linear
    tiles = {"compute": {"points_per_tile": 1, "data_shards": 1, "threads": 1}}
    whole = mpi_landscape.landscape(model, "cross_entropy", data, **SMALL, **tiles)
    assert (whole.ending, whole.tiles_left) == (Ended.FINISHED, 0)

    def loss(model, batch):
        time.sleep(float(os.environ.get("PAUSE", "0")))
        file = (
            next(Path(os.environ["WHERE"]).glob("mpi_landscape-*/surface.h5"), None)
            if "WHERE" in os.environ
            else None
        )
        # With the third tile, as a scheduler would.
        if file is not None and read_surface(file).tiles_left == 10:
            del os.environ["WHERE"]
            os.kill(os.getpid(), signal.SIGUSR1)
        return nn.functional.cross_entropy(model(batch[0]), batch[1], reduction="none")

    # Preparing takes some ninety calls of the loss, so longer than this.
    monkeypatch.setenv("PAUSE", "0.02")
    late = mpi_landscape.landscape(model, loss, data, **SMALL, **tiles, time_limit=0.8)
    assert (late.ending, late.tiles_left) == (Ended.TIME_LIMIT, 12)
    del late
    monkeypatch.delenv("PAUSE")
    other = temporary / "other"
    other.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(other))
    monkeypatch.setenv("WHERE", str(other))
    part = mpi_landscape.landscape(model, loss, data, **SMALL, **tiles)
    assert part.ending is Ended.SIGNAL
    assert 0 < part.tiles_left <= 10
    assert f"{part.tiles_left} tiles left" in repr(part)
    again = mpi_landscape.landscape(model, loss, data, **SMALL, **tiles, output=part.path)
    assert (again.ending, again.tiles_left) == (Ended.FINISHED, 0)
    np.testing.assert_array_equal(again.train_loss, whole.train_loss)


SCRIPT = """
import sys
import torch
from torch import nn
from torch.utils.data import TensorDataset
import mpi_landscape

torch.manual_seed(1)
model = nn.Linear(3, 4)
data = TensorDataset(torch.randn(20, 3), torch.arange(20) % 4)
surface = mpi_landscape.landscape(model, "cross_entropy", data, alpha=(-1, 1, 5), beta=(0, 1, 3))
sys.stdout.write(f"here {surface.path} {surface.train_loss.sum()!r} {surface.ending.name}\\n")
mpi_landscape.landscape(model, "cross_entropy", data, alpha=(1, -1, 5))  # their own line
"""


def shown(done):
    return [
        line
        for line in done.stderr.splitlines()
        if line.lstrip().startswith(("File", "mpi_landscape.errors"))
    ]


def test_a_refusal_in_a_script_shows_its_line_and_one_of_ours(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    frames = shown(done)
    assert [str(script) in line for line in frames] == [True, False, False], done.stderr
    assert "door.py" in frames[1]
    assert frames[2].endswith("min must be below max") or "grid.alpha" in frames[2]
    assert "# their own line" in done.stderr
    assert "MPI_LANDSCAPE_DEBUG=1 shows where" in done.stderr
    (name,) = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("here")]
    assert not Path(name).exists(), "the process has ended"
    debugged = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, check=False,
        env={**os.environ, "MPI_LANDSCAPE_DEBUG": "1"},
    )  # fmt: skip
    assert len(shown(debugged)) > len(frames) + 2


@pytest.mark.mpi
def test_all_ranks_get_the_same_surface_of_the_place_that_rank_zero_chose(tmp_path, launcher):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    one, two = (
        subprocess.run(
            [*launcher(size), sys.executable, str(script)], capture_output=True, text=True, check=False
        )
        for size in (1, 2)
    )
    places = [line.split()[1] for line in two.stdout.splitlines() if line.startswith("here")]
    values = {
        line.split(maxsplit=2)[2]
        for done in (one, two)
        for line in done.stdout.splitlines()
        if line.startswith("here")
    }
    assert len(places) == 2
    assert len(set(places)) == 1
    assert len(values) == 1
    assert not Path(places[0]).exists()
    # Every rank raises what all of them have agreed on.
    assert two.stderr.count("# their own line") == 2
    assert two.stderr.count("door.py") == 2


class Twice(nn.Module):
    """Two names of one layer, whose parameters count once, and running statistics, which do not count."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(3, 3)
        self.second = self.first
        self.norm = nn.BatchNorm1d(3)
        self.last = nn.Linear(3, 4)

    def forward(self, inputs):
        return self.last(torch.tanh(self.norm(self.second(self.first(inputs)))))


def test_weight_decay_is_that_of_the_network_itself_at_every_point():
    """By a plain loop in float64 over a network that is moved, and by the gradient that torch.optim.SGD adds."""
    torch.manual_seed(3)
    network = Twice()
    network(torch.randn(30, 3))
    data = TensorDataset(torch.randn(20, 3), torch.arange(20) % 4)
    surface = mpi_landscape.landscape(
        network, "cross_entropy", data, **SMALL, compute={"precision": "float64"}
    )
    with h5py.File(surface.path) as file:
        center, alpha, beta = (
            torch.from_numpy(file[f"directions/{name}"][...]).double() for name in ("center", "alpha", "beta")
        )
    added = surface.with_weight_decay(0.02)
    moved = copy.deepcopy(network).double().eval()
    inputs, targets = data.tensors
    for i, a in enumerate(surface.alpha):
        for j, b in enumerate(surface.beta):
            nn.utils.vector_to_parameters(center + a * alpha + b * beta, moved.parameters())
            loss = nn.functional.cross_entropy(moved(inputs.double()), targets)
            term = sum((each**2).sum() for each in moved.parameters())
            assert added.train_loss[i, j] == pytest.approx((loss + 0.01 * term).item(), rel=1e-12)
    # The step that SGD makes without a loss is down the gradient of the term: half of it more is λ‖θ‖² smaller.
    nn.utils.vector_to_parameters(center, moved.parameters())
    before = torch.cat([each.detach().flatten() for each in moved.parameters()])
    optimizer = torch.optim.SGD(moved.parameters(), lr=1.0, weight_decay=0.02)
    (0.0 * sum(each.sum() for each in moved.parameters())).backward()
    optimizer.step()
    step = before - torch.cat([each.detach().flatten() for each in moved.parameters()])
    # d/dα of the polynomial at the center, along each direction: ⟨λθ, δ⟩.
    products = surface.find_products()["all"]
    assert 0.02 * products[1] == pytest.approx((step @ alpha).item(), rel=1e-12)
    assert 0.02 * products[2] == pytest.approx((step @ beta).item(), rel=1e-12)


def test_plain_axes_and_figures_are_drawn_as_by_the_command_line(linear, temporary):
    plt = pytest.importorskip("matplotlib.pyplot")
    from matplotlib.figure import Figure

    model, data = linear
    surface = mpi_landscape.landscape(model, "cross_entropy", data, **SMALL)
    for kind in ("contour", "filled", "heatmap", "surface"):
        figure = surface.plot(kind)
        assert isinstance(figure, Figure)
        projection = {"projection": "3d"} if kind == "surface" else {}
        _, ax = plt.subplots(subplot_kw=projection)
        assert surface.plot(kind, ax=ax, quantity="train_accuracy") is ax
        # The same words as those of the whole figure.
        assert "train accuracy" in " ".join(text.get_text() for text in ax.texts) + ax.get_title()
    plt.close("all")
    with pytest.raises(mpi_landscape.LandscapeError, match="needs plain axes"):
        surface.plot("contour", ax=plt.figure())
    with pytest.raises(
        mpi_landscape.LandscapeError, match="kind is 'history'; valid for its grid are contour"
    ):
        surface.plot("history")
