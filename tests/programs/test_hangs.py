"""No job sits there doing nothing: a rank that is gone, stopped or stuck ends it, and is named."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from mpi_landscape import surface
from mpi_landscape.storage.surface.reader import read_surface, verify_tiles
from tests.exhaustive import rows, values
from tests.programs.conftest import FAR

pytestmark = [pytest.mark.mpi, pytest.mark.slow]

WITHIN = 10  # seconds: the requirement
PATIENCE = 3

# The planted fault: on the rank of this number, once a tile is done.
PLANT = """
    rank = int(os.environ.get("PMI_RANK", os.environ.get("OMPI_COMM_WORLD_RANK", "0")))
    open(f"rank_{{rank}}_{{os.getpid()}}", "w").close()
    if rank == {rank} and {when}:
        open("stamp", "a").close()
        {fault}
    return model(batch[0])
"""


def _plant(study, rank, fault):
    study.edit_module("import os\n", "import os\nimport signal\n")
    # The loss is the same with and without it: another one would not go on in the file.
    when = f"os.environ.get('FAULT') and os.path.exists({str(study.output)!r}) and tiles_done() > 2"
    study.edit_module(
        "    return model(batch[0])", PLANT.format(rank=rank, fault=fault, when=when).strip("\n")
    )
    study.edit_module(
        "def loss(model, batch):",
        "def tiles_done():\n"
        "    from mpi_landscape.storage.surface.reader import verify_tiles\n"
        f"    return verify_tiles({str(study.output)!r})[1]\n\n"
        "def loss(model, batch):",
    )


def _left_over(study):
    """Ranks that outlived their job."""
    numbers = [int(path.name.split("_")[2]) for path in study.folder.glob("rank_*")]
    alive = [process for process in map(_process, numbers) if process is not None]
    _, alive = psutil.wait_procs(alive, timeout=1)
    return alive


def _process(number):
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(number)
        return process if "mpi_landscape.surface" in " ".join(process.cmdline()) else None
    return None


FAULTS = [
    ("os._exit(0)", 0, "", "it leaves as if all were well"),
    ("os._exit(3)", 0, "", "it leaves"),
    ("os.kill(os.getpid(), signal.SIGKILL)", 0, "", "it is killed, by a system short of memory perhaps"),
    (
        "os.kill(os.getpid(), signal.SIGSTOP)",
        PATIENCE,
        "has not been heard of",
        "it neither works nor ends",
    ),
    ("time.sleep(1000)", PATIENCE, "has not been heard of", "it is stuck in a batch"),
]


@pytest.mark.parametrize(
    ("fault", "silent", "words", "reason", "rank"),
    rows(
        {f"{row[-1]}, rank {rank}": (*row, rank) for row in FAULTS for rank in (0, 1)},
        "it is killed, by a system short of memory perhaps, rank 1",
    ),
)
def test_a_rank_that_is_gone_or_silent_ends_the_job_in_time_and_nothing_is_lost(
    study, launch, contents, computed, fault, silent, words, reason, rank
):
    _plant(study, rank, fault)
    computed("--output", str(study.folder / "reference.h5"))
    done = launch(
        3,
        "-m",
        "mpi_landscape.surface",
        str(study.configuration),
        "--patience",
        str(PATIENCE),
        cwd=study.folder,
        env={"SLEEP": "0.05", "FAULT": "1"},
    )
    ended_after = time.time() - (study.folder / "stamp").stat().st_mtime
    assert not _left_over(study)
    # A stopped rank is missed only when it could have spoken; rank 0 looks between its batches.
    assert ended_after < WITHIN + 2 * silent, reason
    # MPICH's mpiexec is sometimes the first to see that a rank has left, ends the others, and passes on the 0 of that rank.
    wrong = (2, 75) if fault == "os._exit(0)" else (0, 2, 75)
    assert done.returncode not in wrong, done.stdout + done.stderr
    if words:
        (line,) = {line for line in done.stderr.splitlines() if words in line}
        assert f"rank {rank} of 3 (" in line
        # The coordinator knows who was at work on what.
        assert rank == 0 or "in the middle of tile" in line
    assert 0 < read_surface(study.output).progress < 1
    assert verify_tiles(study.output)[2] == 0
    computed()
    assert contents(study.output) == contents(study.folder / "reference.h5")


@pytest.mark.parametrize("rank", values([0, 2], 2))
def test_a_rank_that_never_comes_to_a_meeting_is_named(study, launch, rank):
    study.edit_module(
        "    def __getitem__(self, index):",
        "    def __getitem__(self, index):\n"
        f'        if os.environ.get("PMI_RANK", os.environ.get("OMPI_COMM_WORLD_RANK")) == "{rank}":\n'
        "            time.sleep(1000)",
    )
    start = time.monotonic()
    done = launch(
        3, "-m", "mpi_landscape.surface", str(study.configuration), "--patience", "2", cwd=study.folder
    )
    assert done.returncode not in (0, 2, 75)
    assert f"in vain for rank {rank} of 3 (" in done.stderr
    assert "Traceback" not in done.stderr
    # Patience, the start of three interpreters, and what the others wait longer than rank 0; it would sleep for longer.
    assert time.monotonic() - start < 250
    assert not study.output.exists()


def _start(study, command, *arguments, **environment):
    return subprocess.Popen(
        [*command, sys.executable, "-m", "mpi_landscape.surface", str(study.configuration), *arguments],
        cwd=study.folder,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def _await(condition, job):
    deadline = time.monotonic() + FAR
    while not condition():
        assert job.poll() is None, job.stdout.read()
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.02)


def test_a_job_whose_ranks_had_to_wait_is_done_when_it_says_so(study, launch):
    """What ranks have told each other meanwhile is taken before the end, which MPICH refuses otherwise."""
    study.edit_module(
        "        return self.values[index], 0",
        "        time.sleep(0.2)\n        return self.values[index], 0",
    )
    for _ in range(2):  # the second time there is nothing to do
        done = launch(
            3, "-m", "mpi_landscape.surface", str(study.configuration), "--patience", "4", cwd=study.folder
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "complete" in done.stdout


@pytest.mark.exhaustive
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
@pytest.mark.parametrize("ranks", [0, 2], ids=["alone", "two ranks"])
def test_a_signal_while_nothing_is_under_way_ends_the_job_at_once(study, launcher, number, ranks):
    study.edit_module(
        "        return self.values[index], 0",
        "        open(f'rank_{os.getpid()}', 'w').close(); time.sleep(0.5)\n"
        "        return self.values[index], 0",
    )
    study.edit_module("train=10, test=7", "train=1000, test=7")
    job = _start(study, launcher(ranks) if ranks else [])
    _await(lambda: list(study.folder.glob("rank_*")), job)
    told = max(int(path.name.split("_")[1]) for path in study.folder.glob("rank_*"))
    os.kill(told, number)
    start = time.monotonic()
    output, _ = job.communicate(timeout=FAR)
    assert time.monotonic() - start < 5, "the bound is the requirement"
    assert job.returncode == (130 if number == signal.SIGINT else 75), output
    assert f"ended at once by {number.name}; run the same command again" in output
    assert "Traceback" not in output
    assert not study.output.exists()
    assert ranks or not list(study.folder.glob(".*")), "no lock and no half file stays behind"


def test_ctrl_c_stops_between_batches_with_its_own_exit_status(study, contents, computed):
    computed("--output", str(study.folder / "reference.h5"))
    job = _start(study, [], SLEEP="0.05")
    _await(lambda: study.output.exists() and verify_tiles(study.output)[1] > 1, job)
    job.send_signal(signal.SIGINT)
    output, _ = job.communicate(timeout=FAR)
    assert job.returncode == 130, output
    assert "stopped by SIGINT, with " in output
    assert " tiles left; run the same command again" in output
    assert 0 < read_surface(study.output).progress < 1
    computed()
    assert contents(study.output) == contents(study.folder / "reference.h5")


@pytest.mark.exhaustive
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_a_second_signal_ends_a_long_batch_at_once_and_loses_nothing(
    study, contents, computed, number, status
):
    # Before the first file: a loss that was edited since does not go on in it.
    study.edit_module(
        "    return model(batch[0])",
        "    if os.path.exists('slow'):\n"
        "        open('begun', 'w').close()\n"
        "        for _ in range(10000):\n"
        "            time.sleep(0.1)\n"
        "    return model(batch[0])",
    )
    computed("--output", str(study.folder / "reference.h5"))
    job = _start(study, [], SLEEP="0.05")
    _await(lambda: study.output.exists() and verify_tiles(study.output)[1] > 1, job)
    (study.folder / "slow").touch()
    _await((study.folder / "begun").exists, job)
    done = verify_tiles(study.output)[1]
    job.send_signal(number)
    time.sleep(1.5)
    assert job.poll() is None, "the first signal waits for the batch"
    job.send_signal(number)
    start = time.monotonic()
    output, _ = job.communicate(timeout=FAR)
    assert time.monotonic() - start < 5, "the bound is the requirement"
    assert job.returncode == status, output
    assert f"ended at once by a second signal, {number.name}; run the same command again" in output
    assert verify_tiles(study.output)[1:] == (done, 0)
    (study.folder / "slow").unlink()
    computed()
    assert contents(study.output) == contents(study.folder / "reference.h5")


# Stands still at one of two moments that a signal must not find without an answer.
STANDING = """
import sys, time
from pathlib import Path
from mpi_landscape import surface
from mpi_landscape.command import execution as program

def stand(*_):
    Path("standing").touch()
    while not Path("go").exists():
        time.sleep(0.02)

if sys.argv.pop(1) == "start":
    run, surface.run = surface.run, lambda *given: [stand(), run(*given)][1]
else:
    said = program.answer_no_more
    program.answer_no_more = lambda: [said(), stand()]
surface.main()
"""


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("moment", "status", "reason"),
    [("start", 75, "nothing is under way yet"), ("end", 0, "all is done, and stays so")],
)
def test_a_signal_before_and_after_the_work_keeps_the_exit_status_honest(study, moment, status, reason):
    house = str(Path(surface.__file__).parents[1])
    job = subprocess.Popen(
        [sys.executable, "-c", STANDING, moment, str(study.configuration)],
        cwd=study.folder,
        env={**os.environ, "PYTHONPATH": house},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    _await((study.folder / "standing").exists, job)
    job.send_signal(signal.SIGUSR1)
    time.sleep(0.3)
    (study.folder / "go").touch()
    output, _ = job.communicate(timeout=FAR)
    assert job.returncode == status, f"{reason}: {output}"
    assert "Traceback" not in output
