"""Two solutions connected by the program: barriers, bits, resuming, refusals, and what is in its file."""

from __future__ import annotations

import itertools
import json
import os
import shlex
import shutil
import signal
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
import yaml
from torch.optim.swa_utils import update_bn

from mpi_landscape import connect, inspect, surface, train
from mpi_landscape.configuration.sections.sources import DataConfiguration
from mpi_landscape.connections import finding, losses
from mpi_landscape.connections.searching import band, string, trained
from mpi_landscape.problem.datasets.table import build_splits
from mpi_landscape.problem.networks.resnet import resnet
from mpi_landscape.storage.connection.reader import read_connection
from mpi_landscape.storage.surface.reader import read_surface
from plotting.__main__ import main as draw
from tests.connections.potentials import ENDS, energies
from tests.exhaustive import rows

MLP = {
    "model": {"name": "mlp", "arguments": {"hidden": [32], "input_size": [1, 8, 8]}},
    "data": {"name": "digits"},
}
RESNET = {
    "model": {"name": "resnet8", "arguments": {"input_size": [1, 8, 8], "width": 4}},
    "data": {"name": "digits", "arguments": {"limit": 120}},
}
CPU = {"compute": {"device": "cpu", "threads": 1}}
SHORT = {
    "bezier": {"epochs": 3, "batch_size": 40, "piece_size": 20, "learning_rate": 0.02},
    "polygon": {"epochs": 3, "batch_size": 40, "bends": 2, "learning_rate": 0.02},
    "string": {"steps": 6, "pivots": 3, "batch_size": 40, "learning_rate": 0.02, "momentum": 0.5},
    "autoneb": {
        "cycles": [{"steps": 3, "learning_rate": 0.02}, {"steps": 3, "learning_rate": 0.01}],
        "pivots": 2, "batch_size": 40, "threshold": 0.01, "between": 2,
    },
}  # fmt: skip


def run(program, *arguments):
    """A program in this process; its exit status."""
    with pytest.raises(SystemExit) as ended:
        program.main([str(each) for each in arguments])
    return ended.value.code


def two_seeds(folder, base, **training):
    text = {
        **base,
        "training": {"output": f"{folder}/seeds", "seed": [1, 2], "checkpoint_every": 99, **training},
    }
    (folder / "train.yaml").write_text(yaml.safe_dump({**text, **CPU}))
    assert run(train, folder / "train.yaml") == 0
    return [f"{folder}/seeds/seed={seed}/final.pt" for seed in (1, 2)]


@pytest.fixture(scope="module")
def mlps(tmp_path_factory):
    return two_seeds(tmp_path_factory.mktemp("mlp"), MLP, epochs=25, batch_size=64, weight_decay=0)


@pytest.fixture(scope="module")
def resnets(tmp_path_factory):
    return two_seeds(tmp_path_factory.mktemp("resnet"), RESNET, epochs=4, batch_size=40, learning_rate=0.05)


def written(folder, base, ends, *, method="bezier", num_points=5, compute=None, **options):
    """A configuration, and where its file will be."""
    said = {"start": ends[0], "end": ends[1], "method": method, "num_points": num_points, **options}
    output = folder / f"{method}.h5"
    text = {**base, "connect": said, "output": str(output), "compute": {**CPU["compute"], **(compute or {})}}
    path = folder / f"{method}.yaml"
    path.write_text(yaml.safe_dump(text))
    return path, output


LONG = {
    "bezier": {"epochs": 25, "batch_size": 64, "learning_rate": 0.1, "weight_decay": 0.0},
    "polygon": {"epochs": 25, "batch_size": 64, "learning_rate": 0.1, "weight_decay": 0.0},
    "autoneb": {
        "cycles": [{"steps": 60, "learning_rate": 0.1}] * 3 + [{"steps": 60, "learning_rate": 0.02}],
        "batch_size": 64, "weight_decay": 0.0, "between": 3,
    },
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "options"), rows({name: (name, said) for name, said in LONG.items()}, "bezier", "autoneb")
)
def test_a_path_between_two_seeds_has_a_tenth_of_the_straight_lines_barrier(tmp_path, mlps, method, options):
    path, output = written(tmp_path, MLP, mlps, method=method, num_points=41, **options)
    assert run(connect, path) == 0
    found = read_connection(output).barriers
    assert found["line_barrier_train"] > 0.1
    assert found["barrier_train"] <= found["line_barrier_train"] / 10


def numbers(path):
    """Every number that is computed, as bytes."""
    with h5py.File(path) as file:
        found = {}

        def note(name, item):
            if isinstance(item, h5py.Dataset) and item.dtype.kind == "f":
                found[name] = item[...].tobytes()

        file.visititems(note)
    return found


@pytest.mark.mpi
@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "sizes"),
    rows(
        {
            "bezier": ("bezier", (1, 3)),
            "autoneb": ("autoneb", (1, 2)),
            "autoneb, more": ("autoneb", (1, 3, 5)),
            "string": ("string", (1, 3)),
            "polygon": ("polygon", (1, 2)),
        },
        "bezier",
        "autoneb",
    ),
)
def test_any_number_of_ranks_and_either_writer_give_the_same_bits(tmp_path, standing, resnets, method, sizes):
    writers = ["root", "parallel"] if h5py.get_config().mpi else ["root"]
    reference = None
    for size in sizes:
        for writer in writers if size > 1 else ["root"]:
            folder = tmp_path / f"{size}_{writer}"
            folder.mkdir()
            path, output = written(folder, RESNET, resnets, method=method, **SHORT[method])
            done = standing(size, "-m", "mpi_landscape.connect", path, "--writer", writer)
            assert done.returncode == 0, done.stderr
            controls = torch.load(folder / method / "path.pt")["controls"].numpy().tobytes()
            found = (numbers(output), controls)
            reference = reference or found
            assert found == reference, f"{size} ranks, {writer} writer"


SEARCHES = {
    "bezier": trained.TrainedCurve,
    "polygon": trained.TrainedCurve,
    "string": string.String,
    "autoneb": band.Band,
}


class Killed(BaseException):
    """What nothing catches."""


@pytest.mark.parametrize("method", SHORT)
def test_a_path_that_was_killed_goes_on_to_the_same_bits(tmp_path, mlps, monkeypatch, method):
    base = {**MLP, "data": {"name": "digits", "arguments": {"limit": 120}}}
    folders = [tmp_path / name for name in ("whole", "killed")]
    files = []
    for folder in folders:
        folder.mkdir()
        files.append(written(folder, base, mlps, method=method, **SHORT[method]))
    assert run(connect, files[0][0]) == 0
    monkeypatch.setattr(finding, "_SAVE", 0.0)
    take, count = SEARCHES[method].take, [0]

    def killed(self, answers):
        count[0] += 1
        if count[0] in (3, 6):
            raise Killed
        take(self, answers)

    row, rows_made = losses.Along.row, [0]

    def killed_later(self, t, between):
        rows_made[0] += 1
        if rows_made[0] == 3:
            raise Killed
        return row(self, t, between)

    monkeypatch.setattr(SEARCHES[method], "take", killed)
    monkeypatch.setattr(losses.Along, "row", killed_later)
    for _ in range(3):
        with pytest.raises(Killed):
            connect.main([str(files[1][0])])
    unfinished = read_connection(files[1][1])
    assert int(unfinished.done.sum()) == 2
    assert np.isnan(unfinished.barriers["barrier_train"])
    assert run(connect, files[1][0]) == 0
    assert numbers(files[1][1]) == numbers(files[0][1])
    for pivot in sorted((folders[0] / method).glob("pivot_*.pt")):
        one, two = (torch.load(each)["state_dict"] for each in (pivot, folders[1] / method / pivot.name))
        assert all(torch.equal(one[name], two[name]) for name in one)


def test_a_signal_stops_it_between_two_steps_with_the_status_to_go_on(tmp_path, mlps, monkeypatch, capsys):
    path, output = written(tmp_path, MLP, mlps, method="string", **SHORT["string"])
    take = string.String.take

    def signaled(self, answers):
        take(self, answers)
        if self.step == 2:
            os.kill(os.getpid(), signal.SIGUSR1)

    monkeypatch.setattr(string.String, "take", signaled)
    assert run(connect, path) == 75
    assert "stopped by SIGUSR1; run the same command again to go on" in capsys.readouterr().out
    assert torch.load(tmp_path / "string" / "path.pt")["step"] == 2
    assert not output.exists()
    assert run(connect, path) == 0
    assert read_connection(output).done.all()


def test_a_finished_file_is_left_as_it_is(tmp_path, mlps, capsys):
    path, output = written(tmp_path, MLP, mlps, method="string", **SHORT["string"])
    assert run(connect, path) == 0
    before = output.stat().st_mtime_ns, capsys.readouterr().out.splitlines()[-1]
    assert run(connect, path) == 0
    assert (output.stat().st_mtime_ns, capsys.readouterr().out.splitlines()[-1]) == before


def test_another_path_is_refused_and_overwritten_when_asked(tmp_path, mlps, capsys):
    path, output = written(tmp_path, MLP, mlps, method="string", **SHORT["string"])
    assert run(connect, path) == 0
    assert run(connect, path, "--set", "connect.pivots=2") == 2
    assert "differs in pivots (file: 3; now: 2)" in capsys.readouterr().err
    assert run(connect, path, "--set", "connect.num_points=7") == 2
    assert "differs in num_points (file: 5; now: 7)" in capsys.readouterr().err
    assert run(connect, path, "--set", "connect.pivots=2", "--overwrite") == 0
    assert len(read_connection(output).pivots.t) == 4
    # The path is kept: of the file alone, losses at other points are made without seeking it again.
    output.unlink()
    capsys.readouterr()
    assert run(connect, path, "--set", "connect.pivots=2", "--set", "connect.num_points=3") == 0
    assert "steps" not in capsys.readouterr().err


@pytest.fixture
def potential(tmp_path):
    """A configuration of two parameters in a potential, as a user has it."""

    def made(name, **options):
        ends = []
        for number, end in enumerate(ENDS[name]):
            ends.append(f"{tmp_path}/{name}_{number}.pt")
            torch.save({"w": torch.tensor(end, dtype=torch.float64)}, ends[-1])
        base = {
            "model": {"target": "tests.connections.potentials:particle", "arguments": {"potential": name}},
            "loss": {"target": "tests.connections.potentials:loss"},
            "data": {"name": "constant"},
        }
        return written(tmp_path, base, ends, compute={"precision": "float64"}, **options)

    return made


def test_the_straight_line_is_a_dense_scan_of_a_users_own_potential(potential):
    path, output = potential("mueller_brown", method="line", num_points=301)
    assert run(connect, path) == 0
    found = read_connection(output)
    a, b = map(np.array, ENDS["mueller_brown"])
    wanted = energies("mueller_brown", a + found.t[:, None] * (b - a))
    np.testing.assert_allclose(found.values["train_loss"], wanted, rtol=1e-12)
    np.testing.assert_array_equal(found.values["line_train_loss"], found.values["train_loss"])
    np.testing.assert_allclose(found.length, found.t * np.linalg.norm(b - a))
    assert found.barriers["barrier_train"] == pytest.approx(wanted.max() - max(wanted[0], wanted[-1]))


def test_a_string_of_a_users_own_potential_passes_its_saddle(potential):
    path, output = potential(
        "double_well", method="string", num_points=101, pivots=9, steps=150, learning_rate=0.05
    )
    assert run(connect, path) == 0
    found = read_connection(output)
    assert found.barriers["barrier_train"] == pytest.approx(1.0, abs=0.01)
    assert found.barriers["line_barrier_train"] == pytest.approx(3.0, abs=1e-9)
    assert found.attributes["gradient_passes"] == 9 * 150
    assert np.abs(np.diff(found.pivots.t) - 0.1).max() < 1e-12


def test_a_path_that_leads_to_no_number_says_where(potential, capsys):
    path, _ = potential("mueller_brown", method="string", pivots=3, steps=50, learning_rate=10.0)
    assert run(connect, path) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1 or "%" in message
    assert "connect: the training loss is" in message
    assert "of the path, after" in message


def network_of(state):
    model = resnet(depth=8, width=4, input_size=(1, 8, 8))
    model.load_state_dict(state)
    return model.eval()


def data_of():
    """The digits as the program has them."""
    data = DataConfiguration(name="digits", arguments={"limit": 120})
    splits = build_splits(data, where="test", folders=[])
    return {
        split: tuple(torch.utils.data.default_collate([each[k] for k in range(len(each))]))
        for split, each in splits.items()
    }


def mean_loss(model, x, y):
    with torch.no_grad():
        return torch.nn.functional.cross_entropy(model(x), y).item()


@pytest.mark.parametrize("how", ["stored", "interpolated", "recomputed"])
def test_statistics_of_batch_normalization_at_the_ends_and_between(tmp_path, resnets, how):
    path, output = written(
        tmp_path, RESNET, resnets, method="line", num_points=3, compute={"batch_norm": how, "batch_size": 30}
    )
    assert run(connect, path) == 0
    found, data = read_connection(output), data_of()
    states = [torch.load(each)["state_dict"] for each in resnets]
    for number, t in enumerate((0.0, 0.5, 1.0)):
        mixed = {
            name: states[0][name] * (1 - t) + states[1][name] * t
            if states[0][name].is_floating_point()
            else states[0][name]
            for name in states[0]
        }
        model = network_of(mixed)
        if how == "stored":
            nearer = states[0] if t < 0.5 else states[1]
            for name, buffer in model.named_buffers():
                buffer.copy_(nearer[name])
        if how == "recomputed":
            update_bn(data["train"][0].split(30), model)
            model.eval()
        for split, (x, y) in data.items():
            assert found.values[f"{split}_loss"][number] == pytest.approx(mean_loss(model, x, y), rel=1e-4)
    assert found.attributes["batch_norm"] == how


def test_of_a_network_with_batch_normalization_statistics_are_made_anew_and_it_is_said(
    tmp_path, resnets, capsys
):
    path, output = written(tmp_path, RESNET, resnets, method="polygon", **{**SHORT["polygon"], "bends": 1})
    assert run(connect, path) == 0
    said = capsys.readouterr().out
    assert "batch norm  recomputed: of a pass over the training data at every point" in said
    found = read_connection(output)
    # The checkpoints of the path are networks with the same statistics: what it says of them is so.
    data = data_of()
    for t, file in zip(found.pivots.t, found.pivots.checkpoints, strict=True):
        model = network_of(torch.load(file)["state_dict"])
        place = int(np.argmin(abs(found.t - t)))
        assert found.t[place] == t
        for split, (x, y) in data.items():
            assert found.values[f"{split}_loss"][place] == pytest.approx(mean_loss(model, x, y), rel=1e-4)
    (command,) = [
        line.partition("plane ")[2].strip() for line in said.splitlines() if line.startswith("plane")
    ]
    assert found.attributes["plane_command"] == command
    program, _, arguments = command.partition("mpi_landscape.surface ")
    assert program == "python -m "
    words = [each for each in shlex.split(arguments) if not each.startswith(("--alpha", "--beta"))]
    assert run(surface, *words, "--alpha=0:1:2", "--beta=0:1:3") == 0
    plane = read_surface(output.with_name("polygon_plane.h5")).values["train_loss"]
    along = found.values["train_loss"]
    wanted = [along[0], along[-1], along[np.flatnonzero(found.t == 0.5)[0]]]
    np.testing.assert_allclose([plane[0, 0], plane[1, 0], plane[0, 2]], wanted, rtol=1e-4)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, mlps):
    folder = tmp_path_factory.mktemp("finished")
    path, output = written(folder, MLP, mlps, method="autoneb", **SHORT["autoneb"])
    assert run(connect, path) == 0
    return output


def test_xarray_opens_the_file(finished):
    xarray = pytest.importorskip("xarray")
    found = read_connection(finished)
    with xarray.open_dataset(finished, engine="h5netcdf") as opened:
        np.testing.assert_array_equal(opened.t, found.t)
        assert opened.train_loss.dims == ("t",)
        assert opened.train_loss.attrs["units"] == "nats per example"
        for name, value in found.barriers.items():
            assert float(opened[name]) == value
    made = found.to_xarray()
    np.testing.assert_array_equal(made.line_test_accuracy, found.values["line_test_accuracy"])


def test_the_length_is_that_of_the_checkpoints(finished):
    found = read_connection(finished)
    states = [torch.load(each)["state_dict"] for each in found.pivots.checkpoints]
    flat = [torch.cat([each.flatten() for each in state.values()]).double() for state in states]
    lengths = [0.0, *np.cumsum([(b - a).norm().item() for a, b in itertools.pairwise(flat)])]
    np.testing.assert_allclose(np.interp(found.pivots.t, found.t, found.length), lengths, rtol=1e-5)
    assert found.attributes["line_length"] == pytest.approx((flat[-1] - flat[0]).norm().item())


def test_inspect_tells_of_a_path(finished, capsys):
    assert run(inspect, finished) == 0
    text = capsys.readouterr().out
    found = read_connection(finished)
    assert f"barrier train    {found.barriers['barrier_train']:.6g}" in text
    assert "path             autoneb" in text
    assert run(inspect, finished, "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["barriers"]["line_barrier_test"] == found.barriers["line_barrier_test"]
    assert facts["progress"] == {"points": len(found.t), "points_done": len(found.t)}
    assert run(inspect, finished, "--weight-decay", "0.1") == 2


def test_a_picture_is_drawn_of_it(finished, tmp_path, capsys):
    assert draw([str(finished), "--output", f"{tmp_path}/path.png"]) == 0
    assert (tmp_path / "path.png").stat().st_size > 10_000
    assert draw([str(finished), "--kind", "contour"]) == 2
    assert "valid here: path" in capsys.readouterr().err


REFUSED = {
    "no section": (lambda said: said.pop("connect"), "has no section connect"),
    "no output": (lambda said: said.pop("output"), "output is not given"),
    "no such file": (lambda said: said["connect"].update(end="none.pt"), "none.pt: "),
    "an option of another method": (
        lambda said: said["connect"].update(pivots=3),
        "connect.pivots does not belong to method bezier; what this method has: batch_size",
    ),
    "a method that is none": (
        lambda said: said["connect"].update(method="geodesic"),
        "connect.method is 'geodesic'; expected line, bezier, polygon, string or autoneb",
    ),
    "the same ends": (
        lambda said: said["connect"].update(end=said["connect"]["start"]),
        "start and end have the same trained parameters",
    ),
    "another network": (
        lambda said: said["model"]["arguments"].update(hidden=[16]),
        "connect.start: ",
    ),
    "a batch larger than the data": (
        lambda said: said["connect"].update(batch_size=5000),
        "connect.batch_size is 5000, but the split train has 1442 examples",
    ),
    "samples": (lambda said: said["compute"].update(relative_error=0.1), "compute.relative_error is 0.1"),
    "bfloat16": (lambda said: said["compute"].update(precision="bfloat16"), "compute.precision is bfloat16"),
    "no data to find it on": (lambda said: said["data"].update(splits=["test"]), "data has no split 'train'"),
}


@pytest.mark.parametrize(("change", "words"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_is_refused_in_a_line(tmp_path, mlps, capsys, change, words):
    path, output = written(tmp_path, MLP, mlps, **{**SHORT["bezier"], "batch_size": 64})
    said = yaml.safe_load(path.read_text())
    change(said)
    path.write_text(yaml.safe_dump(said))
    assert run(connect, path) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert words in line
    assert not output.exists()


def test_an_end_of_another_network_is_refused_by_its_first_difference(tmp_path, mlps, capsys):
    state = torch.load(mlps[1])["state_dict"]
    name = next(iter(state))
    state[name] = state[name][:-1]
    torch.save(state, tmp_path / "other.pt")
    path, _ = written(tmp_path, MLP, [mlps[0], f"{tmp_path}/other.pt"], **SHORT["bezier"])
    assert run(connect, path) == 2
    assert f"connect.end: {tmp_path}/other.pt: does not fit the network: {name} " in capsys.readouterr().err


def test_a_file_of_another_kind_is_not_replaced(tmp_path, mlps, capsys):
    path, output = written(tmp_path, MLP, mlps, **SHORT["bezier"])
    shutil.copy(Path(mlps[0]).with_name("history.h5"), output)
    assert run(connect, path) == 2
    assert "not a file of a path" in capsys.readouterr().err
    assert run(surface, path, "--line", "--output", output) == 2


def test_a_state_of_another_path_is_refused(tmp_path, mlps, capsys):
    path, output = written(tmp_path, MLP, mlps, **SHORT["bezier"])
    output.with_suffix("").mkdir()
    (output.with_suffix("") / "path.pt").write_bytes(b"nothing")
    assert run(connect, path) == 2
    assert "path.pt: is not a checkpoint of torch.save" in capsys.readouterr().err


def test_an_aligned_end_is_nearer_and_the_same_network(tmp_path, mlps):
    path, output = written(tmp_path, MLP, mlps, method="line", num_points=21)
    assert run(connect, path) == 0
    apart = read_connection(output)
    together = f"{tmp_path}/together.h5"
    assert run(connect, path, "--set", "connect.align=permutation", "--output", together) == 0
    found = read_connection(together)
    assert found.length[-1] < apart.length[-1]
    np.testing.assert_allclose(
        found.values["train_loss"][[0, -1]], apart.values["train_loss"][[0, -1]], rtol=1e-4
    )
    assert found.barriers["barrier_train"] < apart.barriers["barrier_train"] / 2


def test_checkpoints_of_another_line_are_replaced(tmp_path, mlps):
    path, output = written(tmp_path, MLP, mlps, method="line")
    assert run(connect, path) == 0
    first = torch.load(tmp_path / "line" / "pivot_000.pt")["state_dict"]
    output.unlink()
    assert run(connect, path, "--set", f"connect.start={mlps[1]}", "--set", f"connect.end={mlps[0]}") == 0
    last = torch.load(tmp_path / "line" / "pivot_001.pt")["state_dict"]
    assert all(torch.equal(first[name], last[name]) for name in first)


def test_a_line_on_which_the_loss_is_no_number_says_where(tmp_path, capsys):
    ends = []
    for number, scale in enumerate((1e-3, 3e38)):
        ends.append(f"{tmp_path}/{number}.pt")
        torch.save({"factors": torch.tensor([scale, scale])}, ends[-1])
    base = {"model": {"name": "product2"}, "loss": "mse", "data": {"name": "constant"}}
    path, output = written(tmp_path, base, ends, method="line", num_points=3)
    assert run(connect, path) == 0
    assert "warning: train_loss is inf at t = 0.5, and at 2 points in all" in capsys.readouterr().out
    assert np.isinf(read_connection(output).values["train_loss"]).tolist() == [False, True, True]


def test_a_dry_run_writes_nothing(tmp_path, mlps, capsys):
    path, _output = written(tmp_path, MLP, mlps, **SHORT["bezier"])
    before = set(tmp_path.iterdir())
    assert run(connect, path, "--dry-run") == 0
    assert "path        bezier: 3 epochs of 37 steps, batches of 40 in 2 pieces" in capsys.readouterr().out
    assert set(tmp_path.iterdir()) == before
