"""The value that readers return: what it says of itself, and that it is a value."""

import copy
import math
import pickle
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from mpi_landscape.errors import LandscapeError
from mpi_landscape.storage.surface.ending import Ended
from mpi_landscape.storage.surface.reader import read_surface
from mpi_landscape.storage.surface.tiles import open_tiles
from mpi_landscape.storage.surface.value import Surface
from tests.storage.known import known, totals_of

LOSS = np.array([[3.0, 2.0], [np.nan, 0.5], [0.25, np.inf]])


def _pickled(value):
    return pickle.loads(pickle.dumps(value))  # noqa: S301 - our own


@pytest.fixture
def surface():
    done = np.array([[True, True], [True, True], [False, True]])
    return Surface(
        path="runs/mine.h5",
        alpha=np.array([-1.0, 0.0, 1.0]),
        beta=np.array([0.5, 2.0]),
        values={"train_loss": LOSS, "train_accuracy": 1 - LOSS / 10, "test_loss": LOSS + 1},
        done={"train": done, "test": done},
        ending=Ended.UNFINISHED,
        tiles_left=2,
    )


def test_every_quantity_is_an_attribute_and_is_listed(surface):
    for name, values in surface.values.items():
        assert getattr(surface, name) is values
        assert name in dir(surface)
    assert "minimum" in dir(surface)


def test_an_unknown_attribute_names_the_quantities(surface):
    with pytest.raises(
        AttributeError, match="'loss'; its quantities are train_loss, train_accuracy, test_loss"
    ):
        surface.loss  # noqa: B018
    assert not hasattr(surface, "_repr_png_")


def test_the_minimum_is_of_what_is_done_and_finite(surface):
    # 0.25 is not done.
    assert surface.minimum == (0.5, 0.0, 2.0)
    assert surface.minimum_of("test_loss") == (1.5, 0.0, 2.0)
    assert surface.minimum_of("train_accuracy").value == pytest.approx(0.7)
    line = replace(surface, beta=None, values={"test_loss": LOSS[:, 1]}, done={"test": np.ones(3, bool)})
    assert line.minimum == (0.5, 0.0, None)


def test_no_minimum_is_refused_in_one_line(surface):
    empty = replace(surface, done={"train": np.zeros((3, 2), bool), "test": np.zeros((3, 2), bool)})
    with pytest.raises(LandscapeError, match="train_loss has no finite value yet"):
        empty.minimum  # noqa: B018
    with pytest.raises(LandscapeError, match="no quantity 'loss'; valid quantities are train_loss"):
        surface.minimum_of("loss")


def test_its_text_is_two_lines_without_an_array(surface):
    big = replace(surface, attributes={"configuration": "x" * 1000})
    assert repr(big) == (
        "Surface('runs/mine.h5', 3 x 2 points, train, test; 83 % done, 2 tiles left)\n  lowest train loss 0.5 at (0, 2)"
    )


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, _pickled, replace])
def test_a_copy_is_the_same_value(surface, again):
    found = again(surface)
    assert repr(found) == repr(surface)
    assert found.ending is Ended.UNFINISHED
    np.testing.assert_array_equal(found.train_loss, LOSS)


def test_a_file_that_is_read_survives_a_pickle(surface_file):
    path, _ = surface_file()
    found = _pickled(read_surface(path))
    assert found.with_weight_decay(2.0).attributes["weight_decay"] == 2.0


@pytest.mark.parametrize(("left", "ending"), [(0, Ended.FINISHED), (3, Ended.UNFINISHED)])
def test_a_file_says_whether_it_is_finished_and_how_many_tiles_are_left(surface_file, sums_of, left, ending):
    path, made = surface_file()
    totals = totals_of(made)
    with open_tiles(path) as store:
        for index in range(made.plan.num_tiles - left):
            tile = made.plan.tile(index)
            store.write(index, sums_of(tile))
            whole = totals.add(tile, sums_of(tile))
            if whole is not None:
                store.publish(known(made, tile, whole))
    found = read_surface(path)
    assert (found.ending, found.tiles_left) == (ending, left)


def test_every_ending_has_a_sentence_of_its_own():
    assert len({each.sentence for each in Ended}) == len(Ended) == 4
    assert str(Ended.SIGNAL) == Ended.SIGNAL.sentence


def test_xarray_gets_what_it_would_read_from_the_file(surface_file):
    xarray = pytest.importorskip("xarray", reason="needs pip install xarray h5netcdf")
    pytest.importorskip("h5netcdf", reason="needs pip install xarray h5netcdf")
    path, _ = surface_file(host="node1")
    found = read_surface(path).to_xarray()
    with xarray.open_dataset(path, engine="h5netcdf") as expected:
        xarray.testing.assert_equal(found, expected)
        assert found.sizes == expected.sizes
        assert set(found.attrs) == set(expected.attrs) - {"_NCProperties"}
        for name, variable in expected.variables.items():
            assert found[name].dims == variable.dims
            assert dict(found[name].attrs) == dict(variable.attrs), name


WITHOUT = """
import sys
sys.modules[{module!r}] = None
from mpi_landscape.errors import LandscapeError
from mpi_landscape.storage.surface.reader import read_surface
try:
    read_surface({path!r}).{call}
except LandscapeError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("module", "call", "words"),
    [
        ("xarray", "to_xarray()", "to_xarray() needs xarray: pip install xarray"),
        ("matplotlib", "plot()", "plot() needs matplotlib: pip install matplotlib"),
    ],
)
def test_a_library_that_is_absent_is_named_in_one_line(surface_file, module, call, words):
    path, _ = surface_file()
    code = WITHOUT.format(module=module, call=call, path=str(path))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == [words], done.stderr


def test_a_nan_is_no_minimum():
    line = Surface(
        path="a.h5", alpha=np.arange(2.0), beta=None, values={"x": np.array([math.nan, 4.0])}, done={}
    )
    assert line.minimum_of("x") == (4.0, 1.0, None)
    with pytest.raises(LandscapeError, match="there is no loss; valid is minimum_of one of x"):
        line.minimum  # noqa: B018
