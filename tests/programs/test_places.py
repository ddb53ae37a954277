"""Where a surface file may be: behind links, under any name, and where nobody may write."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import pytest

from mpi_landscape import inspect, surface
from mpi_landscape.storage.surface.reader import read_surface
from plotting import __main__ as plotting
from tests.programs.conftest import FAR

# A path as it may be on somebody's disk, each part for its own reason.
NAMES = {
    "spaces": "two words/loss surface 1.h5",
    "letters": "Lösungen/地形 η.h5",
    "a colon, which MPI takes for the end of a file system's name": "2026-11-26T08:12:30/alpha:beta.h5",
    "marks that a shell reads": 'it\'s $HOME & "more" (1)*/[a-b]?.h5',
}


@pytest.fixture
def shown(here):
    """Inspect and draw a file; both must do without a word of complaint. Returns the picture."""

    def run(path, *arguments):
        for program, *argv in ([inspect.main, path], [plotting.main, path, *arguments]):
            ended = here(program, *argv)
            assert (ended.status, ended.err) == (0, ""), program
        return ended.out.split("\n")[0]

    return run


@pytest.mark.parametrize("name", NAMES.values(), ids=[name.split(",")[0] for name in NAMES])
def test_any_name_is_a_name(study, contents, computed, shown, name):
    computed("--output", str(study.folder / "reference.h5"))
    computed("--output", name)
    assert "complete" in computed("--output", name).out
    assert contents(study.folder / name) == contents(study.folder / "reference.h5")
    picture = shown(study.folder / name, "--kind", "heatmap", "--quantity", "train_loss")
    assert Path(picture).parent == (study.folder / name).parent
    assert Path(picture).stat().st_size > 0


@pytest.mark.mpi
@pytest.mark.slow
@pytest.mark.exhaustive
@pytest.mark.parametrize("writer", ["root", "parallel"])
def test_any_name_is_a_name_for_each_writer(study, contents, computed, launch, writer):
    if writer == "parallel" and not h5py.get_config().mpi:
        pytest.skip("h5py is built without MPI; .ci/run shows how to build it with parallel HDF5")
    computed("--output", str(study.folder / "reference.h5"))
    name = "Lösungen 2026-11-26T08:12:30/it's $HOME & (1)*: 地形 η.h5"
    program = ("-m", "mpi_landscape.surface", str(study.configuration), "--writer", writer)
    done = launch(2, *program, "--output", name, cwd=study.folder, env={"LC_ALL": "C"})
    assert done.returncode == 0, done.stderr
    assert contents(study.folder / name) == contents(study.folder / "reference.h5")


def test_a_name_in_no_encoding_is_refused_in_a_line(study, here):
    ended = here(surface.main, study.configuration, "--output", os.fsdecode(b"caf\xe9.h5"))
    assert ended.status == 2
    (line,) = ended.err.splitlines()
    assert ": output is " in line


@pytest.fixture
def elsewhere(tmp_path):
    """A folder of another file system than the study's."""
    shm = Path("/dev/shm")
    if not shm.is_dir() or shm.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("no second file system: mount a tmpfs on /dev/shm")
    folder = shm / f"mpi_landscape_test_{os.getpid()}"
    folder.mkdir()
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize("there", [False, True], ids=["dangling", "to a file"])
def test_a_link_to_another_file_system_stays_a_link(study, contents, computed, elsewhere, there):
    target = elsewhere / "deep" / "surface.h5"
    study.output.symlink_to(target)
    if there:
        computed("--alpha=0:1:3")
    computed(*["--overwrite"] * there)
    assert "complete" in computed().out
    assert study.output.is_symlink()
    assert read_surface(target).alpha.size == 7
    computed("--output", str(study.folder / "reference.h5"))
    assert contents(target) == contents(study.folder / "reference.h5")
    assert [path.name for path in target.parent.iterdir()] == ["surface.h5"]


def test_a_link_to_itself_is_refused_in_a_line(study, here):
    study.output.symlink_to(study.output)
    ended = here(surface.main, study.configuration)
    assert ended.status == 2
    (line,) = ended.err.splitlines()
    assert line.startswith(f"error: {study.output}: ")
    assert "link" in line


def test_a_folder_behind_a_link_is_refused_as_a_folder(study, here):
    (study.folder / "folder").mkdir()
    study.output.symlink_to(study.folder / "folder")
    ended = here(surface.main, study.configuration)
    assert ended.status == 2
    assert "is a folder" in ended.err


@pytest.fixture
def read_only(tmp_path):
    """Run a program for which one place is on a file system that is mounted to be read only."""
    mounting = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && exec "$@"'
    words = ["unshare", "--mount", "sh", "-c", mounting]
    tried = shutil.which("unshare") and subprocess.run([*words, str(tmp_path), "true"], capture_output=True)
    if not tried or tried.returncode != 0:
        pytest.skip("mounting is not permitted here: run the tests as root (apt install util-linux)")

    def run(place, module, *arguments, launcher=()):
        program = [*launcher, sys.executable, "-m", module, *map(str, arguments)]
        # Without what an Open MPI in this very process has left for its children.
        environment = dict(os.environ)
        return subprocess.run(
            [*words, str(place), *program], capture_output=True, text=True, timeout=FAR, env=environment
        )

    return run


def _refused(done, path, words):
    assert done.returncode == 2, done.stdout + done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: {path}: "), line
    assert words in line


def test_a_new_file_in_a_read_only_folder_is_refused_at_once(study, read_only):
    folder = study.folder / "archive"
    folder.mkdir()
    output = folder / "surface.h5"
    done = read_only(folder, "mpi_landscape.surface", study.configuration, "--output", output)
    _refused(done, output, "Read-only file system")
    assert "center" not in done.stdout, "it has computed before"
    assert list(folder.iterdir()) == []


def test_a_finished_file_in_a_read_only_folder_is_shown_and_drawn(study, computed, read_only):
    folder = study.folder / "archive"
    output = folder / "surface.h5"
    computed("--output", str(output))
    shown = read_only(folder, "mpi_landscape.inspect", output)
    assert (shown.returncode, shown.stderr) == (0, "")
    drawn = read_only(folder, "plotting", output, "--output", study.folder / "picture.png")
    assert (drawn.returncode, drawn.stderr) == (0, "")
    beside = read_only(folder, "plotting", output)
    assert beside.returncode == 2
    (line,) = beside.stderr.splitlines()
    assert "Read-only file system" in line


def _unfinished(path):
    with h5py.File(path, "r+") as file:
        file["tiles/status"][3] = 0
    return path.read_bytes()


def test_an_unfinished_file_that_may_not_be_written_is_refused(study, computed, read_only):
    computed()
    before = _unfinished(study.output)
    done = read_only(study.output, "mpi_landscape.surface", study.configuration)
    _refused(done, study.output, "Read-only file system")
    assert study.output.read_bytes() == before


@pytest.mark.mpi
def test_all_ranks_refuse_a_file_that_may_not_be_written(study, computed, read_only, launcher):
    if not h5py.get_config().mpi:
        pytest.skip("h5py is built without MPI; .ci/run shows how to build it with parallel HDF5")
    computed()
    before = _unfinished(study.output)
    program = ("mpi_landscape.surface", study.configuration, "--writer", "parallel")
    done = read_only(study.output, *program, launcher=launcher(2))
    assert done.returncode == 2, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert f"{study.output}: cannot be written: Read-only file system" in lines[0]
    assert study.output.read_bytes() == before


def test_a_file_that_may_not_be_written_and_is_finished_is_left_as_it_is(study, computed, read_only):
    computed()
    done = read_only(study.output, "mpi_landscape.surface", study.configuration)
    assert done.returncode == 0, done.stderr
    assert "complete" in done.stdout
