"""Every template is submitted to a real SLURM and leaves the file that a run without SLURM leaves."""

import re

import psutil
import pytest
import torch

from mpi_landscape.storage.surface.reader import verify_tiles
from tests.jobs.cluster import cluster, runs
from tests.jobs.conftest import Submitted, by_mpirun, edited

pytestmark = [pytest.mark.mpi, pytest.mark.slow, pytest.mark.exhaustive]

# The sizes of a template for a machine like this one; its configuration and output are the study's.
FEW_CORES = {"#SBATCH --cpus-per-task=": "#SBATCH --cpus-per-task=1"}
SMALL = {
    "config=": "config=study.yaml",
    "#SBATCH --ntasks-per-node=": "#SBATCH --ntasks-per-node=2",
    **FEW_CORES,
}
AGAIN = {**SMALL, "output=": "output=surface.h5"}


@pytest.fixture
def direct(desk, computed, contents):
    """What a run without SLURM leaves."""
    path = desk.study.folder / "direct.h5"
    computed("--output", str(path))
    return contents(path)


def test_each_rank_of_a_node_has_a_gpu_of_its_own(desk, direct, contents):
    # With MPICH, too, which srun serves as pmi2.
    _note_gpus(desk.study)
    job = desk.submit(edited("gpus.slurm", {"config=": "config=study.yaml", **FEW_CORES}))
    assert job.end() == ("COMPLETED", "0"), job.log
    assert "ranks       4 on 1 host" in job.log
    assert _noted_gpus(desk.study) == {"0": "0", "1": "1", "2": "2", "3": "3"}
    assert contents(desk.study.output) == direct


def test_the_ranks_of_several_nodes_are_one_job(served, desk, direct, contents):
    _note_gpus(desk.study)
    job = desk.submit(edited("nodes.slurm", {**SMALL, "#SBATCH --nodes=": "#SBATCH --nodes=2"}))
    assert job.end() == ("COMPLETED", "0"), job.log
    assert desk.slurm.jobs(job.number)[0]["NodeList"] == "node[1-2]"
    assert "ranks       4 on" in job.log
    assert _noted_gpus(desk.study) == dict.fromkeys("0123", "0,1,2,3")
    assert contents(desk.study.output) == direct


def test_cores_alone_do_as_well(served, desk, direct, contents):
    edits = {**SMALL, "#SBATCH --ntasks-per-node=": "#SBATCH --ntasks-per-node=3"}
    job = desk.submit(edited("cpus.slurm", edits))
    assert job.end() == ("COMPLETED", "0"), job.log
    assert "ranks       3 on 1 host" in job.log
    assert contents(desk.study.output) == direct


@pytest.mark.parametrize("name", ["gpus.slurm", "cpus.slurm"])
def test_mpirun_passes_the_warning_on_and_the_next_submission_completes(desk, direct, contents, name):
    text = by_mpirun(edited(name, SMALL))
    desk.slow(0.3)
    job = desk.submit(text)
    job.wait_for_tiles(1)
    job.warn("--batch")
    assert job.end() == ("FAILED", "75"), job.log
    assert "stopped by SIGUSR1" in job.log
    desk.slow(0)
    job = desk.submit(text)
    assert job.end() == ("COMPLETED", "0"), job.log
    assert contents(desk.study.output) == direct


def test_an_array_leaves_a_surface_of_each_network(served, desk, computed, contents):
    study = desk.study
    for number in range(3):
        folder = study.folder / f"network{number}"
        folder.mkdir()
        state = {name: value + number for name, value in torch.load(study.folder / "center.pt").items()}
        torch.save(state, folder / "center.pt")
        text = study.configuration.read_text()
        text = text.replace(f"{study.folder}/center.pt", f"{folder}/center.pt")
        (folder / "study.yaml").write_text(text.replace(str(study.output), f"{folder}/surface.h5"))
    edits = {key: line for key, line in SMALL.items() if key != "config="}
    edits["configs="] = "configs=(network0/study.yaml network1/study.yaml network2/study.yaml)"
    job = desk.submit(edited("array.slurm", edits))
    ended = desk.slurm.wait_for_end(job.number)
    assert [each["JobState"] for each in ended] == ["COMPLETED"] * 3, job.log
    assert {each["ArrayTaskId"] for each in ended} == {"0", "1", "2"}
    surfaces = []
    for number in range(3):
        study.configuration.write_text((study.folder / f"network{number}/study.yaml").read_text())
        computed("--output", str(study.folder / f"direct{number}.h5"))
        surfaces.append(contents(study.folder / f"direct{number}.h5"))
        assert contents(study.folder / f"network{number}/surface.h5") == surfaces[-1]
    assert surfaces[0] != surfaces[1] != surfaces[2]


def test_at_its_time_limit_a_job_is_requeued_and_completes(served, desk, direct, contents):
    # SLURM looks at the limits twice a minute; the limit comes when there is something to requeue for.
    edits = {"#SBATCH --signal=": "#SBATCH --signal=USR1@90"}
    desk.slow(0.1)
    job = desk.submit(edited("requeue.slurm", {**AGAIN, **edits}))
    job.wait_for_tiles(1)
    desk.slow(2)
    job.shorten()
    job.wait(lambda: job.restarts == 1, "requeued")
    job.limit(60)
    desk.slow(0)
    assert job.end() == ("COMPLETED", "0"), job.log
    assert "stopped by SIGUSR1" in job.log
    assert re.search(r"requeued: \d+ tiles were completed", job.log)
    assert re.search(r"restart 1 of at most 20, [1-9]\d* tiles done before", job.log)
    assert contents(desk.study.output) == direct


@pytest.mark.parametrize(("partition", "word"), [("low", "by SLURM"), ("graced", "by itself")])
def test_a_job_that_is_preempted_goes_on_afterwards(served, desk, direct, contents, partition, word):
    desk.slow(0.1)
    job = desk.submit(edited("requeue.slurm", AGAIN), f"--partition={partition}")
    job.wait_for_tiles(1)
    desk.slow(1)
    urgent = desk.slurm.submit(
        _script(desk, "exit 0"), "--partition=high", "--nodes=2", "--exclusive", cwd=desk.study.folder
    )
    job.wait(lambda: job.restarts == 1, "requeued")
    desk.slow(0)
    assert desk.slurm.wait_for_end(urgent)[0]["JobState"] == "COMPLETED"
    assert job.end() == ("COMPLETED", "0"), job.log
    assert ("requeued: " in job.log) == (word == "by itself"), job.log
    assert contents(desk.study.output) == direct


def test_a_killed_rank_ends_the_job_and_the_next_submission_completes(served, desk, direct, contents):
    text = edited("gpus.slurm", {"config=": "config=study.yaml", **FEW_CORES})
    desk.slow(0.3)
    job = desk.submit(text)
    job.wait_for_tiles(1)
    first, *others = desk.slurm.ranks()
    assert len(others) == 3
    first.kill()
    _, alive = psutil.wait_procs(others, timeout=10)
    assert not alive, "the bound is the requirement: nobody waits for a rank that is gone"
    state, status = job.end()
    assert (state, status) != ("FAILED", "75"), "not a stop in good order"
    assert state == "FAILED"
    desk.slow(0)
    job = desk.submit(text)
    assert job.end() == ("COMPLETED", "0"), job.log
    assert contents(desk.study.output) == direct


def test_a_rank_that_takes_its_time_to_end_leaves_the_status_of_a_clean_stop(served, desk):
    # As one that gives a GPU back, after MPI is through: srun must not kill it for that another ended with 75.
    desk.study.edit_module(
        "class Bowl",
        "if os.environ.get('SLURM_PROCID') == '1':\n"
        "    import ctypes\n"
        "    libc = ctypes.CDLL(None)\n"
        "    libc.__cxa_atexit(ctypes.cast(libc.sleep, ctypes.c_void_p), ctypes.c_void_p(3), None)\n\n"
        "class Bowl",
    )
    desk.slow(0.3)
    job = desk.submit(edited("gpus.slurm", SMALL))
    job.wait_for_tiles(1)
    job.warn()
    assert job.end() == ("FAILED", "75"), job.log


def test_a_job_that_makes_no_progress_is_not_requeued(served, desk):
    desk.slow(3)
    job = desk.submit(edited("requeue.slurm", AGAIN))
    job.wait(desk.study.output.exists, "under way")
    job.warn()
    assert job.end() == ("FAILED", "75"), job.log
    assert "ended: no tile was completed since the last start" in job.log
    assert job.restarts == 0
    assert verify_tiles(desk.study.output)[1] == 0


def test_a_chain_goes_on_until_the_surface_is_complete(served, desk, direct, contents):
    desk.slow(0.1)
    first = desk.submit(edited("chain.slurm", AGAIN))
    first.wait_for_tiles(1)
    desk.slow(1)
    first.warn()
    assert first.end() == ("FAILED", "75"), first.log
    desk.slow(0)
    second = _next(first)
    assert second.end() == ("COMPLETED", "0"), second.log
    assert "number 2 of at most 20" in second.log
    assert "ended: complete" in second.log
    assert _next(second).end()[0] == "CANCELLED"
    assert contents(desk.study.output) == direct


def test_ranks_that_srun_leaves_alone_are_refused(desk, library):
    if "MPICH" not in library:
        pytest.skip("Open MPI refuses this itself; MPICH starts alone: pip install mpich")
    job = desk.submit(edited("gpus.slurm", {**SMALL, "srun ": "srun --mpi=none \\"}))
    assert job.end() == ("FAILED", "2"), job.log
    assert job.log.count("error: srun started 2 processes, but each of them is alone") == 1
    assert not desk.study.output.exists()


def test_nothing_of_a_slurm_is_left_when_it_ends(slurm, tmp_path):
    script = tmp_path / "job.slurm"
    script.write_text("#!/bin/bash\nsrun sleep 600\n")
    with cluster() as other:
        job = other.submit(script, "--ntasks=2", cwd=tmp_path)
        other.wait(job, lambda: sum(each.name() == "sleep" for each in other.processes()) == 2, "under way")
        mine = [psutil.Process(daemon.pid) for daemon in other.daemons] + other.processes()
        assert len(mine) >= 4 + 2 + 2 + 1, "daemons, ranks, what started them, and the script"
    assert [process for process in mine if runs(process)] == []
    assert not other.folder.exists()
    assert slurm.call("sinfo", "--noheader").strip(), "another one is not touched"


def _note_gpus(study):
    """Have every rank leave a note of the GPUs that SLURM shows it."""
    study.edit_module(
        "class Bowl",
        "if 'SLURM_PROCID' in os.environ:\n"
        "    open('gpus_' + os.environ['SLURM_PROCID'], 'w').write(os.environ.get('CUDA_VISIBLE_DEVICES', ''))\n\n"
        "class Bowl",
    )


def _noted_gpus(study):
    return {path.name.split("_")[1]: path.read_text() for path in study.folder.glob("gpus_*")}


def _script(desk, command):
    path = desk.study.folder / "other.slurm"
    path.write_text(f"#!/bin/bash\n{command}\n")
    return path


def _next(job):
    """The next job of a chain, as the log names it."""
    number = re.search(r"next: (\d+)", job.log).group(1)
    return Submitted(slurm=job.slurm, study=job.study, number=number)
