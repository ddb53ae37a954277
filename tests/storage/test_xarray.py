"""The file as a stranger's program sees it."""

import numpy as np
import pytest

from mpi_landscape.plan.grid import Axis, Grid
from mpi_landscape.storage.surface.tiles import open_tiles
from tests.storage.known import known, totals_of

xarray = pytest.importorskip("xarray", reason="needs pip install xarray h5netcdf")
pytest.importorskip("h5netcdf", reason="needs pip install xarray h5netcdf")

SURFACE = Grid(Axis(-0.5, 1.0, 4), Axis(0.0, 2.0, 3))
LINE = Grid(Axis(-0.5, 1.0, 7))


@pytest.fixture
def finished(surface_file, sums_of):
    """Make a file in which everything is done."""

    def make(**settings):
        path, made = surface_file(**settings)
        totals = totals_of(made)
        with open_tiles(path) as store:
            for index in range(made.plan.num_tiles):
                tile = made.plan.tile(index)
                store.write(tile.index, sums_of(tile))
                whole = totals.add(tile, sums_of(tile))
                if whole is not None:
                    store.publish(known(made, tile, whole))
        return path, made

    return make


@pytest.mark.parametrize(
    ("grid", "axes", "reason"),
    [
        (SURFACE, ("alpha", "beta"), "a surface"),
        (LINE, ("alpha",), "a line"),
        (Grid(LINE.alpha, Axis(0.5, 0.5, 1)), ("alpha", "beta"), "an axis of one point"),
        (Grid(Axis(0, 1, 3), Axis(2, 3, 3)), ("alpha", "beta"), "axes of equal length are told apart"),
    ],
)
def test_alpha_and_beta_are_labelled_coordinates(finished, whole_of, grid, axes, reason):
    path, made = finished(grid=grid)
    with xarray.open_dataset(path, engine="h5netcdf") as dataset:
        assert set(dataset.coords) == set(axes), reason
        assert set(dataset.data_vars) == {"train_loss", "train_accuracy", "test_loss", "test_accuracy"}, (
            reason
        )
        for axis in axes:
            assert dataset[axis].dims == (axis,)
            np.testing.assert_array_equal(dataset[axis], getattr(grid, axis).values)
        for name, variable in dataset.data_vars.items():
            assert variable.dims == axes, name
        loss, accuracy = whole_of(made, "train")
        np.testing.assert_array_equal(dataset["train_loss"], loss)
        np.testing.assert_array_equal(dataset["train_accuracy"], accuracy)


def test_a_value_is_found_by_its_coordinates(finished, whole_of):
    path, made = finished()
    with xarray.open_dataset(path, engine="h5netcdf") as dataset:
        found = dataset["test_loss"].sel(alpha=0.5, beta=2.0)
        assert float(found) == whole_of(made, "test")[0][2, 2]


def test_units_and_attributes_are_shown(finished):
    path, _ = finished(host="node1", certificate_cosine=0.125)
    with xarray.open_dataset(path, engine="h5netcdf") as dataset:
        assert dataset["train_loss"].attrs["units"] == "nats per example"
        assert dataset["train_accuracy"].attrs["units"] == "1"
        assert dataset["train_loss"].attrs["long_name"] == "train loss"
        assert dataset.attrs["host"] == "node1"
        assert dataset.attrs["certificate_cosine"] == 0.125
        assert dataset.attrs["schema"] == 1


def test_the_groups_open_too(finished):
    path, made = finished()
    with xarray.open_dataset(path, engine="h5netcdf", group="tiles") as tiles:
        assert dict(tiles.sizes) == {"train_shard": 3, "test_shard": 1, "position": 12, "sum": 4, "tile": 12}
        assert tiles["train_sums"].dims == ("train_shard", "position", "sum")
        assert tiles["status"].dims == tiles["checksum"].dims == ("tile",)
        assert (tiles["status"] == 1).all()
        assert tiles.attrs["sums"] == "loss_sum, correct, examples, loss_squares"
    with xarray.open_dataset(path, engine="h5netcdf", group="directions") as directions:
        assert directions["center"].dims == ("parameter",)
        np.testing.assert_array_equal(directions["beta"], made.directions["beta"])
        assert directions["tensor_name"].dims == ("tensor",)
        assert [name.decode() for name in directions["tensor_name"].values] == ["dense.weight", "dense.bias"]
