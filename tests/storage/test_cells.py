"""The same tests for the in-memory twin, a file, and a file through parallel HDF5."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from mpi_landscape import LandscapeError
from mpi_landscape.plan.grid import Axis, Grid
from mpi_landscape.plan.quantities import Quantities
from mpi_landscape.plan.tiles import Plan
from mpi_landscape.storage import cells
from mpi_landscape.storage.surface.creation import Contents, create
from mpi_landscape.storage.surface.tiles import Totals, add_shards, in_memory, open_tiles
from tests.storage.known import known, totals_of

LINE = Grid(Axis(-0.5, 1.0, 7))


@dataclass
class Place:
    """Somewhere that cells can be kept: `open` them, and look at the `array` of a name in between."""

    made: Contents
    open: Callable[[], Any]
    array: Callable[[str], np.ndarray]
    change: Callable[[str, Any, Any], None]


def _in_memory(made: Contents) -> Place:
    store, arrays = in_memory(made.grid, made.plan, made.quantities)

    @contextmanager
    def again() -> Iterator[cells.Cells]:
        yield store

    def change(name, where, value):
        arrays[name][where] = value

    return Place(made, again, lambda name: arrays[name].copy(), change)


def _in_file(made: Contents, path: Path, comm: Any) -> Place:
    create(path, made)

    def array(name):
        with h5py.File(path, "r") as file:
            return file[name][...]

    def change(name, where, value):
        with h5py.File(path, "r+") as file:
            file[name][where] = value

    return Place(made, lambda: open_tiles(path, comm), array, change)


@pytest.fixture(params=["memory", "file", "parallel file"])
def place(request, tmp_path, contents) -> Callable[..., Place]:
    """Make a place for cells."""
    comm = None
    if request.param == "parallel file":
        if not h5py.get_config().mpi:
            pytest.skip("h5py has no parallel HDF5: .ci/run shows how to build it with HDF5_MPI=ON")
        from mpi4py import MPI

        comm = MPI.COMM_SELF

    def make(**settings) -> Place:
        made = contents(**settings)
        return (
            _in_memory(made) if request.param == "memory" else _in_file(made, tmp_path / "surface.h5", comm)
        )

    return make


def tiles(made: Contents):
    return [made.plan.tile(index) for index in range(made.plan.num_tiles)]


def test_what_is_written_is_read_again_bit_for_bit(place, sums_of):
    here = place()
    with here.open() as store:
        for tile in tiles(here.made):
            store.write(tile.index, sums_of(tile))
    with here.open() as store:
        for tile in tiles(here.made):
            assert store.read(tile.index).tobytes() == sums_of(tile).tobytes(), tile
        assert store.marked().tolist() == list(range(here.made.plan.num_tiles))


def test_nothing_is_done_at_first_and_only_what_is_written_later(place, sums_of):
    here = place()
    written = [tiles(here.made)[index] for index in (7, 2)]
    with here.open() as store:
        assert store.marked().size == 0
        for tile in written:
            store.write(tile.index, sums_of(tile))
    with here.open() as store:
        assert store.marked().tolist() == [2, 7]
        done = [tile for tile in tiles(here.made) if store.read(tile.index) is not None]
    assert sorted(tile.index for tile in done) == [2, 7]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 0.0, -0.0, -1.0, 5e-324])
def test_any_number_is_a_result(place, sums_of, value):
    here = place()
    tile = here.made.plan.tile(1)
    sums = sums_of(tile)
    sums[2, 0] = value
    with here.open() as store:
        store.write(tile.index, sums)
        assert store.read(tile.index).tobytes() == sums.tobytes()


def _swap(here: Place) -> None:
    first, other = (here.array("tiles/train_sums")[shard, 0:5].copy() for shard in (0, 1))
    here.change("tiles/train_sums", np.s_[0, 0:5], other)
    here.change("tiles/train_sums", np.s_[1, 0:5], first)


@pytest.mark.parametrize(
    ("spoil", "damaged", "reason"),
    [
        (lambda here: here.change("tiles/status", 0, 0), {0}, "killed before the mark was written"),
        (
            lambda here: here.change("tiles/checksum", 0, 0),
            {0},
            "the mark reached the disk before the checksum",
        ),
        (
            lambda here: here.change("tiles/train_sums", np.s_[0, 0:5], np.nan),
            {0},
            "the mark came before the values",
        ),
        (
            lambda here: here.change("tiles/train_sums", np.s_[0, 3, 1], 0.5),
            {0},
            "one value of a page was lost",
        ),
        (_swap, {0, 1}, "values of another tile"),
        (lambda here: here.change("tiles/status", 0, 2), {0}, "a mark that means nothing"),
    ],
)
def test_a_tile_that_is_not_as_it_was_written_is_to_do(place, sums_of, spoil, damaged, reason):
    here = place()
    with here.open() as store:
        for tile in tiles(here.made):
            store.write(tile.index, sums_of(tile))
    spoil(here)
    with here.open() as store:
        to_do = {tile.index for tile in tiles(here.made) if store.read(tile.index) is None}
        assert to_do == damaged, reason
        for index in damaged:
            store.write(index, sums_of(here.made.plan.tile(index)))
    with here.open() as store:
        assert all(store.read(tile.index) is not None for tile in tiles(here.made)), reason


def test_equal_values_in_two_tiles_do_not_pass_for_each_other(contents):
    first, other = (contents().plan.tile(index) for index in (0, 1))
    sums = np.ones((5, 4))
    assert cells.checksum(first.index, sums) != cells.checksum(other.index, sums)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({}, "a surface; train in three shards, test in one; a short last chunk"),
        ({"grid": LINE}, "a line"),
        ({"points_per_tile": 1}, "single points"),
        ({"points_per_tile": 40}, "one chunk for all"),
    ],
)
def test_every_point_gets_its_mean_at_its_coordinates(place, sums_of, whole_of, settings, reason):
    here = place(**settings)
    totals = totals_of(here.made)
    with here.open() as store:
        for tile in tiles(here.made):
            store.write(tile.index, sums_of(tile))
            whole = totals.add(tile, sums_of(tile))
            if whole is not None:
                store.publish(known(here.made, tile, whole))
    for split in ("train", "test"):
        loss, accuracy = whole_of(here.made, split)
        # One rounding per addition: the plain loop adds in the same order.
        np.testing.assert_array_equal(here.array(f"{split}_loss"), loss, err_msg=reason)
        np.testing.assert_array_equal(here.array(f"{split}_accuracy"), accuracy, err_msg=reason)


def test_only_the_points_of_the_tile_are_written(place):
    here = place()
    tile = here.made.plan.tile(3)
    with here.open() as store:
        store.publish(known(here.made, tile, np.full((tile.num_points, 4), 4.0)))
    indices = here.made.grid.points(np.arange(tile.start, tile.stop))
    loss = here.array(f"{tile.split}_loss").reshape(-1)
    assert sorted(np.flatnonzero(~np.isnan(loss))) == sorted(indices)
    other = "train" if tile.split == "test" else "test"
    assert np.isnan(here.array(f"{other}_loss")).all()


def test_a_loss_without_accuracy_has_none(place, sums_of):
    here = place(accuracy=False)
    tile = here.made.plan.tile(3)
    with here.open() as store:
        store.write(tile.index, sums_of(tile))
        store.publish(known(here.made, tile, sums_of(tile)))
        assert store.read(tile.index) is not None
    assert np.isfinite(here.array("test_loss")).sum() == tile.num_points
    with pytest.raises(KeyError):
        here.array("test_accuracy")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda totals: totals * [1 + 1e-15, 1, 1, 1], "another last digit"),
        (lambda totals: totals * [np.nan, 1, 1, 1], "a result that is NaN instead of a number"),
        (lambda totals: totals * [1, 2, 1, 1], "another accuracy"),
    ],
)
def test_points_are_held_when_and_only_when_their_bits_are_there(place, sums_of, change, reason):
    here = place()
    tile = here.made.plan.tile(3)
    with here.open() as store:
        assert not store.holds(known(here.made, tile, sums_of(tile)))
        store.publish(known(here.made, tile, sums_of(tile)))
        assert store.holds(known(here.made, tile, sums_of(tile)))
        assert not store.holds(known(here.made, tile, change(sums_of(tile)))), reason


def test_points_that_are_nan_are_held(place):
    here = place()
    tile = here.made.plan.tile(3)
    totals = np.full((tile.num_points, 4), [np.nan, 2, 4, 1])
    with here.open() as store:
        store.publish(known(here.made, tile, totals))
        assert store.holds(known(here.made, tile, totals))


def test_infinite_sums_give_infinite_means_without_a_warning(recwarn):
    values = Quantities(accuracy=True).values(np.array([[np.inf, 3, 4], [np.nan, 0, 4]]))
    assert values["loss"][0] == np.inf
    assert np.isnan(values["loss"][1])
    assert values["accuracy"].tolist() == [0.75, 0.0]
    total = add_shards(np.array([[[np.inf, 1, 1]], [[-np.inf, 1, 1]]]))
    assert np.isnan(total[0, 0])
    assert not recwarn.list


def test_a_file_and_its_twin_hold_the_same_bytes_after_any_order_of_tiles(tmp_path, contents, sums_of):
    made = contents()
    create(tmp_path / "surface.h5", made)
    twin, arrays = in_memory(made.grid, made.plan, made.quantities)
    with open_tiles(tmp_path / "surface.h5") as file:
        for store, order in ((twin, tiles(made)), (file, tiles(made)[::-1])):
            totals = totals_of(made)
            for tile in order:
                store.write(tile.index, sums_of(tile))
                whole = totals.add(tile, sums_of(tile))
                if whole is not None:
                    store.publish(known(made, tile, whole))
    with h5py.File(tmp_path / "surface.h5", "r") as file:
        for name, array in arrays.items():
            assert file[name][...].tobytes() == array.tobytes(), name


def test_shards_add_up_to_the_same_bits_in_any_order_of_arrival():
    plan = Plan(num_points=2, points_per_tile=2, shards=(("train", 4),))
    # 0.1 + 0.2 + 0.3 and 0.3 + 0.2 + 0.1 differ; 1e16 swallows what comes after it.
    sums = {index: np.full((2, 4), value) for index, value in enumerate((0.1, 1e16, 0.3, -1e16))}
    expected = ((0.1 + 1e16) + 0.3) - 1e16
    for order in permutations(range(4)):
        totals = Totals(plan, 4)
        results = [totals.add(plan.tile(index), sums[index]) for index in order]
        assert all(result is None for result in results[:3]), "only the last shard completes the points"
        assert results[3].tolist() == [[expected] * 4] * 2, order


def test_totals_know_what_is_left_in_the_order_of_the_plan(contents, sums_of):
    made = contents()
    totals = totals_of(made)
    for index in (9, 0, 4):
        totals.add(made.plan.tile(index), sums_of(made.plan.tile(index)))
    assert list(totals.left()) == [1, 2, 3, 5, 6, 7, 8, 10, 11]
    assert totals.num_left == 9
    left = totals.left()
    assert next(left) == 1
    totals.add(made.plan.tile(2), sums_of(made.plan.tile(2)))
    assert next(left) == 2, "the list to work through is made once: what was begun is not taken out of it"


def test_a_split_in_one_piece_passes_through(contents, sums_of):
    plan = Plan(num_points=7, points_per_tile=4, shards=(("train", 1),))
    totals = Totals(plan, 4)
    sums = sums_of(plan.tile(0))
    assert totals.add(plan.tile(0), sums) is sums


def test_a_file_that_is_open_to_look_at_cannot_be_written(surface_file, sums_of):
    path, made = surface_file()
    with open_tiles(path, mode="r") as store, pytest.raises((OSError, ValueError, RuntimeError)):
        store.write(0, sums_of(made.plan.tile(0)))


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(LandscapeError, match="there is no such file"):
        open_tiles(tmp_path / "none.h5")


def test_a_tile_is_in_the_file_before_the_next_is_written(surface_file, sums_of):
    # A kill takes what the library still holds back; another handle sees what is in the file.
    path, made = surface_file()
    tile = made.plan.tile(0)
    with open_tiles(path) as store:
        before = path.read_bytes()
        store.write(tile.index, sums_of(tile))
        assert sums_of(tile).tobytes() not in before
        assert sums_of(tile).tobytes() in path.read_bytes()
