"""Two jobs on one file: real processes, really killed."""

import errno
import fcntl
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mpi_landscape import LandscapeError
from mpi_landscape.storage.lock import DYING, exclusive, lock_path

HOLDER = """
    import subprocess, sys
    from pathlib import Path
    from mpi_landscape.storage.lock import exclusive
    with exclusive(Path(sys.argv[1])):
        child = subprocess.Popen(["sleep", "30"], stdout=subprocess.DEVNULL) if len(sys.argv) > 2 else None
        sys.stdout.write(f"{child.pid if child else 0}\\n")
        sys.stdout.flush()
        sys.stdin.readline()
"""


@pytest.fixture
def hold(tmp_path) -> Iterator[Callable[..., tuple[subprocess.Popen[str], int]]]:
    """Start another process that holds the lock; returns it and its child, if it was to have one."""
    holders = []

    def start(path: Path, *arguments: str, **environment: str) -> tuple[subprocess.Popen[str], int]:
        command = [sys.executable, "-c", textwrap.dedent(HOLDER), str(path), *arguments]
        holder = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
        )
        holders.append(holder)
        return holder, int(holder.stdout.readline())

    yield start
    for holder in holders:
        holder.kill()
        holder.communicate()


def test_a_second_job_is_refused_and_told_who_the_first_is(hold, tmp_path):
    path = tmp_path / "surface.h5"
    holder, _ = hold(path, SLURM_JOB_ID="4711")
    with pytest.raises(LandscapeError) as caught, exclusive(path):
        pass
    text = str(caught.value)
    assert text.startswith(f"{path}: is being written by another job")
    assert f"host {socket.gethostname()}" in text
    assert f"process {holder.pid}" in text
    assert "slurm job 4711" in text


def test_the_refused_job_leaves_the_lock_to_its_holder(hold, tmp_path):
    path = tmp_path / "surface.h5"
    hold(path)
    for _ in range(2):
        with pytest.raises(LandscapeError, match="another job"), exclusive(path):
            pass


def test_the_lock_of_a_killed_job_does_not_block(hold, tmp_path):
    path = tmp_path / "surface.h5"
    holder, _ = hold(path)
    holder.kill()
    holder.wait()
    assert lock_path(path).exists(), "it had no time to remove it"
    with exclusive(path):
        assert f'"process": {os.getpid()}' in lock_path(path).read_text()


def test_the_lock_of_a_job_that_is_about_to_be_gone_is_waited_for(hold, tmp_path):
    path = tmp_path / "surface.h5"
    holder, _ = hold(path)
    threading.Timer(DYING / 4, holder.kill).start()
    with exclusive(path):
        assert holder.wait(timeout=300) == -signal.SIGKILL


def test_a_program_that_a_killed_job_started_does_not_keep_its_lock(hold, tmp_path):
    path = tmp_path / "surface.h5"
    holder, child = hold(path, "with a child")
    try:
        holder.kill()
        holder.wait()
        with exclusive(path):
            pass
    finally:
        os.kill(child, signal.SIGKILL)


def test_the_lock_is_free_and_gone_when_the_job_ends(hold, tmp_path):
    path = tmp_path / "surface.h5"
    holder, _ = hold(path)
    holder.communicate("\n")
    assert list(tmp_path.iterdir()) == []
    with exclusive(path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_an_error_inside_frees_the_lock(tmp_path):
    path = tmp_path / "surface.h5"
    with pytest.raises(RuntimeError, match="inside"), exclusive(path):
        raise RuntimeError("inside")
    with exclusive(path):
        pass


def test_one_process_cannot_take_it_twice(tmp_path):
    with (
        exclusive(tmp_path / "surface.h5"),
        pytest.raises(LandscapeError, match=f"process {os.getpid()}"),
        exclusive(tmp_path / "surface.h5"),
    ):
        pass


def test_other_files_are_not_locked(hold, tmp_path):
    hold(tmp_path / "a.h5")
    with exclusive(tmp_path / "b.h5"):
        pass


def test_another_name_for_the_same_file_is_the_same_lock(hold, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "link.h5").symlink_to(tmp_path / "folder" / "surface.h5")
    (tmp_path / "short").symlink_to(tmp_path / "folder")
    hold(tmp_path / "folder" / "surface.h5")
    for name in ("link.h5", "short/surface.h5", "folder/../folder/surface.h5"):
        with pytest.raises(LandscapeError, match="another job"), exclusive(tmp_path / name):
            pass


def test_never_two_at_once_though_the_lock_is_made_and_removed_all_the_time(tmp_path):
    # A folder can be made once only: whoever finds it there shares the lock with another.
    program = """
        import sys, time
        from pathlib import Path
        from mpi_landscape.errors import LandscapeError
        from mpi_landscape.storage.lock import exclusive
        place, taken = Path(sys.argv[1]), 0
        end = time.monotonic() + 20
        while taken < 150 and time.monotonic() < end:
            try:
                with exclusive(place / "surface.h5"):
                    (place / "inside").mkdir()
                    (place / "inside").rmdir()
                    taken += 1
            except LandscapeError:
                pass
        sys.exit(taken < 150)
    """
    command = [sys.executable, "-c", textwrap.dedent(program), str(tmp_path)]
    jobs = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    errors = [job.communicate(timeout=300)[1] for job in jobs]
    assert [job.returncode for job in jobs] == [0, 0, 0], errors


def test_a_lock_that_is_removed_while_it_is_taken_is_taken_anew(tmp_path, monkeypatch):
    path = tmp_path / "surface.h5"
    flock, removed = fcntl.flock, []

    def remove_first(descriptor, operation):
        flock(descriptor, operation)
        if not removed:
            removed.append(lock_path(path).unlink())

    monkeypatch.setattr(fcntl, "flock", remove_first)
    with exclusive(path):
        monkeypatch.undo()
        with pytest.raises(LandscapeError, match="another job"), exclusive(path):
            pass


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ("file/surface.h5", "its folder is a file"),
        ("n" * 300, "the name is too long"),
        ("/proc/none/surface.h5", "nobody may write there"),
    ],
)
def test_a_place_that_cannot_be_written_is_refused_in_a_line(tmp_path, place, reason):
    (tmp_path / "file").write_text("")
    with pytest.raises(LandscapeError, match="cannot be written") as caught, exclusive(tmp_path / place):
        pass
    assert str(caught.value).startswith(str(tmp_path / place)), reason


def test_folders_are_made(tmp_path):
    with exclusive(tmp_path / "deep" / "down" / "surface.h5"):
        assert (tmp_path / "deep" / "down").is_dir()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_gives_a_warning_and_goes_on(tmp_path, monkeypatch, number):
    def refuse(descriptor, operation):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    inside = False
    with (
        pytest.warns(UserWarning, match=r"surface\.h5: its file system has no locks"),
        exclusive(tmp_path / "surface.h5"),
    ):
        inside = True
    assert inside


def test_any_other_failure_to_lock_is_refused(tmp_path, monkeypatch):
    def refuse(descriptor, operation):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with (
        pytest.raises(LandscapeError, match="cannot be locked: Input/output error"),
        exclusive(tmp_path / "surface.h5"),
    ):
        pass


def test_a_full_disk_costs_the_holder_its_name_only(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", refuse)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with (
            exclusive(tmp_path / "surface.h5"),
            pytest.raises(LandscapeError, match="it has not said which"),
            exclusive(tmp_path / "surface.h5"),
        ):
            pass
