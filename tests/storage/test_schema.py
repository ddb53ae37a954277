import resource
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import h5py
import numpy as np
import pytest

from mpi_landscape import LandscapeError
from mpi_landscape.plan.grid import Axis, Grid
from mpi_landscape.storage.files import read_attributes
from mpi_landscape.storage.surface import schema
from mpi_landscape.storage.surface.creation import create

LINE = Grid(Axis(-0.5, 1.0, 7))


def datasets(path: Path) -> dict[str, h5py.Dataset]:
    """Name to (shape, type, layout, bytes taken, offset) of every dataset."""
    found = {}

    def visit(name, item):
        if isinstance(item, h5py.Dataset):
            found[name] = (item.shape, item.dtype, item.id.get_create_plist().get_layout(), item.id)

    with h5py.File(path, "r") as file:
        file.visititems(visit)
        return {
            name: (shape, dtype, layout, identifier.get_storage_size(), identifier.get_offset())
            for name, (shape, dtype, layout, identifier) in found.items()
        }


def test_every_dataset_that_changes_is_contiguous_and_allocated_before_the_first_result(surface_file):
    path, made = surface_file()
    found = datasets(path)
    changing = schema.arrays(made.grid, made.plan, made.quantities)
    for name, (shape, dtype, _) in changing.items():
        stored_shape, stored_dtype, layout, size, offset = found[name]
        assert (stored_shape, stored_dtype) == (shape, dtype), name
        assert layout == h5py.h5d.CONTIGUOUS, name
        assert size == dtype.itemsize * np.prod(shape), name
        assert offset is not None, f"{name} has no place in the file yet"


def test_a_new_file_says_that_nothing_is_done(surface_file):
    path, made = surface_file()
    with h5py.File(path, "r") as file:
        for name in schema.results(made.plan, made.quantities):
            assert np.isnan(file[name][...]).all(), name
        assert not file["tiles/status"][...].any()
        assert np.isnan(file["tiles/train_sums"][...]).all()


@pytest.mark.parametrize(
    ("grid", "accuracy", "expected", "reason"),
    [
        (
            Grid(Axis(-0.5, 1.0, 4), Axis(0.0, 2.0, 3)),
            True,
            {
                "alpha": (4,),
                "beta": (3,),
                "train_loss": (4, 3),
                "train_accuracy": (4, 3),
                "test_loss": (4, 3),
                "test_accuracy": (4, 3),
                "tiles/train_sums": (3, 12, 4),
                "tiles/test_sums": (1, 12, 4),
                "tiles/status": (12,),
                "tiles/checksum": (12,),
                "directions/center": (7,),
                "directions/alpha": (7,),
                "directions/beta": (7,),
                "directions/tensor_name": (2,),
            },
            "a surface: alpha first, beta second",
        ),
        (
            LINE,
            False,
            {"alpha": (7,), "train_loss": (7,), "test_loss": (7,), "directions/alpha": (7,)},
            "a line without accuracies",
        ),
    ],
)
def test_a_file_has_the_arrays_of_the_schema_in_its_shapes(surface_file, grid, accuracy, expected, reason):
    path, _ = surface_file(grid=grid, accuracy=accuracy)
    found = {name: facts[0] for name, facts in datasets(path).items()}
    assert expected.items() <= found.items(), reason
    if not accuracy:
        assert not [name for name in found if "accuracy" in name], reason
    assert ("beta" in found) == (grid.beta is not None), reason
    assert ("directions/beta" in found) == (grid.beta is not None), reason


def test_coordinates_vectors_and_layout_are_stored_as_given(surface_file):
    path, made = surface_file()
    with h5py.File(path, "r") as file:
        assert file["alpha"][...].tolist() == [-0.5, 0.0, 0.5, 1.0]
        assert file["beta"][...].tolist() == [0.0, 1.0, 2.0]
        for name, vector in {"center": made.center, **made.directions}.items():
            assert file[f"directions/{name}"].dtype == np.float32
            assert file[f"directions/{name}"][...].tobytes() == vector.tobytes(), name
        columns = {
            name: file[f"directions/tensor_{name}"][...].tolist()
            for name in ("name", "shape", "kind", "offset")
        }
    assert columns == {
        "name": [b"dense.weight", b"dense.bias"],
        "shape": [b"2,3", b"1"],
        "kind": [b"weight", b"bias"],
        "offset": [0, 6],
    }


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({}, "a surface with shards"),
        ({"grid": LINE}, "a line"),
        ({"accuracy": False}, "no accuracies"),
        ({"grid": Grid(Axis(0.25, 0.25, 1), Axis(-1, 1, 2))}, "an axis of one point"),
        ({"shards": (("train", 1),), "points_per_tile": 100}, "one split, one tile"),
        (
            {"shards": (("train", 2), ("train_large", 1)), "points_per_tile": 1},
            "a split that begins like another",
        ),
    ],
)
def test_a_file_says_its_own_grid_and_plan(surface_file, settings, reason):
    path, made = surface_file(**settings)
    with schema.open_file(path, "r") as file:
        assert schema.read_plan(file) == (made.grid, made.plan, made.quantities), reason


@pytest.mark.parametrize(
    ("value", "stored", "reason"),
    [
        ("α: 1\nβ: 2", "α: 1\nβ: 2", "a configuration is text in Greek, on many lines"),
        ("x" * 100_000, "x" * 100_000, "more than the 64 kB that an attribute in an object header may have"),
        ("surface-\udcff.h5", "surface-\\udcff.h5", "a command line with a byte that is no UTF-8"),
        (np.nan, np.nan, "a certificate may be undefined"),
        (3, 3, "a number"),
    ],
)
def test_an_attribute_is_kept(surface_file, value, stored, reason):
    path, _ = surface_file(text=value)
    with h5py.File(path, "r") as file:
        value = read_attributes(file)["text"]
        assert value == stored or np.isnan(stored), reason


def test_no_text_lies_in_the_heap_of_variable_lengths_that_has_no_checksum(surface_file):
    path, _ = surface_file()
    found = []

    def look(name, item):
        dtype = item.dtype if isinstance(item, h5py.Dataset) else np.dtype(int)
        found.extend([name] if h5py.check_string_dtype(dtype) and dtype.kind == "O" else [])
        for attribute in item.attrs:
            kind = item.attrs.get_id(attribute).get_type()
            found.extend(
                [f"{name}@{attribute}"]
                if isinstance(kind, h5py.h5t.TypeStringID) and kind.is_variable_str()
                else []
            )

    with h5py.File(path, "r") as file:
        look("", file)
        file.visititems(look)
        program = file.attrs.get_id("program")
        assert program.dtype.kind == "S", "and this looks in the right place"
        assert program.get_type().get_cset() == h5py.h5t.CSET_UTF8
    assert not found


def test_no_attribute_can_replace_those_of_the_schema(surface_file):
    path, made = surface_file(schema=7, program="another", splits="x", points_per_tile=99)
    with schema.open_file(path, "r") as file:
        assert schema.read_plan(file)[1] == made.plan


def test_an_existing_file_is_replaced_and_no_other_is_left(surface_file, tmp_path):
    surface_file(grid=LINE)
    path, made = surface_file()
    with schema.open_file(path, "r") as file:
        assert schema.read_plan(file)[0] == made.grid
    assert [found.name for found in tmp_path.iterdir()] == ["surface.h5"]


def test_folders_are_made(contents, tmp_path):
    path = tmp_path / "deep" / "down" / "surface.h5"
    create(path, contents())
    assert path.exists()


def test_a_link_stays_a_link(contents, tmp_path):
    target, link = tmp_path / "scratch.h5", tmp_path / "surface.h5"
    link.symlink_to(target)
    create(link, contents())
    assert link.is_symlink()
    schema.open_file(target, "r").close()


@pytest.mark.parametrize(
    ("place", "words", "reason"),
    [
        ("file/surface.h5", "File exists|Not a directory", "its folder is a file"),
        ("folder", "Is a directory", "it is a folder itself"),
        ("n" * 300, "File name too long", "the name is too long"),
        ("n" * 250, "File name too long", "the name is so long that the new file's is too long"),
        (
            "/proc/none/surface.h5",
            "No such file|Permission|not permitted",
            "nobody may write there, not even root",
        ),
    ],
)
def test_a_place_that_cannot_be_written_is_refused_in_a_line(contents, tmp_path, place, words, reason):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    with pytest.raises(LandscapeError, match=words) as caught:
        create(tmp_path / place, contents())
    assert str(caught.value).startswith(str(tmp_path / place)), reason
    assert "--output" in str(caught.value), reason
    assert sorted(found.name for found in tmp_path.iterdir()) == ["file", "folder"], reason


def test_a_full_disk_is_refused_in_a_line_and_the_old_file_stays(surface_file, contents, tmp_path):
    path, _ = surface_file()
    before = path.read_bytes()
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        # A limit for files stands in for a disk; the numbers of this grid alone take 200 kB.
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
        with pytest.raises(LandscapeError, match=r"surface\.h5: cannot be written: File too large; choose"):
            create(path, contents(grid=Grid(Axis(0, 1, 90), Axis(0, 1, 40))))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert path.read_bytes() == before
    assert [found.name for found in tmp_path.iterdir()] == ["surface.h5"]


def test_a_kill_during_creation_leaves_the_old_file(surface_file):
    path, _ = surface_file()
    before = path.read_bytes()
    # The instant at which most is written and nothing is in place.
    program = f"""
        import os, signal
        from pathlib import Path
        import numpy as np
        from mpi_landscape.plan.grid import Axis, Grid
        from mpi_landscape.plan.tiles import Plan
        from mpi_landscape.plan.quantities import Quantities
        from mpi_landscape.storage.surface.creation import Contents, create
        os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
        vector = np.zeros(3, dtype=np.float32)
        create(Path({str(path)!r}), Contents(
            grid=Grid(Axis(0, 1, 2)), plan=Plan(num_points=2, points_per_tile=1, shards=(("train", 1),)),
            quantities=Quantities(accuracy=True), center=vector, directions={{"alpha": vector}}, layout=[], attributes={{}}))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert path.read_bytes() == before


def _foreign(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["train_loss"] = np.zeros(3)


def _newer(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file.attrs["schema"] = 2


def _without_tiles(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        del file["tiles"]


@pytest.mark.parametrize(
    ("spoil", "words", "reason"),
    [
        (Path.unlink, "there is no such file", "it is not there"),
        (lambda path: path.write_text("alpha,beta,loss\n"), "is not a surface file", "it is text"),
        (lambda path: path.write_bytes(b""), "is not a surface file|not one of", "it is empty"),
        (
            lambda path: path.write_bytes(path.read_bytes()[:3000]),
            "is not a surface file",
            "it was cut off in a copy",
        ),
        (_foreign, "not one of mpi_landscape", "it is HDF5 of another program"),
        (_newer, "has schema 2, this version reads and writes schema 1", "it is of a later version"),
        (_without_tiles, "has lost its tiles", "xarray's to_netcdf copies the root group only"),
    ],
)
@pytest.mark.parametrize("mode", ["r", "r+"])
def test_what_is_no_surface_file_is_refused_by_name(surface_file, spoil, words, reason, mode):
    path, _ = surface_file()
    spoil(path)
    with pytest.raises(LandscapeError, match=words) as caught:
        schema.open_file(path, mode)
    assert str(path) in str(caught.value), reason


def test_a_folder_and_an_impossible_name_are_refused(tmp_path):
    for path in (tmp_path, tmp_path / ("n" * 300)):
        with pytest.raises(
            LandscapeError, match=r"is not a surface file \(a folder\)|cannot be read: File name too long"
        ):
            schema.open_file(path, "r")


def test_a_file_can_be_read_while_it_is_open_for_writing(surface_file):
    path, _ = surface_file()
    program = f"""
        import sys
        from pathlib import Path
        from mpi_landscape.storage.surface.reader import read_surface
        sys.stdout.write(str(read_surface(Path({str(path)!r})).progress))
    """
    with schema.open_file(path, "r+"):
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=300
        )
    assert done.stdout == "0.0", done.stderr
