"""The training program: checkpoints, history, seeds."""

import csv

import h5py
import pytest
import torch

from mpi_landscape import surface, train
from mpi_landscape.problem.checkpoints import read_state

CONFIGURATION = """
model: {{name: mlp, arguments: {{input_size: [1, 8, 8], hidden: [12]}}, checkpoint: {folder}/run/final.pt}}
data: {{name: digits}}
grid: {{alpha: [-1, 1, 3], beta: null}}
output: {folder}/surface.h5
training:
  epochs: 3
  batch_size: 64
  learning_rate: 0.05
  seed: 4
  output: {folder}/run
  schedule: {{milestones: [2], factor: 0.5}}
"""


@pytest.fixture
def configuration(study):
    path = study.folder / "train.yaml"
    path.write_text(CONFIGURATION.format(folder=study.folder))
    return path


def _history(folder):
    with (folder / "history.csv").open() as stream:
        return list(csv.DictReader(stream))


def test_there_is_a_checkpoint_for_the_start_and_every_epoch(study, here, configuration):
    assert here(train.main, configuration).status == 0
    names = sorted(path.name for path in (study.folder / "run").iterdir())
    assert names == [*(f"epoch_{number:04d}.pt" for number in range(4)), "final.pt", "history.csv"]
    last, final = (read_state(study.folder / "run" / name) for name in ("epoch_0003.pt", "final.pt"))
    assert all(torch.equal(last[name], final[name]) for name in final)


def test_the_history_says_what_was_done(study, here, configuration):
    here(train.main, configuration)
    history = _history(study.folder / "run")
    assert [row["learning_rate"] for row in history] == ["0.0", "0.05", "0.05", "0.025"]
    assert float(history[-1]["train_loss"]) < float(history[0]["train_loss"]) / 2
    state = read_state(study.folder / "run" / "final.pt")
    norm = torch.cat([tensor.double().flatten() for tensor in state.values()]).norm()
    assert float(history[-1]["weight_norm"]) == pytest.approx(norm.item(), rel=1e-12)


def test_the_same_seed_gives_the_same_bits_and_another_does_not(study, here, configuration):
    here(train.main, configuration)
    first = read_state(study.folder / "run" / "final.pt")
    here(train.main, configuration, "--set", f"training.output={study.folder}/again")
    again = read_state(study.folder / "again" / "final.pt")
    here(
        train.main,
        configuration,
        "--set",
        f"training.output={study.folder}/other",
        "--set",
        "training.seed=5",
    )
    other = read_state(study.folder / "other" / "final.pt")
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not any(torch.equal(first[name], other[name]) for name in first)


def test_the_surface_around_the_result_begins_at_its_loss(study, here, configuration):
    here(train.main, configuration)
    ended = here(surface.main, configuration)
    assert ended.status == 0
    loss = float(_history(study.folder / "run")[-1]["train_loss"])
    with h5py.File(study.output, "r") as file:
        # Another batch size, and so other rounding.
        assert file["train_loss"][1] == pytest.approx(loss, rel=1e-6)


def test_an_earlier_training_is_not_replaced_unasked(study, here, configuration):
    here(train.main, configuration)
    before = {path: path.read_bytes() for path in (study.folder / "run").iterdir()}
    ended = here(train.main, configuration)
    assert ended.status == 2
    assert "--overwrite" in ended.err
    assert {path: path.read_bytes() for path in (study.folder / "run").iterdir()} == before
    assert here(train.main, configuration, "--overwrite").status == 0


def test_a_training_that_diverges_says_where_and_keeps_the_last_good_checkpoint(study, here, configuration):
    ended = here(train.main, configuration, "--set", "training.learning_rate=1e30")
    assert ended.status == 1
    assert "diverged" in ended.err
    assert "step" in ended.err
    assert len(ended.err.splitlines()) == 1
    assert all(
        torch.isfinite(tensor).all() for tensor in read_state(study.folder / "run" / "epoch_0000.pt").values()
    )
    assert not (study.folder / "run" / "final.pt").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--set", "training=null"], ["training"]),
        (["--set", "training.epochs=-1"], ["training.epochs"]),
        (["--set", "data.splits=[test]"], ["'train'", "test"]),
        (["--set", "training.output=/proc/run"], ["/proc/run"]),
        (["--set", "training.nesterov=true", "--set", "training.momentum=0"], ["nesterov"]),
        (["--set", "model.arguments.input_size=[3, 8, 8]"], ["shape"]),
    ],
    ids=[
        "no section",
        "epochs below 0",
        "nothing to train on",
        "folder refuses",
        "nesterov alone",
        "wrong input size",
    ],
)
def test_bad_input_is_refused_in_one_line(here, configuration, arguments, words):
    ended = here(train.main, configuration, *arguments)
    assert ended.status == 2, ended.err
    assert len(ended.err.splitlines()) == 1
    for word in words:
        assert word in ended.err
