"""What `inspect` says against what was put into the file."""

import json
import subprocess
import sys

import h5py
import numpy as np

from mpi_landscape import inspect, surface


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
