"""Files of the first version, which its users have: they are read, drawn, left alone when finished, and gone on with."""

import importlib
import json
import shutil
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from mpi_landscape import inspect, surface, train
from mpi_landscape.storage.history.records import read_history
from mpi_landscape.storage.surface.reader import read_direction, read_surface, verify_tiles
from plotting.__main__ import main as draw

BEFORE = Path(__file__).parent / "before"
# Of a loss of about 1, computed in float32 by the kernels of another machine.
CLOSE = 1e-6
SAMPLED = (
    *("--set", "compute.data_shards=auto", "--set", "compute.points_per_tile=auto"),
    *("--set", "data.arguments={train: 4096, test: 120}", "--output", "sampled.h5"),
)
# File -> shape, tiles, tiles that are done.
SURFACES = {
    "finished.h5": ((6, 4), 32, 32),
    "unfinished.h5": ((6, 4), 32, 9),
    "line.h5": ((6,), 8, 8),
    "sampled.h5": ((6, 4), 624, 218),
}
HISTORIES = {"training/history.h5": 4, "unfinished_training/history.h5": 2}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A copy of the files, as the working folder."""
    copy = tmp_path / "before"
    shutil.copytree(BEFORE, copy)
    monkeypatch.chdir(copy)
    sys.modules.pop("before_nets", None)  # of another test's copy
    importlib.invalidate_caches()
    return copy


def finished(main, *words):
    """Run a program in this process; it must succeed."""
    with pytest.raises(SystemExit) as ended:
        main(list(words))
    assert not ended.value.code


def losses_of(path, first, count):
    """(points,) mean loss of the examples `first`, `first + 1`, ... at every point of a file: by numpy, in float64."""
    vectors = {}
    with h5py.File(path) as file:
        for name in ("center", "alpha", *(["beta"] if "beta" in file else [])):
            vectors[name] = file[f"directions/{name}"][...].astype(np.float64)
        alpha = file["alpha"][...]
        beta = file["beta"][...] if "beta" in file else np.zeros(1)
    numbers = np.arange(first, first + count)
    inputs = np.stack([numbers * step % 7 for step in range(1, 6)], axis=1) - 3.0
    found = []
    for a, b in ((a, b) for a in alpha for b in beta):
        flat = vectors["center"] + a * vectors["alpha"] + b * vectors.get("beta", 0.0)
        hidden = np.tanh(inputs @ flat[:30].reshape(6, 5).T + flat[30:36])
        outputs = hidden @ flat[36:54].reshape(3, 6).T + flat[54:]
        right = outputs[np.arange(count), numbers**2 % 3]
        found.append(np.mean(np.log(np.exp(outputs).sum(axis=1)) - right))
    return np.array(found)


@pytest.mark.parametrize("name", SURFACES)
def test_a_surface_is_read_as_it_was_written(name):
    shape, tiles, done = SURFACES[name]
    found = read_surface(BEFORE / name)
    assert found.values["train_loss"].shape == shape
    assert verify_tiles(BEFORE / name) == (tiles, done, 0)
    assert (found.progress == 1) == (name != "unfinished.h5")
    vector, tensors = read_direction(BEFORE / name, "alpha")
    assert vector.tolist() == np.load(BEFORE / "alpha.npy").tolist()
    assert tensors == ["first.weight", "first.bias", "second.weight", "second.bias"]


@pytest.mark.parametrize("name", ["finished.h5", "line.h5"])
def test_the_losses_in_it_are_those_of_the_network(name):
    found = read_surface(BEFORE / name)
    for split, first, count in (("train", 0, 60), ("test", 1000, 24)):
        expected = losses_of(BEFORE / name, first, count)
        assert found.values[f"{split}_loss"].reshape(-1) == pytest.approx(expected, rel=CLOSE)


@pytest.mark.parametrize("name", [*SURFACES, *HISTORIES])
def test_inspect_and_plotting_take_it(name, tmp_path, capsys):
    finished(inspect.main, str(BEFORE / name), "--json")
    assert json.loads(capsys.readouterr().out)["title"] == "Perceptron on data"
    assert draw([str(BEFORE / name), "--output", str(tmp_path)]) == 0
    assert any(tmp_path.iterdir())


@pytest.mark.parametrize(("name", "epochs"), HISTORIES.items())
def test_a_history_is_read_as_it_was_written(name, epochs):
    found = read_history(BEFORE / name)
    assert np.isfinite(found.values["train_loss"]).sum() == epochs + 1
    assert found.attributes["title"] == "Perceptron on data"


def test_an_unfinished_surface_is_gone_on_with(folder):
    with h5py.File("unfinished.h5") as file:
        before = {name: file[f"tiles/{name}_sums"][...] for name in ("train", "test")}
    finished(surface.main, "study.yaml", "--output", "unfinished.h5")
    assert verify_tiles("unfinished.h5") == (32, 32, 0)
    with h5py.File("unfinished.h5") as file:
        for name, sums in before.items():
            kept = ~np.isnan(sums[..., 0])
            assert 0 < kept.sum() < kept.size
            assert np.array_equal(file[f"tiles/{name}_sums"][...][kept], sums[kept]), "what was done is kept"
    found, whole = (read_surface(each).values for each in ("unfinished.h5", "finished.h5"))
    for name, values in whole.items():
        assert found[name] == pytest.approx(values, rel=CLOSE), name


@pytest.mark.parametrize(
    ("name", "words", "said"),
    [
        ("finished.h5", ("--output", "finished.h5"), "complete"),
        ("line.h5", ("--line", "--output", "line.h5"), "complete"),
        ("sampled.h5", (*SAMPLED, "--relative-error", "0.03"), "after 27.4 % of the evaluations"),
    ],
)
def test_a_finished_surface_is_left_as_it_is(name, words, said, folder, capsys):
    finished(surface.main, "study.yaml", *words)
    assert Path(name).read_bytes() == (BEFORE / name).read_bytes()
    assert said in capsys.readouterr().out


def test_a_surface_of_samples_goes_on_to_exact_values(folder):
    finished(surface.main, "study.yaml", *SAMPLED)
    found = read_surface("sampled.h5").values
    assert not found["train_loss_stderr"].any()
    assert found["train_loss"].reshape(-1) == pytest.approx(losses_of("sampled.h5", 0, 4096), rel=CLOSE)


def test_another_run_is_still_refused(folder, capsys):
    with pytest.raises(SystemExit) as ended:
        surface.main(["study.yaml", "--alpha=-1:1.5:7", "--output", "unfinished.h5"])
    assert ended.value.code == 2
    assert "belongs to another run, which differs in grid" in capsys.readouterr().err


def test_a_finished_training_is_left_as_it_is(folder):
    finished(train.main, "study.yaml")
    for path in sorted((BEFORE / "training").iterdir()):
        assert (folder / "training" / path.name).read_bytes() == path.read_bytes(), path.name


def test_an_unfinished_training_is_gone_on_with(folder):
    finished(train.main, "study.yaml", "--set", "training.output=unfinished_training")
    assert not Path("unfinished_training/state.pt").exists()
    found, whole = (read_history(f"{each}/history.h5").values for each in ("unfinished_training", "training"))
    for name in whole.keys() - {"seconds"}:
        assert found[name] == pytest.approx(whole[name], rel=1e-5), name  # twenty steps of float32
