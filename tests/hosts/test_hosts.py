"""One job on several hosts, and what becomes of it when the network between them is cut."""

import contextlib
import time

import h5py
import psutil
import pytest

from mpi_landscape import surface
from mpi_landscape.storage.surface.reader import verify_tiles
from tests.hosts.conftest import HOSTS

pytestmark = [pytest.mark.mpi, pytest.mark.slow, pytest.mark.exhaustive]

FAR = 180.0

# Where the examples of a batch lie in this process's memory: a file that its ranks share has a device and a number.
NOTING = """
def loss(model, batch):
    split = "test" if batch[0].max() >= 1 else "train"
    address = batch[0].data_ptr()
    with open("/proc/self/maps") as lines:
        for line in lines:
            ends, _, _, device, number, *_ = line.split()
            low, high = (int(end, 16) for end in ends.split("-"))
            if low <= address < high:
                with open(f"held_{os.uname().nodename}_{os.getpid()}", "a") as notes:
                    notes.write(f"{split} {device}:{number}\\n")
"""
NOT_SHARED = "00:00:0"


@pytest.fixture(params=["root", "parallel"])
def writer(request) -> str:
    if request.param == "parallel" and not h5py.get_config().mpi:
        pytest.skip("h5py is built without MPI; .ci/run shows how to build it with parallel HDF5")
    return request.param


def _surface(start, study, writer, *arguments, **environment):
    return start(
        "mpi_landscape.surface", str(study.configuration), "--writer", writer, *arguments, **environment
    )


def test_two_hosts_give_the_surface_of_one_process_and_each_holds_the_data_once(
    start, study, contents, writer, computed
):
    computed("--output", str(study.folder / "reference.h5"))
    study.edit_module("\ndef loss(model, batch):\n", NOTING)
    job = _surface(start, study, writer, SLEEP="0.03")
    assert job.end(FAR) == 0, job.output
    assert contents(study.output) == contents(study.folder / "reference.h5")
    assert "ranks       4 on 2 hosts" in job.output
    assert f"{writer} writer" in job.output
    assert "once per node" in job.output
    held = {host: {} for host in HOSTS}
    for path in study.folder.glob("held_*"):
        _, host, process = path.name.split("_")
        held[host][process] = {
            tuple(line.split()) for line in path.read_text().splitlines() if not line.endswith(NOT_SHARED)
        }
    places = {}
    for host, ranks in held.items():
        assert len(ranks) == 2
        for split in ("train", "test"):
            seen = [place for notes in ranks.values() for name, place in notes if name == split]
            places[host, split] = set(seen)
            assert len(places[host, split]) == 1, f"{split} on {host}"
        assert all(ranks.values()), f"a rank of {host} has data of its own"
    assert not (places["first", "train"] & places["second", "train"])


def test_a_job_whose_hosts_lose_each_other_ends_and_is_resumed_to_the_same_bits(
    start, two_hosts, study, contents, writer, computed, here
):
    study.edit("points_per_tile: 3", "points_per_tile: 1")
    study.edit("[-0.75, 1.5, 7]", "[-0.75, 1.5, 23]")
    study.edit("[0, 2, 4]", "[0, 2, 11]")
    computed("--output", str(study.folder / "reference.h5"))
    # MPICH 5.0.2 and Open MPI 4.1.4 themselves notice nothing: rank 0 waited 200 and 60 s for the tiles of the others.
    if "--patience" not in here(surface.main, "--help").out:
        pytest.skip("this version has no --patience, without which such a job waits for ever")
    job = _surface(start, study, writer, "--patience", "5", SLEEP="0.05")
    _wait_for_tiles(study.output, 20, job)
    two_hosts.cut("second")
    status = job.end(FAR)
    assert status not in (0, 75), job.output
    assert "(second, " in job.output
    # Nobody is left waiting on the other side either.
    left = [each for each in two_hosts.hosts["second"].processes() if _is_rank(each)]
    _, alive = psutil.wait_procs(left, timeout=FAR)
    assert not alive, f"{alive}\n{job.output}"
    tiles, done, damaged = verify_tiles(study.output)
    assert 20 <= done < tiles
    assert damaged == 0
    two_hosts.mend("second")
    again = _surface(start, study, writer)
    assert again.end(FAR) == 0, again.output
    assert f"{done} of them done before" in again.output
    assert contents(study.output) == contents(study.folder / "reference.h5")


def _is_rank(process) -> bool:
    """Whether it computes; what a launcher leaves on a host that it cannot reach is not ours."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return "mpi_landscape.surface" in process.cmdline()
    return False


def _wait_for_tiles(path, at_least, job) -> None:
    """Until a running job has finished so many tiles."""
    deadline = time.monotonic() + FAR
    while time.monotonic() < deadline and job.process.poll() is None:
        if path.exists():
            with h5py.File(path, "r", locking=False) as file:
                if file["tiles/status"][...].sum() >= at_least:
                    return
        time.sleep(0.05)
    pytest.fail(f"the job never got there\n{job.output}")
