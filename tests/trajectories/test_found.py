"""Which files are the checkpoints of a trajectory, in which order, of which epochs, and what is missing."""

import numpy as np
import pytest

from mpi_landscape.configuration.sections.trajectory import TrajectoryConfiguration
from mpi_landscape.errors import LandscapeError
from mpi_landscape.storage.history.records import HistoryWriter, create_history
from mpi_landscape.trajectories.found import find, said_lines

TRAINING = (
    "model: mlp\ndata: digits\ntraining: {{output: {folder}, epochs: {epochs}, checkpoint_every: {every}}}\n"
)


def made(folder, *names):
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).write_bytes(b"")
    return folder


def found(place, **said):
    section = TrajectoryConfiguration(checkpoints=place, **said)
    return find(section, section.places, where="here.yaml")


def names(way):
    return [path.rsplit("/", 1)[-1] for path in way.paths]


def trained(folder, epochs, every, kept, done=None):
    """A folder as `train` leaves it."""
    made(folder, *(f"epoch_{number:04d}.pt" for number in kept), "final.pt", "state.pt", "configuration.yaml")
    text = TRAINING.format(folder=folder, epochs=epochs, every=every)
    create_history(
        folder / "history.h5", num_epochs=epochs, splits=["train"], attributes={"configuration": text}
    )
    with HistoryWriter(folder / "history.h5") as history:
        for number in range((epochs if done is None else done) + 1):
            history.record(number, {"learning_rate": 1 / (1 + number)}, phase=0)
    return folder


def test_a_training_has_its_epochs_and_their_learning_rates(tmp_path):
    (way,) = found(str(trained(tmp_path / "run", 7, 3, (0, 3, 6, 7))))
    assert way.epochs == (0, 3, 6, 7)
    np.testing.assert_allclose(way.rates, [1, 1 / 4, 1 / 7, 1 / 8])
    assert any("a checkpoint every 1 to 3 epochs" in line for line in said_lines([way]))


def test_a_checkpoint_that_a_training_left_and_that_is_gone_is_named(tmp_path):
    folder = trained(tmp_path / "run", 7, 1, (0, 1, 2, 4, 5, 7))
    with pytest.raises(
        LandscapeError, match=r"here.yaml: trajectory.checkpoints: .*epoch_0003.pt is missing"
    ):
        found(str(folder))


def test_a_training_that_goes_on_has_those_that_are_there(tmp_path):
    (way,) = found(str(trained(tmp_path / "run", 9, 2, (0, 2, 4), done=5)))
    assert way.epochs == (0, 2, 4)


def test_files_of_anybody_come_in_natural_order_with_the_epochs_of_their_names(tmp_path):
    folder = made(
        tmp_path / "run", "net18_e10_loss0.2.pth", "net18_e9_loss0.3.pth", "net18_e100_loss0.1.pth", "best.pth", "log.txt",
        "optimizer.pt",
    )  # fmt: skip
    (way,) = found(str(folder))
    assert names(way) == ["net18_e9_loss0.3.pth", "net18_e10_loss0.2.pth", "net18_e100_loss0.1.pth"]
    assert way.epochs == (9, 10, 100)
    assert np.isnan(way.rates).all()
    (way,) = found(str(folder / "net18*"))
    assert way.epochs == (9, 10, 100)


def test_where_names_say_no_epochs_they_are_counted(tmp_path):
    folder = made(tmp_path / "run", "start.pt", "middle.pt", "end.pt")
    (way,) = found(tuple(str(folder / f"{name}.pt") for name in ("start", "middle", "end")))
    assert names(way) == ["start.pt", "middle.pt", "end.pt"]
    assert way.epochs == (0, 1, 2)
    assert any("count as epochs 0, 1, 2" in line for line in said_lines([way]))


def test_folders_of_checkpoints_are_taken_where_there_are_no_files(tmp_path):
    for step in (500, 1000, 50):
        made(made(tmp_path / "run") / f"checkpoint-{step}", "model.safetensors")
    (way,) = found(str(tmp_path / "run"))
    assert way.epochs == (50, 500, 1000)


def test_every_second_and_the_last(tmp_path):
    folder = made(tmp_path / "run", *(f"c{number}.pt" for number in range(6)))
    (way,) = found(str(folder), every=2)
    assert way.epochs == (0, 2, 4, 5)


def test_several_have_names(tmp_path):
    places = {name: str(made(tmp_path / name, "c1.pt", "c2.pt")) for name in ("sgd", "adam")}
    assert [way.name for way in found(places)] == ["sgd", "adam"]


@pytest.mark.parametrize(
    ("place", "text"),
    [
        ("nowhere", r"trajectory.checkpoints: nowhere: there is no such folder \(working folder"),
        ("nowhere/*.pt", r"nowhere/\*.pt: no file has such a name"),
        ("run/c1.pt", "run/c1.pt is a single file; expected a folder"),
        (("run/c1.pt", "run/c3.pt", "run/c2.pt"), "run/c3.pt: there is no such file"),
        (("run/c1.pt", "run/c1.pt"), "has run/c1.pt twice"),
        ("empty", "empty has no files of weights"),
        ({"sgd": "run", "adam": "nowhere"}, "trajectory.checkpoints.adam: nowhere: there is no such folder"),
    ],
)
def test_what_is_not_there_is_named(tmp_path, monkeypatch, place, text):
    monkeypatch.chdir(tmp_path)
    made(tmp_path / "run", "c1.pt", "c2.pt")
    made(tmp_path / "empty", "log.txt")
    with pytest.raises(LandscapeError, match=text):
        found(place)
