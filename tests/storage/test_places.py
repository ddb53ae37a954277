"""Folders of several users: no link of another's is followed, no lock of another's blocks for ever."""

import fcntl
import os
import stat
import tempfile
import traceback
from pathlib import Path

import pytest

from mpi_landscape import LandscapeError
from mpi_landscape.storage.files import appearing
from mpi_landscape.storage.lock import exclusive, lock_path
from mpi_landscape.storage.places import real_place, replacing, write_whole

# Users that need not have a name.
OTHER, THIRD = 54321, 54322
TREASURE = b"a thesis, of which there is no copy"

several_users = pytest.mark.skipif(os.geteuid() != 0, reason="only root may be another user; .ci/run is")


def as_user(user, work):
    """Do something as another user, in a process of its own; what it raises is raised here."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.setgroups([])
            os.setresgid(user, user, user)
            os.setresuid(user, user, user)
            os.umask(0o022)
            work()
            os.write(writing, b"done")
        except LandscapeError as error:
            os.write(writing, f"refused: {error}".encode())
        except BaseException:
            os.write(writing, traceback.format_exc().encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as stream:
        said = stream.read().decode()
    os.waitpid(child, 0)
    if said.startswith("refused: "):
        raise LandscapeError(said.removeprefix("refused: "))
    assert said == "done", said


@pytest.fixture
def treasure(tmp_path):
    path = tmp_path / "thesis.tex"
    path.write_bytes(TREASURE)
    yield path
    assert path.read_bytes() == TREASURE


@pytest.fixture
def reachable():
    """A folder that other users can get to, unlike those of pytest."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture
def shared(reachable):
    """As /tmp is."""
    folder = reachable / "shared"
    folder.mkdir()
    folder.chmod(0o1777)
    return folder


def lock(path):
    with exclusive(path):
        pass


def make(path):
    with appearing(path, size=1000) as file:
        file["one"] = 1


def test_a_lock_that_is_a_link_is_not_opened(tmp_path, treasure):
    lock_path(tmp_path / "surface.h5").symlink_to(treasure)
    with pytest.raises(LandscapeError, match=r"its lock .*\.surface\.h5\.lock is a link; remove it"):
        lock(tmp_path / "surface.h5")


def test_a_lock_that_is_another_name_of_a_file_is_not_written(tmp_path, treasure):
    os.link(treasure, lock_path(tmp_path / "surface.h5"))
    with pytest.raises(LandscapeError, match="is no file of its own; remove it"):
        lock(tmp_path / "surface.h5")


def test_a_lock_that_is_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(lock_path(tmp_path / "surface.h5"))
    with pytest.raises(LandscapeError, match="is no file of its own; remove it"):
        lock(tmp_path / "surface.h5")


def test_a_new_file_is_not_made_through_a_link(tmp_path, treasure):
    planted = tmp_path / f".surface.h5.{os.getpid()}.new"
    planted.symlink_to(treasure)
    with replacing(tmp_path / "surface.h5") as new:
        os.write(new.descriptor, b"ours")
    assert (tmp_path / "surface.h5").read_bytes() == b"ours"
    assert planted.is_symlink()


def test_a_new_file_whose_name_was_taken_meanwhile_takes_nobody_s_place(tmp_path, treasure):
    def make_while_another_takes_the_name():
        with replacing(tmp_path / "a.h5") as new:
            new.path.unlink()
            new.path.symlink_to(treasure)

    with pytest.raises(OSError, match="something else has taken its name"):
        make_while_another_takes_the_name()
    assert not (tmp_path / "a.h5").exists()


def test_what_is_there_stays_when_a_new_file_is_not_finished(tmp_path):
    (tmp_path / "a.txt").write_text("before")

    def fail():
        with replacing(tmp_path / "a.txt") as new:
            os.write(new.descriptor, b"half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert (tmp_path / "a.txt").read_text() == "before"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_a_file_is_as_readable_as_the_umask_lets_it_be(tmp_path):
    before = os.umask(0o027)
    try:
        write_whole(tmp_path / "a.txt", b"ours")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == 0o640


@pytest.mark.parametrize(
    "text", ["a", "a/../b", "link/c", "link/../c", "missing/d", "to_missing/d", "file/e"]
)
@pytest.mark.parametrize("absolute", [True, False])
def test_links_lead_where_the_system_says(tmp_path, monkeypatch, text, absolute):
    (tmp_path / "deep" / "folder").mkdir(parents=True)
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("deep/folder")
    (tmp_path / "to_missing").symlink_to(tmp_path / "nowhere")
    monkeypatch.chdir(tmp_path)
    path = tmp_path / text if absolute else Path(text)
    assert str(real_place(path)) == os.path.realpath(path)


def test_links_in_a_circle_are_refused(tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(LandscapeError, match="cannot be written: Too many levels of symbolic links"):
        lock(tmp_path / "a")


@several_users
def test_a_link_of_another_user_is_not_followed_where_everybody_may_make_some(shared, treasure):
    as_user(OTHER, lambda: (shared / "surface.h5").symlink_to(treasure))
    for work in (lock, make):
        with pytest.raises(LandscapeError, match=r"surface\.h5 is a link that another user has made"):
            work(shared / "surface.h5")


@several_users
def test_a_folder_that_is_a_link_of_another_user_is_not_entered(shared, tmp_path):
    (tmp_path / "home").mkdir()
    as_user(OTHER, lambda: (shared / "runs").symlink_to(tmp_path / "home"))
    with pytest.raises(LandscapeError, match="runs is a link that another user has made"):
        lock(shared / "runs" / "surface.h5")
    assert not list((tmp_path / "home").iterdir())


@several_users
def test_links_of_one_s_own_and_of_the_folder_s_owner_are_followed(shared, reachable):
    (reachable / "place").mkdir()
    (reachable / "place").chmod(0o777)
    (shared / "of_the_owner").symlink_to(reachable / "place")
    as_user(OTHER, lambda: (shared / "own").symlink_to(reachable / "place"))
    for name in ("of_the_owner", "own"):
        as_user(OTHER, lambda name=name: make(shared / name / f"{name}.h5"))
        assert (reachable / "place" / f"{name}.h5").exists()


@several_users
def test_locks_that_another_user_has_planted_or_holds_block_nobody(shared, treasure):
    path = shared / "surface.h5"

    def plant():
        lock_path(path).with_name(f".surface.h5.{THIRD}.lock").symlink_to(treasure)
        for name in (f".surface.h5.{THIRD}.1.lock", ".surface.h5.lock"):
            descriptor = os.open(shared / name, os.O_RDWR | os.O_CREAT, 0o666)
            os.fchmod(descriptor, 0o666)
        os.open(shared / f".surface.h5.{THIRD}.2.lock", os.O_RDWR | os.O_CREAT, 0o000)

    as_user(OTHER, plant)
    planted = [each for each in shared.iterdir() if not each.is_symlink()]
    holders = [os.open(each, os.O_RDONLY) for each in planted]
    for each in holders:
        fcntl.flock(each, fcntl.LOCK_EX)
    try:
        as_user(THIRD, lambda: lock(path))
    finally:
        for each in holders:
            os.close(each)


@several_users
def test_two_jobs_of_one_user_exclude_each_other_in_a_shared_folder_too(shared):
    def both():
        with exclusive(shared / "surface.h5"):
            lock(shared / "surface.h5")

    with pytest.raises(LandscapeError, match="is being written by another job"):
        as_user(OTHER, both)


@several_users
def test_of_two_users_who_make_one_file_the_second_is_refused(shared):
    path = shared / "surface.h5"
    as_user(OTHER, lambda: make(path))
    content = path.read_bytes()
    with pytest.raises(LandscapeError, match="cannot be written: Operation not permitted"):
        as_user(THIRD, lambda: make(path))
    assert path.read_bytes() == content
    assert [each.name for each in shared.iterdir()] == ["surface.h5"]
    as_user(OTHER, lambda: make(path))


@several_users
def test_what_another_user_left_half_made_blocks_nobody(shared):
    as_user(OTHER, lambda: (shared / ".surface.h5.7.new").touch())
    as_user(THIRD, lambda: make(shared / "surface.h5"))


@several_users
def test_the_dead_lock_of_another_user_blocks_nobody_in_a_common_folder(shared):
    shared.chmod(0o777)  # of a group, say: each may remove what others have made
    path = shared / "surface.h5"

    def leave():
        os.umask(0o077)
        with exclusive(path):
            os._exit(0)  # as a kill does

    with pytest.raises(AssertionError):
        as_user(OTHER, leave)
    assert lock_path(path).stat().st_uid == OTHER
    assert stat.S_IMODE(lock_path(path).stat().st_mode) & 0o444 == 0o444, "whoever comes next can ask it"
    as_user(THIRD, lambda: lock(path))
    assert not lock_path(path).exists()


@several_users
def test_a_lock_that_another_user_holds_is_respected_in_a_common_folder(shared):
    shared.chmod(0o777)
    path = shared / "surface.h5"

    def hold():
        with exclusive(path):
            os.write(writing, b"x")
            os.read(waiting, 1)

    reading, writing = os.pipe()
    waiting, go = os.pipe()
    child = os.fork()
    if not child:
        as_user(OTHER, hold)
        os._exit(0)
    os.read(reading, 1)
    try:
        with pytest.raises(LandscapeError, match=r"is being written by another job \(host"):
            as_user(THIRD, lambda: lock(path))
    finally:
        os.write(go, b"x")
        os.waitpid(child, 0)


def test_a_folder_in_which_everybody_may_replace_everything_is_warned_of(shared, monkeypatch):
    shared.chmod(0o777)
    monkeypatch.setattr(os, "geteuid", lambda: shared.stat().st_uid + 1)
    with pytest.warns(UserWarning, match=r"everybody may replace what is in its folder; chmod \+t"):
        lock(shared / "surface.h5")
