import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from mpi_landscape.parallel import shared_memory as module
from mpi_landscape.parallel.ranks import Ranks
from mpi_landscape.parallel.shared_memory import Node, room


@pytest.mark.parametrize("size", [1, 2, 3])
def test_all_ranks_of_a_node_see_what_each_of_them_wrote(outcome, size):
    for rank, seen in enumerate(outcome(size, "shared_memory_job.py")):
        assert seen["place"] == [rank, size]
        assert seen["shared"] == "of 0"
        assert (seen["length"], seen["aligned"], seen["whole"]) == (10_007, True, True)
        assert (seen["apart"], seen["after release"]) == (True, True)
        assert seen["room"] == [True, size == 1]  # alone it is its own
        words = f"words of rank {size - 1}"
        assert seen["refusal"] == (words if rank == size - 1 else f"echo: {words}")
        # The rank that refused is named, not the lowest that heard of it.
        assert seen["agreed"].endswith(words)
        assert seen["agreed"].startswith("words" if size == 1 else f"rank {size - 1} (")


@pytest.mark.slow
@pytest.mark.exhaustive
@pytest.mark.skipif(
    not Path("/dev/shm").is_dir() or shutil.disk_usage("/dev/shm").free < 2**32,
    reason="needs 4 GiB free in /dev/shm",
)
def test_more_than_two_gibibytes_are_shared_to_the_last_byte(outcome):
    for seen in outcome(2, "shared_memory_job.py", "large"):
        assert seen["large"] == [1, 2, 3, 2**31 + 2**20]


def test_a_process_alone_has_plain_memory():
    with Node(Ranks()) as node:
        memory = node.allocate(100)
        assert (memory.shape, memory.dtype, memory.ctypes.data % 64) == ((100,), np.uint8, 0)
        assert (node.rank, node.size) == (0, 1)
        assert node.has_room(2**60)
        node.release(memory)
        memory[:] = 5
    assert memory.sum() == 500


@pytest.mark.parametrize(
    ("environment", "free", "expected", "reason"),
    [
        ({}, {"/dev/shm": 1000}, 1000, "where every MPI puts it unless told otherwise"),
        (
            {"OMPI_MCA_osc_sm_backing_directory": "/scratch"},
            {"/dev/shm": 1000, "/scratch": 10},
            10,
            "Open MPI was told otherwise",
        ),
        (
            {"OMPI_MCA_osc_sm_backing_directory": "/scratch"},
            {"/dev/shm": 5, "/scratch": 10},
            5,
            "the lesser of both: another MPI does not read that variable",
        ),
        ({}, {"/tmp": 7}, 7, "a machine without /dev/shm"),
    ],
)
def test_room_is_what_is_free_where_shared_memory_lies(monkeypatch, environment, free, expected, reason):
    monkeypatch.setattr(module, "_RESERVE", 0)
    monkeypatch.setattr(module.tempfile, "gettempdir", lambda: "/tmp")
    monkeypatch.setattr(Path, "is_dir", lambda self: str(self) in free)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda folder: SimpleNamespace(free=free[str(folder)]))
    assert room(environment) == expected, reason
