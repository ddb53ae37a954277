import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from mpi_landscape import LandscapeError
from mpi_landscape.storage import writer
from mpi_landscape.storage.surface import schema
from mpi_landscape.storage.surface.creation import Contents, create
from mpi_landscape.storage.surface.reader import read_surface, verify_tiles
from mpi_landscape.storage.surface.tiles import open_tiles
from tests.storage.known import known, totals_of

ONE = ["/usr/lib/libmpi.so.40.30.4"]
TWO = [*ONE, "/opt/mpich/lib/libmpi.so.12"]


@pytest.mark.parametrize(
    ("request_", "size", "parallel", "libraries", "expected", "reason"),
    [
        ("auto", 4, True, ONE, ("parallel", "h5py has parallel HDF5"), "everything is there"),
        ("parallel", 4, True, ONE, ("parallel", "asked for"), "asked for and possible"),
        ("root", 4, True, ONE, ("root", "asked for"), "the choice is the user's"),
        ("root", 4, False, TWO, ("root", "asked for"), "rank 0 alone needs no MPI in HDF5"),
        ("auto", 4, False, ONE, ("root", "h5py is built without MPI"), "the wheel"),
        ("auto", 1, True, ONE, ("root", "there is one rank"), "nobody to share the work with"),
        (
            "auto",
            4,
            True,
            TWO,
            ("root", f"h5py and mpi4py use different MPI libraries ({' and '.join(TWO)})"),
            "two MPIs in one process end in a crash",
        ),
    ],
)
def test_the_writer_is_chosen_with_its_reason(
    monkeypatch, request_, size, parallel, libraries, expected, reason
):
    monkeypatch.setattr(writer, "has_parallel_hdf5", lambda: parallel)
    monkeypatch.setattr(writer, "mapped_mpi_libraries", lambda: libraries)
    assert writer.choose_writer(request_, size) == expected, reason


@pytest.mark.parametrize(
    ("size", "parallel", "libraries", "words"),
    [
        (4, False, ONE, "h5py is built without MPI"),
        (4, True, TWO, "different MPI libraries"),
        (1, True, ONE, "there is one rank"),
    ],
)
def test_a_parallel_writer_that_cannot_be_is_refused_with_the_reason(
    monkeypatch, size, parallel, libraries, words
):
    monkeypatch.setattr(writer, "has_parallel_hdf5", lambda: parallel)
    monkeypatch.setattr(writer, "mapped_mpi_libraries", lambda: libraries)
    with pytest.raises(
        LandscapeError, match=f"--writer: parallel is not possible: .*{words}.*use auto or root"
    ):
        writer.choose_writer("parallel", size)


def test_an_unknown_writer_is_refused_with_the_valid_ones():
    with pytest.raises(LandscapeError, match="--writer: 'serial' is unknown; valid are auto, parallel, root"):
        writer.choose_writer("serial", 2)


MAPS = """\
55d0-55d1 r--p 00000000 08:01 131 /usr/bin/python3.11
7f00-7f01 r--p 00000000 08:01 132 /usr/lib/x86_64-linux-gnu/libmpi.so.40.30.4
7f01-7f02 r-xp 00001000 08:01 132 /usr/lib/x86_64-linux-gnu/libmpi.so.40.30.4
7f02-7f03 r-xp 00001000 08:01 133 /usr/lib/x86_64-linux-gnu/libmpi_mpifh.so.40
7f03-7f04 rw-p 00000000 00:00 0
7f04-7f05 r-xp 00000000 08:01 134 /opt/my mpich/lib/libmpich.so.12.5
7ffc-7ffd rw-p 00000000 00:00 0 [stack]
"""


def test_the_mapped_libraries_are_found_once_each(tmp_path):
    (tmp_path / "maps").write_text(MAPS)
    assert writer.mapped_mpi_libraries(tmp_path / "maps") == [
        "/opt/my mpich/lib/libmpich.so.12.5",
        "/usr/lib/x86_64-linux-gnu/libmpi.so.40.30.4",
    ]


def test_a_system_without_maps_has_no_libraries_to_show(tmp_path):
    assert writer.mapped_mpi_libraries(tmp_path / "none") == []


def test_it_is_known_whether_this_hdf5_is_parallel():
    assert writer.has_parallel_hdf5() == h5py.get_config().mpi


def _by_root(path: Path, made: Contents, seed: int) -> None:
    create(path, made)
    totals = totals_of(made)
    with open_tiles(path) as store:
        for index in range(made.plan.num_tiles):
            tile = made.plan.tile(index)
            sums = np.random.default_rng([seed, index]).random((tile.num_points, 4))
            store.write(tile.index, sums)
            whole = totals.add(tile, sums)
            if whole is not None:
                store.publish(known(made, tile, whole))


@pytest.mark.parametrize(("size", "end"), [(2, []), (3, []), (3, ["abort"])])
def test_both_writers_make_the_same_file(launch, contents, tmp_path, size, end):
    if not writer.has_parallel_hdf5():
        pytest.skip("h5py has no parallel HDF5: .ci/run shows how to build it with HDF5_MPI=ON")
    made = contents()
    _by_root(tmp_path / "root.h5", made, 5)
    create(tmp_path / "parallel.h5", made)
    job = Path(__file__).with_name("writer_job.py")
    done = launch(size, "-m", "mpi4py", job, tmp_path / "parallel.h5", "5", *end)
    assert (done.returncode == 0) == (not end), done.stderr
    assert verify_tiles(tmp_path / "parallel.h5") == (12, 12, 0)
    assert read_surface(tmp_path / "parallel.h5").progress == 1.0
    with h5py.File(tmp_path / "root.h5") as one, h5py.File(tmp_path / "parallel.h5") as other:
        assert dict(one.attrs).keys() == dict(other.attrs).keys()
        for name in schema.arrays(made.grid, made.plan, made.quantities):
            assert one[name][...].tobytes() == other[name][...].tobytes(), name


def test_the_two_libraries_of_this_process_are_one():
    # What the doctor relies on: after h5py and mpi4py are loaded there is one MPI, or none.
    if "mpi4py.MPI" not in sys.modules:
        pytest.importorskip(
            "mpi4py.MPI", reason="needs pip install mpi4py mpich", exc_type=(ImportError, RuntimeError)
        )
    assert len(writer.mapped_mpi_libraries()) == 1
