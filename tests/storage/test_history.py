"""The history of a training: what is written is what is read, whenever its writer is killed."""

import random
import signal
import subprocess
import sys
import textwrap
import time

import h5py
import numpy as np
import pytest

from mpi_landscape.errors import LandscapeError, LostFileError
from mpi_landscape.storage.history.records import HistoryWriter, create_history, is_history, read_history
from mpi_landscape.storage.surface import schema
from mpi_landscape.storage.surface.reader import read_surface
from tests.exhaustive import values

SPLITS = ("train", "valid_2")
NAMES = [
    "learning_rate",
    "weight_norm",
    "seconds",
    "train_loss",
    "train_accuracy",
    "valid_2_loss",
    "valid_2_accuracy",
]


def planted(number, factor=1.0):
    """A value of its own for every cell of an epoch's row."""
    return {name: factor * (10.0 * number + k + 0.5) for k, name in enumerate(NAMES)}


@pytest.fixture
def history_file(tmp_path):
    """Make a history with nothing done in it; five epochs, so six rows, unless said otherwise."""

    def make(*, num_epochs=5, splits=SPLITS, **attributes):
        path = tmp_path / "history.h5"
        create_history(path, num_epochs=num_epochs, splits=splits, attributes=attributes)
        return path

    return make


def test_a_new_history_has_every_epoch_and_none_is_done(history_file):
    history = read_history(history_file(title="a", num_parameters=7, decay=0.5))
    assert history.epoch.tolist() == [0, 1, 2, 3, 4, 5]
    assert history.phase.tolist() == [-1] * 6
    assert not history.done.any()
    assert history.splits == SPLITS
    assert list(history.values) == NAMES
    assert all(np.isnan(column).all() and column.shape == (6,) for column in history.values.values())
    expected = {"title": "a", "num_parameters": 7, "decay": 0.5}
    expected |= {"program": "mpi_landscape", "kind": "history", "schema": 1}
    assert expected.items() <= history.attributes.items()


def test_every_value_is_read_from_the_epoch_and_the_quantity_that_it_was_written_to(history_file):
    path = history_file()
    with HistoryWriter(path) as writer:
        for number, phase in ((0, 0), (1, 0), (3, 2)):
            writer.record(number, planted(number), phase=phase)
    history = read_history(path)
    assert history.done.tolist() == [True, True, False, True, False, False]
    assert history.phase.tolist() == [0, 0, -1, 2, -1, -1]
    for name, column in history.values.items():
        expected = [planted(n)[name] if n in (0, 1, 3) else np.nan for n in range(6)]
        np.testing.assert_array_equal(column, expected, err_msg=name)


def test_an_epoch_is_there_for_a_reader_before_the_writer_is_closed(history_file):
    path = history_file()
    program = f"""
        from mpi_landscape.storage.history.records import read_history
        history = read_history({str(path)!r})
        print(history.phase.tolist(), history.values["train_loss"].tolist()[:2])
    """
    with HistoryWriter(path) as writer:
        writer.record(1, {"train_loss": 2.5}, phase=0)
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=300
        )
    assert done.stdout == "[-1, 0, -1, -1, -1, -1] [nan, 2.5]\n", done.stderr


def test_what_is_left_out_of_an_epoch_is_nan_also_where_something_was_before(history_file):
    path = history_file()
    with HistoryWriter(path) as writer:
        writer.record(2, planted(2), phase=0)
        writer.record(2, {"train_loss": 1.25}, phase=1)
    history = read_history(path)
    assert history.phase[2] == 1
    assert {name: column[2] for name, column in history.values.items() if not np.isnan(column[2])} == {
        "train_loss": 1.25
    }


def test_a_result_that_is_not_finite_is_done_all_the_same(history_file):
    path = history_file()
    with HistoryWriter(path) as writer:
        writer.record(4, {"train_loss": np.inf, "valid_2_loss": np.nan}, phase=0)
    history = read_history(path)
    assert history.done.tolist() == [False] * 4 + [True, False]
    assert history.values["train_loss"][4] == np.inf


@pytest.mark.parametrize(
    ("number", "left", "reason"),
    [
        (3, [0, 1, 2, 3], "the training goes on from epoch 3"),
        (0, [0], "it begins again from the initial network"),
        (-1, [], "it begins again before that"),
        (5, [0, 1, 2, 3, 4, 5], "nothing lies after the last"),
    ],
)
def test_epochs_after_the_one_that_a_training_resumes_from_are_forgotten(history_file, number, left, reason):
    path = history_file()
    with HistoryWriter(path) as writer:
        for each in range(6):
            writer.record(each, planted(each), phase=each // 3)
        writer.forget_after(number)
    history = read_history(path)
    assert np.flatnonzero(history.done).tolist() == left, reason
    with h5py.File(path, "r") as file:
        for name in NAMES:
            assert np.flatnonzero(~np.isnan(file[name][...])).tolist() == left, f"{reason}: {name}"


def test_a_training_without_epochs_has_the_initial_network_only(history_file):
    path = history_file(num_epochs=0, splits=("train",))
    with HistoryWriter(path) as writer:
        writer.record(0, {"train_loss": 2.0}, phase=0)
    history = read_history(path)
    assert (history.epoch.tolist(), history.values["train_loss"].tolist()) == ([0], [2.0])
    assert history.splits == ("train",)


@pytest.mark.parametrize(
    ("number", "values", "phase", "words", "reason"),
    [
        (6, {}, 0, "has no epoch 6; valid are 0 to 5", "one beyond the end"),
        (-1, {}, 0, "has no epoch -1; valid are 0 to 5", "h5py would count from the end"),
        (0, {}, -1, "phase -1 of epoch 0 is negative", "it would say that the epoch is not done"),
        (0, {"test_loss": 1.0}, 0, "has no quantity 'test_loss'; valid are learning_rate, ", "no such split"),
    ],
)
def test_what_has_no_place_is_refused_and_nothing_is_written(
    history_file, number, values, phase, words, reason
):
    path = history_file()
    before = path.read_bytes()
    with HistoryWriter(path) as writer, pytest.raises(LandscapeError, match=words):
        writer.record(number, values, phase=phase)
    assert path.read_bytes() == before, reason


def test_every_dataset_is_contiguous_and_allocated_before_the_first_epoch(history_file):
    with h5py.File(history_file(), "r") as file:
        for name in [*NAMES, "phase", "epoch"]:
            properties = file[name].id.get_create_plist()
            assert properties.get_layout() == h5py.h5d.CONTIGUOUS, name
            assert file[name].id.get_storage_size() == 6 * 8, name
            assert file[name].id.get_offset() is not None, f"{name} has no place in the file yet"


def test_writing_changes_neither_the_size_of_a_history_nor_anything_but_its_values(history_file):
    path = history_file()
    before = path.read_bytes()
    with h5py.File(path, "r") as file:
        places = [
            (file[name].id.get_offset(), file[name].id.get_storage_size()) for name in [*NAMES, "phase"]
        ]
    with HistoryWriter(path) as writer:
        for number in range(6):
            writer.record(number, planted(number), phase=0)
    after = path.read_bytes()
    assert len(after) == len(before)
    changed = {k for k in range(len(after)) if after[k] != before[k]}
    allowed = {k for start, size in places for k in range(start, start + size)}
    assert changed
    assert changed <= allowed


def test_a_history_replaces_another_one_whole_and_leaves_nothing_beside_it(history_file):
    path = history_file(title="first")
    with HistoryWriter(path) as writer:
        writer.record(0, planted(0), phase=0)
    history_file(title="second", num_epochs=2)
    history = read_history(path)
    assert (history.attributes["title"], history.done.tolist()) == ("second", [False] * 3)
    assert [each.name for each in path.parent.iterdir()] == ["history.h5"]


def test_a_folder_that_cannot_be_made_is_refused_in_one_line(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(LandscapeError, match=r"cannot be written: .*choose another training\.output"):
        create_history(
            tmp_path / "file" / "history.h5", num_epochs=1, splits=("train",), attributes={"title": "a"}
        )


def test_a_text_that_is_no_utf8_is_kept_readable(history_file):
    history = read_history(history_file(command="train \udcff.yaml"))
    assert history.attributes["command"] == "train \\udcff.yaml"


def _changed(change):
    def spoil(path):
        with h5py.File(path, "r+") as file:
            change(file)

    return spoil


def _replaced_by_foreign(path):
    path.unlink()
    with h5py.File(path, "w") as file:
        file["train_loss"] = np.zeros(3)


@pytest.mark.parametrize(
    ("spoil", "words", "reason"),
    [
        (lambda path: path.unlink(), "there is no such file", "it is not there"),
        (lambda path: path.write_text("epoch,loss\n"), "is not a training history", "it is text"),
        (
            lambda path: path.write_bytes(path.read_bytes()[:3000]),
            "is not a training history",
            "it was cut off in a copy",
        ),
        (_replaced_by_foreign, "not one of mpi_landscape", "it is HDF5 of another program"),
        (
            _changed(lambda file: file.attrs.__setitem__("schema", 2)),
            "has schema 2, this version reads and writes schema 1",
            "it is of a later version",
        ),
        (
            _changed(lambda file: file.__delitem__("train_loss")),
            "has lost its train_loss",
            "somebody kept what he needed",
        ),
    ],
)
@pytest.mark.parametrize("opened", [read_history, HistoryWriter], ids=["reader", "writer"])
def test_what_is_no_history_is_refused_by_name(history_file, spoil, words, reason, opened):
    path = history_file()
    spoil(path)
    with pytest.raises(LandscapeError, match=words) as caught:
        opened(path)
    assert str(caught.value).startswith(str(path)), reason
    assert "\n" not in str(caught.value)


def test_a_history_that_is_deleted_under_way_is_kept_under_another_name(history_file):
    path = history_file()

    def train():
        with HistoryWriter(path) as writer:
            writer.record(0, {"train_loss": 2.5}, phase=0)
            path.unlink()
            writer.record(1, {"train_loss": 1.5}, phase=0)

    with pytest.raises(LostFileError, match=r"is gone while it was written .* kept as") as caught:
        train()
    (kept,) = path.parent.glob("*rescued*")
    assert str(kept) in str(caught.value)
    assert read_history(kept).values["train_loss"][:2].tolist() == [2.5, 1.5]


def test_a_surface_and_a_history_are_told_apart_by_their_content(history_file, surface_file):
    surface, _ = surface_file("history_of_nothing.h5")
    history = history_file()
    assert (is_history(history), is_history(surface)) == (True, False)
    assert not is_history(history.parent / "absent.h5")
    with pytest.raises(LandscapeError, match="is a surface file, not a training history"):
        read_history(surface)
    for opened in (read_surface, lambda path: schema.open_file(path, "r+")):
        with pytest.raises(LandscapeError, match="is a training history, not a surface file"):
            opened(history)


# Writes what is left, as a training does that goes on; says which epochs it has written.
WRITER = """
    import sys
    from pathlib import Path
    import numpy as np
    from mpi_landscape.storage.history.records import HistoryWriter, read_history
    path = Path(sys.argv[1])
    history = read_history(path)
    first = int(history.done.sum())
    with HistoryWriter(path) as writer:
        # As if the last checkpoint were older than the last epoch.
        first = max(0, first - 3)
        writer.forget_after(first - 1)
        for number in range(first, len(history.epoch)):
            values = {name: 1000.0 * number + k for k, name in enumerate(history.values)}
            writer.record(number, values, phase=number // 50)
            print(number, flush=True)
"""
LONG = 150


def check(path):
    """Everything that is done is right and nothing else shows; returns how many epochs are done, from the first on."""
    history = read_history(path)
    for k, (name, column) in enumerate(history.values.items()):
        expected = np.where(history.done, 1000.0 * np.arange(LONG) + k, np.nan)
        np.testing.assert_array_equal(column, expected, err_msg=name)
    np.testing.assert_array_equal(history.phase, np.where(history.done, np.arange(LONG) // 50, -1))
    count = int(history.done.sum())
    assert history.done[:count].all(), "an epoch is done before an earlier one"
    return count


@pytest.mark.parametrize("seed", values(range(4), 0))
def test_a_history_whose_writer_is_killed_opens_and_its_epochs_are_whole(history_file, seed):
    path = history_file(num_epochs=LONG - 1)
    generator = random.Random(seed)
    command = [sys.executable, "-c", textwrap.dedent(WRITER), str(path)]
    for _ in range(3):
        writer = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(generator.randrange(1, 40)):
            last = int(writer.stdout.readline())
        # Anywhere within the next few epochs.
        time.sleep(generator.uniform(0, 0.003))
        writer.send_signal(signal.SIGKILL)
        writer.communicate()
        assert check(path) > last, "an epoch that was written is lost"
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.stdout.splitlines()[-1] == str(LONG - 1), done.stderr
    assert check(path) == LONG


def test_a_stranger_sees_quantities_over_epochs_with_units(history_file):
    xarray = pytest.importorskip("xarray", reason="needs pip install xarray h5netcdf")
    pytest.importorskip("h5netcdf", reason="needs pip install xarray h5netcdf")
    path = history_file(host="node1")
    with HistoryWriter(path) as writer:
        writer.record(2, planted(2), phase=1)
    with xarray.open_dataset(path, engine="h5netcdf") as dataset:
        assert set(dataset.coords) == {"epoch"}
        assert set(dataset.data_vars) == {*NAMES, "phase"}
        assert all(variable.dims == ("epoch",) for variable in dataset.data_vars.values())
        np.testing.assert_array_equal(dataset["epoch"], np.arange(6))
        assert dataset["epoch"].dtype == dataset["phase"].dtype == np.int64
        found = dataset.sel(epoch=2)
        assert {name: float(found[name]) for name in NAMES} == planted(2)
        assert int(found["phase"]) == 1
        assert dataset["train_loss"].attrs["units"] == "nats per example"
        assert dataset["train_loss"].attrs["long_name"] == "train loss"
        assert dataset["valid_2_accuracy"].attrs["units"] == "1"
        assert dataset["seconds"].attrs["units"] == "s"
        assert dataset["seconds"].dtype == np.float64, "not a time difference in nanoseconds"
        assert dataset.attrs["host"] == "node1"
        assert dataset.attrs["splits"] == "train, valid_2"


def test_reading_and_writing_a_history_needs_neither_torch_nor_mpi():
    code = (
        "import sys, mpi_landscape.storage.history.records\n"
        "print(*sorted({'torch', 'mpi4py', 'matplotlib', 'yaml'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
