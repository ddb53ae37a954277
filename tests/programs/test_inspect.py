"""What `inspect` says against what was put into the file."""

import json
import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from mpi_landscape import inspect, surface
from mpi_landscape.storage.history.records import HistoryWriter, create_history


def test_the_minimum_is_the_least_value_at_its_place(study, here):
    here(surface.main, study.configuration)
    facts = json.loads(here(inspect.main, study.output, "--json").out)
    with h5py.File(study.output, "r") as file:
        losses, alpha, beta = file["train_loss"][...], file["alpha"][...], file["beta"][...]
    least = min((losses[i, j], alpha[i], beta[j]) for i in range(7) for j in range(4))
    found = facts["quantities"]["train_loss"]["min"]
    assert (found["value"], *found["at"]) == least
    assert facts["progress"] == {"points": 1.0, "tiles": 20, "tiles_done": 20, "tiles_damaged": 0}
    assert facts["axes"]["alpha"] == {"min": -0.75, "max": 1.5, "num": 7}


def test_people_read_progress_minimum_certificate_and_identity(study, here):
    here(surface.main, study.configuration)
    text = here(inspect.main, study.output).out
    for words in (
        "100.0 % of the points, 20 of 20 tiles",
        "train_loss",
        "plain network",
        "cosine",
        "center: ",
    ):
        assert words in text


def test_an_unfinished_and_damaged_file_is_described_as_it_is(study, here):
    here(surface.main, study.configuration)
    with h5py.File(study.output, "r+") as file:
        file["tiles/status"][10:] = 0
        file["tiles/train_sums"][0, 0, 0] += 1
        file["train_loss"][0, 0] = np.nan
    facts = json.loads(here(inspect.main, study.output, "--json").out)
    # Five chunks of three points on two splits, less the one whose value is missing although its sums are there.
    assert facts["progress"]["points"] == 29 / 56
    assert facts["progress"]["tiles_done"] == 10
    assert facts["progress"]["tiles_damaged"] == 1
    assert facts["quantities"]["train_loss"]["done"] == 14
    assert "1 damaged" in here(inspect.main, study.output).out


def test_what_is_left_is_said_with_the_command_that_goes_on(study, contents, computed, here, monkeypatch):
    computed()
    reference = contents(study.output)
    study.output.unlink()
    options = ["--overwrite", "--set", "compute.threads=1"]
    monkeypatch.setattr(sys, "argv", [surface.__file__, str(study.configuration), *options])
    computed(*options)
    with h5py.File(study.output, "r+") as file:
        file["tiles/status"][15:] = 0
        file["tiles/train_sums"][0, 0, 0] += 1

    def inspected(*arguments):
        ended = here(inspect.main, study.output, *arguments)
        assert ended.status == 0, ended.err
        return ended.out

    left = json.loads(inspected("--json"))["left"]
    assert left["tiles"] == 6
    assert f"cd {study.folder} && python -m mpi_landscape.surface {study.configuration}" in left["command"]
    assert "--overwrite" not in left["command"]
    assert left["command"] in inspected()
    # As a person would, but with this interpreter.
    again = left["command"].replace("&& python ", f"&& {sys.executable} ")
    house = str(Path(surface.__file__).parents[1])
    subprocess.run(
        again, shell=True, check=True, capture_output=True, env={**os.environ, "PYTHONPATH": house}
    )
    assert contents(study.output) == reference
    assert "left" not in json.loads(inspected("--json"))


def test_json_has_no_number_that_json_does_not_know(study, here):
    study.edit_module("return model(batch[0])", "return model(batch[0]) * float('nan')")
    here(surface.main, study.configuration)

    def refuse(text):
        raise AssertionError(f"{text} is not JSON")

    json.loads(here(inspect.main, study.output, "--json").out, parse_constant=refuse)


def test_a_file_that_is_none_is_refused_in_one_line(study, here):
    for name in ("absent.h5", study.configuration, "."):
        ended = here(inspect.main, name)
        assert ended.status == 2
        assert len(ended.err.splitlines()) == 1
        assert str(name) in ended.err


def test_a_reader_that_has_enough_is_no_error(study, here):
    here(surface.main, study.configuration)
    command = f"{sys.executable} -m mpi_landscape.inspect {study.output} | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert done.stdout.count("\n") == 1


# Epoch: learning rate, weight norm, seconds, train loss, test loss, test accuracy; phase 1 begins with epoch 3.
EPOCHS = {
    0: (0.0, 5.5, np.nan, 2.5, 2.75, 0.125),
    1: (0.1, 6.5, 4.0, 1.5, 1.25, 0.5),
    2: (0.1, 6.25, 1.0, 0.75, 1.0, 0.75),
    3: (0.01, 6.0, 2.0, 0.5, 1.125, 0.625),
}
COLUMNS = ("learning_rate", "weight_norm", "seconds", "train_loss", "test_loss", "test_accuracy")


@pytest.fixture
def history(tmp_path):
    """Three of eight epochs of a training without train accuracies."""
    path = tmp_path / "history.h5"
    attributes = {"title": "toy network", "identity_model": "toy", "host": "node1", "configuration": "a: 1"}
    create_history(path, num_epochs=8, splits=("train", "test"), attributes=attributes)
    with HistoryWriter(path) as writer:
        for number, row in EPOCHS.items():
            writer.record(number, dict(zip(COLUMNS, row, strict=True)), phase=number // 3)
    return path


def test_a_history_tells_its_progress_best_and_last_values(history, here):
    facts = json.loads(here(inspect.main, history, "--json").out)
    assert facts["title"] == "toy network"
    assert facts["progress"] == {"epochs": 8, "epochs_done": 3, "phases_begun": 2}
    assert facts["quantities"]["train_loss"] == {
        "known": 4,
        "infinite": 0,
        "last": {"value": 0.5, "epoch": 3},
        "best": {"value": 0.5, "epoch": 3},
    }
    assert facts["quantities"]["test_loss"]["best"] == {"value": 1.0, "epoch": 2}
    assert facts["quantities"]["test_accuracy"]["best"] == {"value": 0.75, "epoch": 2}
    assert facts["quantities"]["test_accuracy"]["last"] == {"value": 0.625, "epoch": 3}
    assert facts["quantities"]["train_accuracy"]["known"] == 0
    assert facts["learning_rate"] == {"value": 0.01, "epoch": 3}
    assert facts["weight_norm"] == {"first": {"value": 5.5, "epoch": 0}, "last": {"value": 6.0, "epoch": 3}}
    assert facts["seconds"] == {"median": 2.0, "sum": 7.0}
    assert facts["identity"] == {"model": "toy"}
    assert facts["provenance"]["host"] == "node1"


def test_people_read_of_a_history_what_programs_do(history, here):
    lines = here(inspect.main, history).out.splitlines()
    assert lines[0] == f"{history}: toy network"
    for line in (
        "progress         3 of 8 epochs, phase 2",
        "test_loss        1.125 at epoch 3, best 1 at epoch 2",
        "test_accuracy    0.625 at epoch 3, best 0.75 at epoch 2",
        "learning rate    0.01 at epoch 3",
        "weight norm      5.5 at epoch 0, 6 at epoch 3",
        "seconds          2 per epoch (median), 7 in all",
        "  host: node1",
    ):
        assert line in lines
    assert not [line for line in lines if "train_accuracy" in line or "configuration" in line]


def test_a_history_in_which_nothing_is_done_is_described_too(tmp_path, here):
    path = tmp_path / "history.h5"
    create_history(path, num_epochs=2, splits=("train",), attributes={})
    assert "progress         0 of 2 epochs" in here(inspect.main, path).out.splitlines()
    facts = json.loads(here(inspect.main, path, "--json").out)
    assert (facts["learning_rate"], facts["seconds"]) == (None, {})


def test_a_loss_that_became_infinite_is_named(tmp_path, here):
    path = tmp_path / "history.h5"
    create_history(path, num_epochs=2, splits=("train",), attributes={})
    with HistoryWriter(path) as writer:
        writer.record(0, {"train_loss": 3.0}, phase=0)
        writer.record(1, {"train_loss": np.inf}, phase=0)
    expected = "train_loss       inf at epoch 1, best 3 at epoch 0; 1 infinite"
    assert expected in here(inspect.main, path).out.splitlines()
    assert json.loads(here(inspect.main, path, "--json").out)["quantities"]["train_loss"]["last"] == {
        "value": "inf",
        "epoch": 1,
    }


def test_the_width_of_the_bowl_and_its_basin_are_told_with_every_file(study, here):
    here(surface.main, study.configuration)
    told = json.loads(here(inspect.main, study.output, "--rise", "0.7", "--json").out)["measures"]
    assert told["rise"] == 0.7
    assert told["losses"]["train_loss"]["minimum"]["value"] == pytest.approx(
        min(map(min, _losses(study.output).tolist()))
    )
    assert "rise 0.1, see --rise" in here(inspect.main, study.output).out
    pytest.importorskip("gudhi", reason="pip install gudhi: the extra persistence")
    text = here(inspect.main, study.output, "--persistence").out
    assert "1 basin of depth 0.1 or more, of 1 minima" in text
    assert text.count("joins no lower one") == 2


def _losses(path):
    with h5py.File(path, "r") as file:
        return file["train_loss"][...]


@pytest.mark.parametrize("rise", ["0", "-1", "nan", "much"])
def test_a_rise_that_is_none_is_refused(study, here, rise):
    here(surface.main, study.configuration)
    ended = here(inspect.main, study.output, f"--rise={rise}")
    assert ended.status == 2
    assert "expected a number above 0" in ended.err
