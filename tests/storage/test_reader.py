import subprocess
import sys

import h5py
import numpy as np
import pytest

from mpi_landscape import LandscapeError
from mpi_landscape.plan.grid import Axis, Grid
from mpi_landscape.storage import cells
from mpi_landscape.storage.surface import progress
from mpi_landscape.storage.surface.reader import read_attributes, read_direction, read_surface, verify_tiles
from mpi_landscape.storage.surface.tiles import open_tiles
from mpi_landscape.storage.surface.value import Surface
from tests.storage.known import known, totals_of

LINE = Grid(Axis(-0.5, 1.0, 7))


def write(path, made, sums_of, indices, *, points=True):
    """Write tiles as rank 0 does; without `points`, as one that is killed before it comes to them."""
    totals = totals_of(made)
    with open_tiles(path) as store:
        for index in indices:
            tile = made.plan.tile(index)
            store.write(tile.index, sums_of(tile))
            whole = totals.add(tile, sums_of(tile))
            if whole is not None and points:
                store.publish(known(made, tile, whole))


def places_of(made, start, stop):
    """A mask over the grid of these positions, by a plain loop."""
    mask = np.zeros(made.grid.shape, dtype=bool)
    for position in range(start, stop):
        mask[np.unravel_index(int(made.grid.points(np.array([position]))[0]), made.grid.shape)] = True
    return mask


@pytest.mark.parametrize(("settings", "reason"), [({}, "a surface"), ({"grid": LINE}, "a line")])
def test_a_finished_file_is_read_whole(surface_file, sums_of, whole_of, settings, reason):
    path, made = surface_file(**settings)
    write(path, made, sums_of, range(made.plan.num_tiles))
    surface = read_surface(path)
    assert surface.path == str(path)
    assert surface.quantities == ["train_loss", "train_accuracy", "test_loss", "test_accuracy"]
    assert surface.alpha.tolist() == made.grid.alpha.values.tolist()
    assert surface.is_line == (made.grid.beta is None), reason
    assert surface.progress == 1.0
    for split in ("train", "test"):
        loss, accuracy = whole_of(made, split)
        np.testing.assert_array_equal(surface.values[f"{split}_loss"], loss)
        np.testing.assert_array_equal(surface.values[f"{split}_accuracy"], accuracy)
        assert surface.done[split].all()
        assert surface.done[split].shape == made.grid.shape


def test_a_point_is_done_when_all_shards_of_its_split_are(surface_file, sums_of):
    # Per chunk of 5 positions: three tiles of train, then one of test.
    path, made = surface_file()
    write(path, made, sums_of, [0, 1, 3, 4, 5, 6])
    surface = read_surface(path)
    np.testing.assert_array_equal(surface.done["train"], places_of(made, 5, 10))
    np.testing.assert_array_equal(surface.done["test"], places_of(made, 0, 5))
    np.testing.assert_array_equal(np.isnan(surface.values["train_loss"]), ~surface.done["train"])
    np.testing.assert_array_equal(np.isnan(surface.values["test_accuracy"]), ~surface.done["test"])
    assert surface.progress == 10 / 24


def test_nothing_is_done_in_a_new_file(surface_file):
    path, _ = surface_file()
    surface = read_surface(path)
    assert surface.progress == 0.0
    assert not any(done.any() for done in surface.done.values())


def test_a_point_whose_value_is_not_written_yet_is_not_done(surface_file, sums_of):
    # Between a tile and its points the writer may be killed, or just be at work; with parallel HDF5 this takes long.
    path, made = surface_file()
    write(path, made, sums_of, [0, 1, 2, 3])
    write(path, made, sums_of, [4, 5, 6, 7], points=False)
    surface = read_surface(path)
    np.testing.assert_array_equal(surface.done["train"], places_of(made, 0, 5))
    np.testing.assert_array_equal(surface.done["test"], places_of(made, 0, 5))
    assert verify_tiles(path) == (12, 8, 0), "though its tiles are"


def test_what_a_writer_adds_between_two_readings_is_not_shown_by_halves(surface_file, sums_of, monkeypatch):
    path, made = surface_file(shards=(("train", 1), ("test", 1)), points_per_tile=1)
    read, totals = h5py.Dataset.__getitem__, totals_of(made)

    def writing(store):
        for index in range(made.plan.num_tiles):
            tile = made.plan.tile(index)
            store.write(tile.index, sums_of(tile))
            yield
            store.publish(known(made, tile, totals.add(tile, sums_of(tile))))
            yield

    with open_tiles(path) as store:
        steps = writing(store)
        for _ in range(7):
            next(steps)

        def reading(dataset, selection):
            next(steps)
            return read(dataset, selection)

        monkeypatch.setattr(h5py.Dataset, "__getitem__", reading)
        surface = read_surface(path)
        monkeypatch.undo()
    assert 0 < surface.progress < 1
    for split, done in surface.done.items():
        assert np.isfinite(surface.values[f"{split}_loss"][done]).all()
        assert np.isfinite(surface.values[f"{split}_accuracy"][done]).all()


def test_points_are_looked_at_block_by_block_to_the_same_end(surface_file, sums_of, monkeypatch):
    path, made = surface_file()
    write(path, made, sums_of, [0, 1, 2, 3, 5, 7, 8, 9, 10])
    write(path, made, sums_of, [11], points=False)
    whole = read_surface(path)
    assert 0 < whole.progress < 1
    # Not a divisor of 12 points, nor of the 5 of a tile.
    monkeypatch.setattr(progress, "_BLOCK", 7)
    for split, done in read_surface(path).done.items():
        np.testing.assert_array_equal(done, whole.done[split])


def test_a_mark_without_values_is_not_done(surface_file):
    # The order in which pages reach the disk is the system's.
    path, _ = surface_file()
    with h5py.File(path, "r+") as file:
        file["tiles/status"][...] = cells.DONE
    surface = read_surface(path)
    assert surface.progress == 0.0
    assert verify_tiles(path) == (12, 12, 12)


@pytest.mark.parametrize("points", [True, False])
def test_nan_can_be_a_result(surface_file, points):
    path, made = surface_file()
    tile = made.plan.tile(3)
    sums = np.full((5, 4), [np.nan, 2, 4, 1])
    sums[1:, 0] = np.inf
    with open_tiles(path) as store:
        store.write(tile.index, sums)
        if points:
            store.publish(known(made, tile, sums))
    surface = read_surface(path)
    # The accuracies are numbers, so that it shows when they are not there.
    np.testing.assert_array_equal(surface.done["test"], places_of(made, 0, 5) if points else False)
    assert np.isinf(surface.values["test_loss"]).sum() == (4 if points else 0)


def test_nan_can_be_the_only_result(surface_file):
    path, made = surface_file(accuracy=False, shards=(("train", 2),), points_per_tile=12)
    with open_tiles(path) as store:
        for index in (0, 1):
            store.write(index, np.full((12, 4), [np.nan, 0, 4, 1]))
        store.publish(known(made, made.plan.tile(1), np.full((12, 4), [np.nan, 0, 8, 1])))
    assert read_surface(path).done["train"].all()


def test_damaged_tiles_are_counted(surface_file, sums_of):
    path, made = surface_file()
    write(path, made, sums_of, [0, 1, 2, 3, 4])
    assert verify_tiles(path) == (12, 5, 0)
    with h5py.File(path, "r+") as file:
        file["tiles/train_sums"][1, 2, 0] += 1
        file["tiles/checksum"][3] = 0
    assert verify_tiles(path) == (12, 5, 2)


def test_attributes_are_plain_python(surface_file):
    path, _ = surface_file(
        host="node1", certificate=np.float64(0.25), ranks=np.int64(3), list=np.array([1.0, 2.0])
    )
    found = read_attributes(path)
    assert {name: found[name] for name in ("host", "certificate", "ranks", "list")} == {
        "host": "node1",
        "certificate": 0.25,
        "ranks": 3,
        "list": [1.0, 2.0],
    }
    assert {type(value) for value in found.values()} <= {str, int, float, list}
    assert read_surface(path).attributes == found


@pytest.mark.parametrize(("name", "index"), [("center", 0), ("alpha", 1), ("beta", 2)])
def test_a_direction_is_read_with_the_names_of_its_tensors(surface_file, name, index):
    path, made = surface_file()
    values, names = read_direction(path, name)
    expected = [made.center, made.directions["alpha"], made.directions["beta"]][index]
    assert values.dtype == np.float32
    assert values.tobytes() == expected.tobytes()
    assert names == ["dense.weight", "dense.bias"]


@pytest.mark.parametrize(
    ("grid", "name", "valid", "reason"),
    [
        (LINE, "beta", "it has center, alpha$", "a line has one direction"),
        (Grid(LINE.alpha, Axis(0, 1, 2)), "gamma", "it has center, alpha, beta$", "no such direction"),
        (LINE, "tensor_name", "it has center, alpha$", "a part of the group that is no vector"),
    ],
)
def test_a_direction_that_is_not_there_is_refused_with_those_that_are(
    surface_file, grid, name, valid, reason
):
    path, _ = surface_file(grid=grid)
    with pytest.raises(LandscapeError, match=valid) as caught:
        read_direction(path, name)
    assert repr(name) in str(caught.value), reason


@pytest.mark.parametrize("read", [read_surface, read_attributes, verify_tiles])
def test_a_missing_file_is_refused_under_its_name(tmp_path, read):
    with pytest.raises(LandscapeError, match=r"none.h5: there is no such file"):
        read(tmp_path / "none.h5")


def test_reading_leaves_the_file_as_it_is(surface_file, sums_of):
    path, made = surface_file()
    write(path, made, sums_of, [0, 5])
    before = path.read_bytes(), path.stat().st_mtime_ns
    read_surface(path), verify_tiles(path), read_attributes(path), read_direction(path, "center")
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before


def test_reading_needs_neither_torch_nor_mpi(surface_file):
    path, _ = surface_file()
    program = f"""
import sys
sys.modules["torch"] = sys.modules["mpi4py.MPI"] = None
from mpi_landscape.storage.surface.reader import read_surface
read_surface({str(path)!r})
"""
    if h5py.get_config().mpi:
        # A parallel h5py imports mpi4py itself.
        program = program.replace('= sys.modules["mpi4py.MPI"] ', "")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("quantity", "split", "reason"),
    [
        ("train_loss", "train", "the plain case"),
        ("train_large_loss", "train_large", "a split whose name begins like another's"),
        ("train_loss_stderr", "train", "an error bar"),
        ("lambda_max", None, "a curvature of no split"),
    ],
)
def test_a_quantity_knows_its_split(quantity, split, reason):
    nothing = np.zeros((0, 0), dtype=bool)
    done = {"train": nothing, "train_large": nothing}
    surface = Surface(path="a.h5", alpha=np.zeros(0), beta=np.zeros(0), values={}, done=done)
    assert surface.split_of(quantity) == split, reason


def test_a_quantity_of_no_split_is_done_where_it_is_not_nan():
    values = {"lambda_max": np.array([[1.0, np.nan, np.inf], [-2.0, np.nan, np.nan]])}
    surface = Surface(path="a.h5", alpha=np.arange(2.0), beta=np.arange(3.0), values=values, done={})
    assert surface.split_of("lambda_max") is None
    assert surface.done_of("lambda_max").tolist() == [[True, False, True], [True, False, False]]
    assert surface.progress == 0.5
