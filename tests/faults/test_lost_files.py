"""A file that is lost under way: the job says so, fails, and keeps what is finished where it can."""

import os
import re
import shutil
from pathlib import Path

import h5py
import pytest

from tests.exhaustive import rows, values
from tests.faults import jobs
from tests.faults.aftermath import verified_tiles

pytestmark = pytest.mark.slow


def _delete(job, _):
    job.file.unlink()


def _replace(job, _):
    beside = job.folder / "other"
    beside.write_text("a file of somebody else")
    beside.replace(job.file)


def _roll_back(job, old):
    shutil.copy2(old, job.folder / "backup.h5")
    (job.folder / "backup.h5").replace(job.file)


def _roll_back_in_place(job, old):
    with job.file.open("rb+") as file:
        file.write(old.read_bytes())


def _cut(job, _):
    os.truncate(job.file, 1000)


def _cut_to_nothing(job, _):
    os.truncate(job.file, 0)


def _another_run_s_in_place(job, _):
    """As `cp` would leave it."""
    with h5py.File(job.folder / "copy.h5", "w") as copy, h5py.File(job.file, "r") as own:
        for name in own:
            own.copy(name, copy)
        copy.attrs.update(own.attrs)
        copy.attrs["identity_plan"] = "of another run"
    shutil.copyfile(job.folder / "copy.h5", job.file)


def _rename_the_folder(job, _):
    job.folder.rename(job.folder.with_name("moved"))


def _delete_the_folder(job, _):
    shutil.rmtree(job.folder)


# What is done to the file, what the job says of it, and whether all that was finished is kept somewhere.
WAYS = [
    (_delete, "is gone while it was written .*kept as", True),
    (_replace, "is another file since it was opened; .*kept as", True),
    (_roll_back, "is another file since it was opened; .*kept as", True),
    (_roll_back_in_place, "finished .* no longer in it", False),
    (_cut, "was cut from|is damaged|is truncated|finished .* no longer in it|is not a surface file", False),
    (_cut_to_nothing, "was cut from|is damaged|finished .* no longer in it|is not a surface file", False),
    (_another_run_s_in_place, "written to by something else|no longer in it", False),
    (_rename_the_folder, "is called .*moved/surface.h5", True),
    (_delete_the_folder, "is gone while it was written .*kept as", True),
]


def _kept_as(printed):
    found = re.search(r"kept as (\S+):|is called (\S+) since", printed)
    return found and (found[1] or found[2])


@pytest.mark.mpi
@pytest.mark.parametrize("ranks", values([1, 2], 2))
@pytest.mark.parametrize(
    ("way", "said", "is_kept"),
    rows(
        {way.__name__.strip("_"): (way, *row) for way, *row in WAYS},
        "delete",
        "roll_back_in_place",
        "rename_the_folder",
    ),
)
def test_a_file_that_is_lost_under_way_is_no_complete_one(
    tmp_path, way, said, is_kept, writer, ranks, record_property
):
    folder = tmp_path / "study"
    folder.mkdir()
    gate = tmp_path / "gate"
    kind = "root" if ranks == 1 else writer
    job = jobs.light(folder, kind, ranks, pause=0.02, gate=gate, log=tmp_path / "finished.txt")
    process = jobs.start(job)
    assert jobs.wait_until(job.file.exists)
    old = tmp_path / "old.h5"
    shutil.copy2(job.file, old)
    gate.touch()
    assert jobs.wait_until(lambda: len(job.finished()) >= 5)
    before = len(job.finished())
    way(job, old)
    out, printed = jobs.end(process)
    assert process.returncode == 1, printed
    assert "complete" not in out
    lines = [line for line in printed.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, printed
    assert re.search(said, lines[0]), lines[0]
    record_property(
        "status 1:", lines[0].partition("surface.h5: ")[2].partition(";")[0].replace(str(tmp_path), "")
    )
    if is_kept:
        assert len(verified_tiles(Path(_kept_as(lines[0])))) >= before
