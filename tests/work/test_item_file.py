"""A job that is kept in a file of items: made whole, gone on with, refused to others, read by xarray."""

from __future__ import annotations

import numpy as np
import pytest

from mpi_landscape.errors import LandscapeError
from mpi_landscape.parallel.launcher import open_ranks
from mpi_landscape.parallel.stopping import Stopping
from mpi_landscape.storage.item_file import (
    ItemContents,
    Variable,
    is_finished,
    num_done,
    open_item_file,
    read_results,
    read_variable,
)
from mpi_landscape.work.item_file import EachItem, ItemFile
from mpi_landscape.work.job import Job
from mpi_landscape.work.running import complete

NUM_ITEMS = 5


def contents(identity="one"):
    return ItemContents(
        kind="squares",
        num_items=NUM_ITEMS,
        columns=("sum", "count"),
        dimension="step",
        coordinate=np.arange(NUM_ITEMS) / 2,
        results={"group/mean": ("nats", "the mean")},
        fixed={
            "group/name": Variable(values=["é", "bc", "", "d", "e"], dimensions=("step",)),
            "matrix": Variable(values=np.eye(3, dtype=np.float32), dimensions=("row", "column")),
        },
        attributes={"identity_what": identity},
    )


def kept(path, identity="one", overwrite=False):
    return ItemFile(
        path,
        contents(identity),
        what="a file of squares",
        kind="squares",
        identity={"what": identity},
        overwrite=overwrite,
    )


def run(path, *, fail_at=None, evaluated=None, **options):
    def evaluate(item, between):
        if item == fail_at:
            raise KeyboardInterrupt
        if evaluated is not None:
            evaluated.append(item)
        return np.array([3.0 * item, 2.0])

    job = Job(
        num_items=NUM_ITEMS,
        row_size=2,
        evaluate=evaluate,
        account=lambda: EachItem(NUM_ITEMS, lambda item, row: {"group/mean": row[0] / row[1]}),
        is_shown=False,
    )
    return complete(job, kept(path, **options), open_ranks(), stopping=Stopping())


def test_results_are_those_of_the_rows_and_xarray_reads_them(tmp_path):
    path = tmp_path / "squares.h5"
    assert run(path).summary == "complete"
    with open_item_file(path, "r", kind="squares", what="a file of squares") as file:
        assert is_finished(file)
        np.testing.assert_array_equal(read_results(file)["group/mean"], 1.5 * np.arange(NUM_ITEMS))
        assert read_variable(path, file, "group/name", (NUM_ITEMS,), "O") == ["é", "bc", "", "d", "e"]
        np.testing.assert_array_equal(read_variable(path, file, "matrix", (None, None), "f4"), np.eye(3))
    xarray = pytest.importorskip("xarray")
    with xarray.open_dataset(path, engine="h5netcdf", group="group") as group:
        assert group["mean"].dims == ("step",)
        assert group["mean"].attrs["units"] == "nats"


def test_a_run_that_was_ended_goes_on_with_what_is_left(tmp_path):
    path = tmp_path / "squares.h5"
    with pytest.raises(KeyboardInterrupt):
        run(path, fail_at=2)
    with open_item_file(path, "r", kind="squares", what="a file of squares") as file:
        assert num_done(file) == 2
        assert np.isnan(read_results(file)["group/mean"][2:]).all()
    evaluated: list[int] = []
    run(path, evaluated=evaluated)
    assert evaluated == [2, 3, 4]
    run(path, evaluated=evaluated)
    assert evaluated == [2, 3, 4]


def test_the_file_of_another_run_is_refused_and_replaced_only_when_told(tmp_path):
    path = tmp_path / "squares.h5"
    run(path)
    with pytest.raises(LandscapeError, match=r"belongs to another run, which differs in what"):
        run(path, identity="two")
    run(path, identity="two", overwrite=True)
    with pytest.raises(LandscapeError, match="is of the kind squares, not a circle"):
        open_item_file(path, "r", kind="circle", what="a circle")
