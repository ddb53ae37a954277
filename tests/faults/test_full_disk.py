"""A file system that is really full: a small tmpfs, mounted for the test."""

import subprocess

import pytest

from tests.faults import injection, jobs
from tests.faults.aftermath import contents, verified_tiles

pytestmark = pytest.mark.mpi
PAGE = 4096


@pytest.fixture
def small_disk(tmp_path):
    """Mount a file system of so many kB."""
    mounted = []

    def mount(kilobytes: int):
        place = tmp_path / f"disk_{len(mounted)}"
        place.mkdir()
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(place)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            pytest.skip(f"no file system can be mounted here; run as root: {done.stderr.strip()}")
        mounted.append(place)
        return place

    yield mount
    for place in mounted:
        # Lazily: a process that is just ending may still have a file open.
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def _fill(place) -> None:
    """Leave not a page free."""
    with (place / "filling").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(PAGE))
        except OSError:
            return


def _size_of(undisturbed_file) -> int:
    return -(-undisturbed_file.stat().st_size // PAGE) * PAGE


def _refused(job) -> str:
    process = jobs.start(job)
    _, printed = jobs.end(process)
    assert process.returncode == 2, printed
    assert list(injection.complaints(process.returncode, printed)) == []
    return next(line for line in printed.splitlines() if line.startswith("error: "))


@pytest.mark.exhaustive
@pytest.mark.parametrize("share", [0.2, 0.5, 0.9], ids=lambda share: f"{share:.0%} of the file")
def test_a_file_that_does_not_fit_is_refused_in_a_line_and_leaves_nothing(
    small_disk, tmp_path, writer, undisturbed, share
):
    elsewhere = jobs.light(tmp_path, writer, 2)
    reference = undisturbed(elsewhere)
    jobs.resume(elsewhere)
    place = small_disk(int(share * _size_of(elsewhere.file)) // 1024 // 4 * 4)
    # The log lies elsewhere: it must not take the little room there is.
    job = jobs.light(place, writer, 2, log=tmp_path / "log")
    line = _refused(job)
    assert line.startswith(f"error: {job.file}: cannot be written: takes ")
    assert "and its disk has " in line
    assert list(place.iterdir()) == []
    subprocess.run(["mount", "-o", "remount,size=2M", str(place)], check=True)
    jobs.resume_as_started(job)
    assert contents(job.file) == reference


@pytest.mark.exhaustive
def test_a_disk_that_fills_up_during_the_work_costs_no_tile(small_disk, tmp_path, writer, undisturbed):
    # All space that the file will ever need was taken when it was made.
    reference = undisturbed(jobs.light(tmp_path, writer, 2))
    place, gate = small_disk(2048), tmp_path / "gate"
    job = jobs.light(place, writer, 2, gate=gate, log=tmp_path / "log")
    process = jobs.start(job)
    assert jobs.wait_until(lambda: sum(line == "begun" for line in job.noted()) >= 2)
    _fill(place)
    gate.touch()
    _, printed = jobs.end(process)
    assert process.returncode == 0, printed
    assert len(verified_tiles(job.file)) == 25
    assert contents(job.file) == reference


@pytest.mark.slow
def test_the_program_on_a_full_disk_is_refused_in_a_line_and_goes_on_when_there_is_room(
    small_disk, tmp_path, writer, undisturbed
):
    reference = undisturbed(jobs.program(tmp_path, writer, 2))
    place = small_disk(256)
    job = jobs.program(place, writer, 2)
    _fill(place)
    line = _refused(job)
    assert f"{job.file}: cannot be written: takes " in line
    (place / "filling").unlink()
    jobs.resume_as_started(job)
    assert contents(job.file) == reference
