"""Surfaces of samples: against losses that are known at every point, stopped, continued, on many ranks."""

import json
import runpy
import signal
import subprocess
import sys
import textwrap

import h5py
import numpy as np
import pytest

import mpi_landscape
from mpi_landscape import inspect, surface
from mpi_landscape.storage.cells import Cells
from mpi_landscape.storage.surface.reader import read_surface, verify_tiles
from tests.exhaustive import rows, values
from tests.programs.conftest import FAR

# A linear network and a squared error: loss_i = (x_i · w - y_i)², known in closed form from the vectors in the file.
LINEAR = """
    import torch
    from torch import nn

    def build():
        model = nn.Linear(3, 1, bias=False)
        model.weight.data = torch.tensor([[0.9, -0.4, 0.3]])
        return model

    class Pairs:
        def __init__(self, count, seed):
            generator = torch.Generator().manual_seed(seed)
            self.inputs = torch.randn(count, 3, generator=generator).double()
            noise = torch.randn(count, generator=generator).double()
            self.targets = self.inputs @ torch.tensor([1.0, -0.5, 0.25]).double() + 0.1 * noise

        def __len__(self):
            return len(self.targets)

        def __getitem__(self, index):
            return self.inputs[index], self.targets[index]

    def data(train=8200, test=5000):
        return {"train": Pairs(train, 1), "test": Pairs(test, 2)}

    def loss(model, batch):
        return (model(batch[0])[:, 0] - batch[1]) ** 2
"""
CONFIGURATION = """
    model: {{target: "{module}:build"}}
    data: {{target: "{module}:data"}}
    loss: {{target: "{module}:loss"}}
    grid:
      alpha: [-0.75, 1.5, 7]
      beta: [0, 2, 4]
    compute: {{precision: float64, device: cpu}}
    output: {folder}/surface.h5
"""


@pytest.fixture
def study(study):
    """The study of this folder, with another network and enough examples to choose from."""
    (study.folder / f"{study.module}.py").write_text(textwrap.dedent(LINEAR))
    study.configuration.write_text(
        textwrap.dedent(CONFIGURATION).format(module=study.module, folder=study.folder)
    )
    return study


@pytest.fixture
def truth(study):
    """Per split, (num_alpha, num_beta, N) float64: the loss of each example, by numpy alone."""

    def make(path):
        space = runpy.run_path(str(study.folder / f"{study.module}.py"))
        with h5py.File(path, "r") as file:
            center, first, second = (
                file[f"directions/{name}"][...].astype(np.float64) for name in ("center", "alpha", "beta")
            )
            alpha, beta = file["alpha"][...], file["beta"][...]
        weights = center + alpha[:, None, None] * first + beta[None, :, None] * second
        return {
            split: (weights @ pairs.inputs.numpy().T - pairs.targets.numpy()) ** 2
            for split, pairs in space["data"]().items()
        }

    return make


@pytest.mark.parametrize("target", values([0.05, 0.02], 0.05))
def test_every_point_meets_the_target_and_the_truth_is_near(study, computed, truth, target):
    ended = computed("--relative-error", str(target))
    assert "of the evaluations of an exact surface" in ended.out
    found = read_surface(study.output)
    assert found.progress == 1
    assert found.target == target
    assert found.evaluations < (0.6 if target == 0.05 else 0.95)
    for split, losses in truth(study.output).items():
        loss, stderr = found.values[f"{split}_loss"], found.values[f"{split}_loss_stderr"]
        mean = losses.mean(axis=2)
        assert (stderr <= target * loss).all()
        assert found.relative_errors[split] == pytest.approx(np.max(stderr / loss), rel=1e-12)
        # Of one set of examples, so the points err together: here three standard errors for all of them.
        assert (np.abs(loss - mean) <= 3 * stderr).all()
        assert np.isnan(losses).sum() == 0


def test_the_file_says_how_large_a_loss_was_at_the_trial_points(study, computed, truth):
    computed("--relative-error", "0.05")
    with h5py.File(study.output) as file:
        # A grid of 28 points has one trial point, the center.
        center = np.flatnonzero(file["alpha"][...] == 0)[0], np.flatnonzero(file["beta"][...] == 0)[0]
        for split, losses in truth(study.output).items():
            found, strata = file[f"tiles/{split}_largest"][...], file[f"tiles/{split}_strata"][...]
            held = losses[center][file[f"tiles/{split}_order"][...]]
            stops = np.cumsum(file[f"tiles/{split}_examples"][...])[:-1]
            largest = np.array([part.max() for part in np.split(held, stops)])
            for stratum in set(strata):
                expected = largest[strata == stratum].max()
                assert found[strata == stratum] == pytest.approx(expected, rel=1e-9)


@pytest.mark.slow
@pytest.mark.exhaustive
def test_the_truth_is_within_two_standard_errors_at_nine_points_in_ten(study, computed, truth, monkeypatch):
    inside = []
    for seed in range(10):
        monkeypatch.setattr("mpi_landscape.surfaces.sampling._SEED", seed)
        output = study.folder / f"{seed}.h5"
        computed("--relative-error", "0.05", "--output", str(output))
        found = read_surface(output)
        for split, losses in truth(output).items():
            error = np.abs(found.values[f"{split}_loss"] - losses.mean(axis=2))
            inside.append((error <= 2 * found.values[f"{split}_loss_stderr"]).mean())
    assert np.mean(inside) >= 0.9


def test_continued_to_the_end_it_is_the_exact_surface_and_nothing_is_done_twice(
    study, computed, truth, monkeypatch
):
    computed("--output", str(study.folder / "direct.h5"))
    direct = read_surface(study.folder / "direct.h5")
    written = []
    write = Cells.write
    monkeypatch.setattr(
        Cells, "write", lambda self, item, row: (written.append(item), write(self, item, row))
    )
    for arguments in (["--relative-error", "0.05"], ["--relative-error", "0.02"], []):
        before = len(written)
        computed(*arguments)
        assert len(written) > before
    assert sorted(written) == list(range(verify_tiles(study.output)[0])), "a tile was evaluated twice"
    found = read_surface(study.output)
    assert found.evaluations == 1
    for split, losses in truth(study.output).items():
        assert (found.values[f"{split}_loss_stderr"] == 0).all()
        # The same float64 losses, added in another order: below 8,200 roundings of 1.1e-16.
        assert found.values[f"{split}_loss"] == pytest.approx(losses.mean(axis=2), rel=1e-12)
        assert found.values[f"{split}_loss"] == pytest.approx(direct.values[f"{split}_loss"], rel=1e-12)
    assert found.attributes["identity_data_train"] == direct.attributes["identity_data_train"]


# Ends itself at the n-th call of a function that writes, before it writes.
DYING = """
import os, signal
from mpi_landscape import surface
from mpi_landscape.storage.cells import Cells

write, left = Cells.{method}, [{count}]

def dying(*arguments):
    left[0] -= 1
    if left[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return write(*arguments)

Cells.{method} = dying
surface.main({arguments!r})
"""


FOUR = (("write", 30), ("publish", 5), ("write", 150), ("publish", 10))


@pytest.mark.parametrize("instants", rows({"once": [FOUR[2]], "four times": list(FOUR)}, "once"))
def test_killed_again_and_again_and_resumed_equals_undisturbed(study, contents, computed, instants):
    computed("--relative-error", "0.05", "--output", str(study.folder / "reference.h5"))
    done = 0
    for method, count in instants:
        arguments = [str(study.configuration), "--relative-error", "0.05"]
        text = DYING.format(method=method, count=count, arguments=arguments)
        ended = subprocess.run([sys.executable, "-c", text], cwd=study.folder, timeout=FAR, check=False)
        assert ended.returncode == -signal.SIGKILL
        tiles, before, damaged = verify_tiles(study.output)
        assert damaged == 0
        assert done < before < verify_tiles(study.folder / "reference.h5")[1] <= tiles
        done = before
    computed("--relative-error", "0.05")
    assert contents(study.output) == contents(study.folder / "reference.h5")


def test_a_time_limit_stops_it_and_the_rest_is_done_later(study, here, contents, computed):
    computed("--relative-error", "0.05", "--output", str(study.folder / "reference.h5"))
    # Before its first tile, on however slow a machine.
    stopped = here(surface.main, study.configuration, "--relative-error", "0.05", "--time-limit", "1e-9")
    assert stopped.status == 75
    assert "run the same command again" in stopped.out
    computed("--relative-error", "0.05")
    assert contents(study.output) == contents(study.folder / "reference.h5")


def test_values_that_a_kill_left_behind_are_written_again(study, contents, computed):
    computed("--relative-error", "0.05")
    reference = contents(study.output)
    with h5py.File(study.output, "r+") as file:
        # The loss of a later state was written, its standard error not yet; and a tile of a first state was lost.
        file["train_loss_stderr"][1, 1] = 7.0
        file["test_loss"][2, 2] = np.nan
        file["tiles/train_sums"][0, 5, 0] += 1
    computed("--relative-error", "0.05")
    assert contents(study.output) == reference


@pytest.mark.mpi
@pytest.mark.slow
@pytest.mark.parametrize("sizes", rows({"3 ranks": ([3],), "2 and 3 ranks": ([2, 3],)}, "3 ranks"))
def test_any_number_of_ranks_and_either_writer_give_the_same_bytes(
    study, standing, contents, sizes, computed
):
    computed("--relative-error", "0.05")
    reference = contents(study.output)
    writers = ["root", "parallel"] if h5py.get_config().mpi else ["root"]
    for size in sizes:
        for writer in writers:
            output = study.folder / f"{size}_{writer}.h5"
            arguments = ("--relative-error", "0.05", "--output", str(output), "--writer", writer)
            done = standing(size, "-m", "mpi_landscape.surface", study.configuration, *arguments)
            assert done.returncode == 0, done.stderr
            assert contents(output) == reference, f"{size} ranks, {writer} writer"
    # The exact rest on other ranks than the estimate.
    computed()
    done = standing(3, "-m", "mpi_landscape.surface", str(study.configuration), "--output", str(output))
    assert done.returncode == 0, done.stderr
    assert contents(output) == contents(study.output)


def test_a_finished_one_is_left_as_it_is_and_a_larger_target_is_met_already(study, computed):
    computed("--relative-error", "0.05")
    before = study.output.read_bytes()
    assert "of the evaluations" in computed("--relative-error", "0.05").out
    assert study.output.read_bytes() == before
    computed("--relative-error", "0.2")
    with h5py.File(study.output, "r") as file:
        assert file["tiles/target"][0] == 0.2
    assert read_surface(study.output).relative_errors["train"] <= 0.05


def test_an_exact_file_is_complete_or_refused(study, here, computed):
    computed()
    with h5py.File(study.output, "r+") as file:
        file["tiles/status"][1:] = 0
    refused = here(surface.main, study.configuration, "--relative-error", "0.05")
    assert refused.status == 2
    assert "was begun for exact values" in refused.err
    assert len(refused.err.splitlines()) == 1
    computed()
    assert "complete" in computed("--relative-error", "0.05").out


BAD = [
    (["--relative-error", "0"], "above 0 and below 1", "nothing is that exact"),
    (["--relative-error", "1"], "above 0 and below 1", "this says nothing"),
    (["--relative-error", "nan"], "above 0 and below 1", "no number"),
    (["--relative-error", "little"], "invalid", "no number"),
    (["--set", "compute.relative_error=2"], "above 0 and below 1", "in the configuration"),
    (["--relative-error", "0.1", "--set", "compute.data_shards=4"], "leave it auto", "two cuts of one split"),
]


@pytest.mark.parametrize(("arguments", "words", "reason"), BAD)
def test_bad_input_is_refused_in_one_line(study, here, arguments, words, reason):
    refused = here(surface.main, study.configuration, *arguments)
    assert refused.status == 2, reason
    assert words in refused.err, reason
    assert len(refused.err.splitlines()) == 1, reason
    assert not study.output.exists(), reason


def test_other_data_are_refused_and_named(study, here, computed):
    computed("--relative-error", "0.2")
    refused = here(surface.main, study.configuration, "--set", "data.arguments.train=8300")
    assert refused.status == 2
    assert "data_train (file: 8200 examples" in refused.err


def test_data_smaller_than_a_first_level_are_evaluated_whole(study, computed, truth):
    study.edit_module("train=8200, test=5000", "train=300, test=1")
    computed("--relative-error", "0.05")
    found = read_surface(study.output)
    assert found.evaluations == 1
    for split, losses in truth(study.output).items():
        assert found.values[f"{split}_loss"] == pytest.approx(losses.mean(axis=2), rel=1e-12)
        assert (found.values[f"{split}_loss_stderr"] == 0).all()


def test_several_points_in_a_tile_meet_the_target_too(study, computed, truth):
    computed("--relative-error", "0.05", "--set", "compute.points_per_tile=3")
    found = read_surface(study.output)
    for split, losses in truth(study.output).items():
        stderr = found.values[f"{split}_loss_stderr"]
        assert (stderr <= 0.05 * found.values[f"{split}_loss"]).all()
        assert (np.abs(found.values[f"{split}_loss"] - losses.mean(axis=2)) <= 3 * stderr).all()


def test_a_line_and_an_infinite_loss_come_to_an_end(study, computed):
    study.edit_module("- batch[1]) ** 2", "- batch[1]) ** 2 / (batch[1] < 2)")
    computed("--relative-error", "0.05", "--line")
    found = read_surface(study.output)
    assert found.progress == 1
    assert np.isinf(found.values["train_loss"]).all()


def test_inspect_tells_the_estimate_from_the_exact(study, here, computed):
    computed("--relative-error", "0.05")
    facts = json.loads(here(inspect.main, study.output, "--json").out)["sampling"]
    assert facts["target"] == 0.05
    assert facts["finished"]
    assert not facts["exact"]
    assert 0 < facts["evaluations"] < 1
    assert 0 < facts["relative_errors"]["test"] <= 0.05
    assert "finished for 5 %" in here(inspect.main, study.output).out
    ended = here(surface.main, study.configuration, "--relative-error", "0.01", "--time-limit", "1e-9")
    assert ended.status == 75
    assert "not finished for 1 %" in here(inspect.main, study.output).out
    computed()
    assert "the values are exact" in here(inspect.main, study.output).out


def test_a_picture_says_that_it_is_an_estimate(study, computed):
    from plotting.picture.field import field_of

    computed("--relative-error", "0.05")
    facts = field_of(read_surface(study.output), "train_loss").facts
    assert any("sampled: standard error ≤" in fact for fact in facts)
    computed()
    assert not any("sampled" in fact for fact in field_of(read_surface(study.output), "train_loss").facts)


def test_from_python(tmp_path):
    import torch
    from torch import nn
    from torch.utils.data import TensorDataset

    torch.manual_seed(0)
    data = TensorDataset(torch.randn(6000, 3), torch.arange(6000) % 4)
    call = {"alpha": (-1, 1, 5), "beta": (0, 1, 3), "output": tmp_path / "x.h5"}
    model = nn.Linear(3, 4)
    estimate = mpi_landscape.landscape(model, "cross_entropy", data, **call, relative_error=0.02)
    assert estimate.evaluations < 1
    assert 0 < estimate.relative_errors["train"] <= 0.02
    exact = mpi_landscape.landscape(model, "cross_entropy", data, **call)
    assert exact.evaluations == 1
    assert exact.relative_errors["train"] == 0
    apart = np.abs(estimate.values["train_loss"] - exact.values["train_loss"])
    assert (apart <= 4 * estimate.values["train_loss_stderr"]).all()
