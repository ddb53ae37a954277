import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from mpi_landscape import LandscapeError
from mpi_landscape.errors import AgreedError
from mpi_landscape.parallel import launcher as module
from mpi_landscape.parallel.launcher import is_first_process, launcher_name, open_ranks
from mpi_landscape.parallel.ranks import Ranks

OPEN_MPI = {"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "2"}
HYDRA = {"PMI_SIZE": "3", "PMI_RANK": "0"}
SRUN = {"SLURM_STEP_NUM_TASKS": "8", "SLURM_PROCID": "5"}


@pytest.mark.parametrize(
    ("environment", "name", "first", "reason"),
    [
        ({}, None, True, "no launcher"),
        (OPEN_MPI, "Open MPI's mpiexec", False, "Open MPI"),
        (HYDRA, "a PMI launcher (MPICH's or Intel's mpiexec)", True, "MPICH"),
        ({"MV2_COMM_WORLD_SIZE": "2", "MV2_COMM_WORLD_RANK": "1"}, "MVAPICH's mpirun", False, "MVAPICH"),
        (SRUN, "srun", False, "srun"),
        (
            {**SRUN, **HYDRA},
            "a PMI launcher (MPICH's or Intel's mpiexec)",
            True,
            "mpiexec inside a SLURM step",
        ),
        ({**SRUN, **OPEN_MPI}, "Open MPI's mpiexec", False, "Open MPI's mpiexec inside a SLURM step"),
        (
            {"SLURM_NTASKS": "8", "SLURM_PROCID": "0"},
            None,
            True,
            "a batch script: its tasks are not started yet",
        ),
        ({"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"}, "srun", True, "one task"),
        ({"PMI_SIZE": "", "PMI_RANK": ""}, None, True, "empty variables"),
        ({"PMI_SIZE": "many"}, None, True, "a variable that is no number"),
        ({"PMI_SIZE": "3"}, "a PMI launcher (MPICH's or Intel's mpiexec)", True, "a size without a rank"),
        (
            {"PMI_SIZE": "3", "PMI_RANK": "x"},
            "a PMI launcher (MPICH's or Intel's mpiexec)",
            True,
            "a rank of nothing",
        ),
    ],
)
def test_the_launcher_is_known_by_its_variables(environment, name, first, reason):
    assert launcher_name(environment) == name, reason
    assert is_first_process(environment) == first, reason


# An MPI that knows of one process, whatever started it.
ONE_PROCESS = SimpleNamespace(
    COMM_WORLD=SimpleNamespace(Get_size=lambda: 1),
    Get_library_version=lambda: "MPICH Version:      4.3.1\nMPICH Release date: ...\0",
)


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({**OPEN_MPI, "OMPI_COMM_WORLD_RANK": "0"}, "Open MPI's mpiexec started 4 processes"),
        (HYDRA, "started 3 processes"),
        ({**SRUN, "SLURM_PROCID": "0"}, "srun started 8 processes"),
    ],
)
def test_a_launcher_that_the_library_does_not_know_is_refused(monkeypatch, environment, words):
    monkeypatch.setattr(module, "_import_mpi", lambda: (ONE_PROCESS, ""))
    with pytest.raises(LandscapeError, match=words) as caught:
        open_ranks(environment)
    assert "mpi4py is bound to MPICH Version: 4.3.1" in str(caught.value)
    assert "doctor" in str(caught.value)


def test_a_launcher_without_mpi4py_is_refused_with_the_reason(monkeypatch):
    monkeypatch.setattr(
        module, "_import_mpi", lambda: (None, "mpi4py is not usable (No module named 'mpi4py')")
    )
    with pytest.raises(
        LandscapeError, match=r"each of them is alone: mpi4py is not usable \(No module named 'mpi4py'\)"
    ):
        open_ranks(HYDRA)


def test_only_one_process_of_a_broken_launch_speaks(monkeypatch):
    monkeypatch.setattr(module, "_import_mpi", lambda: (ONE_PROCESS, ""))
    with pytest.raises(SystemExit) as caught:
        open_ranks(OPEN_MPI)
    assert caught.value.code == 2


def test_a_process_without_mpi_is_alone(monkeypatch):
    monkeypatch.setattr(module, "_import_mpi", lambda: (None, "mpi4py is not usable"))
    assert open_ranks({}) == Ranks(host=socket.gethostname())


def test_a_broken_launch_is_refused_by_the_real_library(alone, mpiexec):
    # srun without a PMI that fits: the variables are there, the other processes are not.
    program = "from mpi_landscape.parallel.launcher import open_ranks; open_ranks()"
    done = alone(program, SLURM_STEP_NUM_TASKS="3", SLURM_PROCID="0")
    assert done.returncode == 1
    assert (
        "LandscapeError: srun started 3 processes, but each of them is alone: mpi4py is bound to"
        in done.stderr
    )
    done = alone(program, SLURM_STEP_NUM_TASKS="3", SLURM_PROCID="2")
    assert (done.returncode, done.stderr) == (2, "")


def test_under_the_launcher_of_another_mpi_no_process_takes_itself_for_the_job(mpiexec, launch_environment):
    other = shutil.which("mpiexec")
    if other is None or Path(other).samefile(mpiexec):
        pytest.skip(
            "needs a second MPI's mpiexec on the path: apt install openmpi-bin beside pip install mpich"
        )
    program = "from mpi_landscape.parallel.launcher import open_ranks; print('size', open_ranks().size)"
    done = subprocess.run(
        [other, "-n", "2", sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env={**os.environ, **launch_environment},
        timeout=300,
    )
    # MPICH 5 refuses Open MPI's launcher itself, in its own words; libraries that do not are refused by us.
    assert done.returncode != 0
    assert "size" not in done.stdout
    ours = done.stderr.count("started 2 processes, but each of them is alone")
    assert ours == (0 if "unsupported PMI version" in done.stderr else 1), done.stderr


def test_ranks_alone_need_no_communicator():
    ranks = Ranks()
    assert ranks.is_root
    assert ranks.gather("x") == ["x"]
    assert ranks.share("x") == "x"
    assert ranks.on_root(lambda: "x") == "x"

    with pytest.raises(LandscapeError, match="no"), ranks.together():
        raise LandscapeError("no")


def test_what_is_no_refusal_is_not_made_one(monkeypatch):
    def gather(self, value):
        raise AssertionError("the others are not asked: they may be anywhere")

    monkeypatch.setattr(Ranks, "gather", gather)
    with pytest.raises(ValueError, match="a bug"), Ranks(comm=object(), size=2).together():
        raise ValueError("a bug")


@pytest.mark.parametrize(
    ("answers", "words", "reason"),
    [
        ([(None, "a"), ("no data", "b")], "rank 1 (b): no data", "another rank is named with its host"),
        ([("no file", "a"), ("no data", "b")], "no file", "rank 0 needs no name"),
        ([(None, "a"), ("x", "b"), ("y", "c")], "rank 1 (b): x", "the lowest rank speaks"),
    ],
)
def test_the_lowest_rank_that_refuses_speaks_for_all(monkeypatch, answers, words, reason):
    monkeypatch.setattr(Ranks, "gather", lambda self, value: answers)
    ranks = Ranks(comm=object(), size=len(answers), rank=len(answers) - 1)
    with pytest.raises(AgreedError) as caught, ranks.together():
        pass
    assert str(caught.value) == words, reason


@pytest.fixture(scope="module", params=[1, 2, 3])
def every(request, outcome):
    """What every rank saw."""
    return outcome(request.param, "ranks_job.py")


def test_every_rank_has_its_own_place(every):
    size, host = len(every), socket.gethostname()
    # One machine: local and global places are the same.
    assert [seen["place"] for seen in every] == [[k, size, k, size, k == 0, host] for k in range(size)]
    assert len({seen["process"] for seen in every}) == size
    assert all(seen.get("own", size == 1) for seen in every), "the communicator is a duplicate of the world"


def test_values_reach_every_rank(every):
    size = len(every)
    for rank, seen in enumerate(every):
        assert seen["gathered"] == [10 * k for k in range(size)]
        assert seen["shared"] == [0, "text"]
        assert seen["agreed"] == rank + 1
        assert seen["on_root"] == ("of rank 0" if rank == 0 else None)
        assert seen["after"] == ["x"] * size


def test_where_one_rank_refuses_all_refuse_with_the_same_words(every):
    size, host = len(every), socket.gethostname()
    last = "words of rank 0" if size == 1 else f"rank {size - 1} ({host}): words of rank {size - 1}"
    for seen in every:
        assert seen["all"] == seen["root"] == "words of rank 0"
        assert seen["last"] == last
        assert seen["nested"] == last, "refused once, named once"
        if size > 1:
            assert all(seen[f"{name} agreed"] for name in ("all", "last", "root", "nested"))


@pytest.mark.parametrize("rank", [0, 2])
def test_an_abort_ends_every_rank_at_once_with_what_was_printed(launch, tmp_path, rank):
    program = tmp_path / "job.py"
    program.write_text(
        "import sys, time\n"
        "from mpi_landscape.parallel.launcher import open_ranks\n"
        "ranks = open_ranks()\n"
        f"if ranks.rank == {rank}:\n"
        "    print('last words', end='')\n"
        "    ranks.abort(3)\n"
        "time.sleep(1000)\n"
    )
    done = launch(3, program)
    assert done.returncode != 0
    assert "last words" in done.stdout


@pytest.mark.exhaustive
@pytest.mark.parametrize("size", [1, 2])
def test_a_process_may_open_its_ranks_more_often_than_there_are_communicators(launch, tmp_path, size):
    program = tmp_path / "job.py"
    # MPICH has 2,048 at a time.
    program.write_text(
        "from mpi_landscape.parallel.launcher import open_ranks\n"
        "from mpi_landscape.parallel.session import watched\n"
        "for number in range(2300):\n"
        "    with watched(open_ranks()) as ranks:\n"
        "        assert len(ranks.gather(number)) == ranks.size\n"
    )
    done = launch(size, "-m", "mpi4py", program)
    assert done.returncode == 0, done.stderr
