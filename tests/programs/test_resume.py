"""Stopped, killed and resumed: the same file as without interruption, and never another run's."""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import psutil
import pytest

from mpi_landscape import surface
from mpi_landscape.storage.lock import lock_path
from mpi_landscape.storage.surface.reader import read_surface, verify_tiles
from tests.exhaustive import values
from tests.programs.conftest import FAR


def _start(study, command, **environment):
    """A program that goes on while the test looks at its file."""
    return subprocess.Popen(
        [*command, sys.executable, "-m", "mpi_landscape.surface", str(study.configuration)],
        cwd=study.folder,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def _kill(job) -> None:
    """Kill every process of a job at once, and wait until none is left."""
    # Each by itself, not the process group: Open MPI gives each rank a group of its own, and a rank that
    # outlived its launcher would still hold the file when the next job starts.
    ranks = psutil.Process(job.pid).children(recursive=True)
    for process in (job, *ranks):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    job.communicate(timeout=FAR)
    _, alive = psutil.wait_procs(ranks, timeout=FAR)
    assert not alive


def _wait_for_tiles(path: Path, at_least: int, process) -> None:
    """Until a running job has finished so many tiles."""
    deadline = time.monotonic() + FAR
    while time.monotonic() < deadline and process.poll() is None:
        if path.exists() and read_surface(path).progress > 0 and verify_tiles(path)[1] >= at_least:
            return
        time.sleep(0.02)
    pytest.fail(
        f"the job never got there: {process.stdout.read() if process.poll() is not None else 'it hangs'}"
    )


def _tiles_done(path: Path) -> int:
    return verify_tiles(path)[1] if path.exists() else 0


@pytest.mark.mpi
@pytest.mark.slow
@pytest.mark.parametrize("count", values([1, 10], 1))
@pytest.mark.parametrize("writer", ["root", "parallel"])
def test_killed_again_and_again_and_resumed_equals_uninterrupted(
    study, launcher, contents, writer, count, computed
):
    if writer == "parallel" and not h5py.get_config().mpi:
        pytest.skip("h5py is built without MPI; .ci/run shows how to build it with parallel HDF5")
    if writer == "root" and h5py.get_config().mpi:
        pytest.skip("takes a minute, and is the writer of an h5py without parallel HDF5")
    study.edit("points_per_tile: 3", "points_per_tile: 1")
    study.edit("[-0.75, 1.5, 7]", "[-0.75, 1.5, 23]")
    study.edit("[0, 2, 4]", "[0, 2, 11]")
    computed("--output", str(study.folder / "reference.h5"))
    chance = random.Random(20)
    kills = 0
    while True:
        before = _tiles_done(study.output)
        command = [*launcher(2)] if writer == "root" else [*launcher(3)]
        job = _start(study, command, SLEEP="0.004")
        if kills == count:
            output, _ = job.communicate(timeout=FAR)
            assert job.returncode == 0, output
            break
        _wait_for_tiles(study.output, before + 1, job)
        time.sleep(chance.uniform(0, 0.15))
        _kill(job)
        kills += 1
        # It opens, whenever it was killed, and nothing that was finished is lost.
        tiles, done, damaged = verify_tiles(study.output)
        assert before < done < tiles, "killed too early or too late to show anything"
        assert damaged == 0
    assert contents(study.output) == contents(study.folder / "reference.h5")


@pytest.mark.mpi
@pytest.mark.slow
@pytest.mark.parametrize("number", values([signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2], signal.SIGUSR1))
def test_a_signal_to_one_rank_stops_all_cleanly_and_the_rest_is_done_later(
    study, launcher, contents, number, computed
):
    computed("--output", str(study.folder / "reference.h5"))
    study.edit_module("time.sleep(", "open(f'rank_{os.getpid()}', 'w').close(); time.sleep(")
    job = _start(study, launcher(3), SLEEP="0.15")
    _wait_for_tiles(study.output, 1, job)
    ranks = [int(path.name.split("_")[1]) for path in study.folder.glob("rank_*")]
    os.kill(max(ranks), number)
    output, _ = job.communicate(timeout=FAR)
    assert job.returncode == 75, output
    assert "run the same command again" in output
    assert read_surface(study.output).progress < 1
    computed()
    assert contents(study.output) == contents(study.folder / "reference.h5")


def test_a_time_limit_stops_between_batches_and_says_so(study, here, contents, computed, monkeypatch):
    computed("--output", str(study.folder / "reference.h5"))
    # Nine batches a tile and 140 in all: a tile fits into the limit many times, and all of them do not.
    monkeypatch.setenv("SLEEP", "0.05")
    stopped = here(surface.main, study.configuration, "--time-limit", "4")
    assert stopped.status == 75, stopped.err
    assert "the time limit of 4 s" in stopped.out
    monkeypatch.delenv("SLEEP")
    computed()
    assert contents(study.output) == contents(study.folder / "reference.h5")


def test_a_finished_file_is_left_as_it_is(study, computed):
    computed()
    before = study.output.read_bytes(), study.output.stat().st_mtime_ns
    again = computed()
    assert "complete" in again.out
    assert (study.output.read_bytes(), study.output.stat().st_mtime_ns) == before


def test_a_tile_whose_values_were_damaged_is_done_again(study, contents, computed):
    computed()
    reference = contents(study.output)
    with h5py.File(study.output, "r+") as file:
        file["tiles/train_sums"][0, 5, 0] += 1e-9
        file["train_loss"][1, 1] = 7.0
    assert verify_tiles(study.output)[2] == 1
    computed()
    assert contents(study.output) == reference


DIFFERENCES = [
    (["--alpha=-0.75:1.5:8"], "grid", "another grid"),
    (["--beta=0:2.5:4"], "grid", "another range"),
    (["--line"], "grid", "a line instead of a surface"),
    (["--set", "directions.alpha.seed=7"], "direction_alpha", "another direction"),
    (["--set", "directions.beta.normalize=layer"], "direction_beta", "another normalisation"),
    (["--set", "compute.precision=float64"], "precision", "another precision"),
    (["--set", "compute.batch_size=5"], "plan", "another batch size: other bits"),
    (["--set", "data.arguments.train=11"], "data_train", "more data"),
    (["--set", "data.splits=[train]"], "data_test", "a split left out"),
    (["--set", "loss.arguments.scale=2"], "loss", "another loss"),
]


@pytest.mark.parametrize(("arguments", "named", "why"), DIFFERENCES, ids=[why for *_, why in DIFFERENCES])
def test_another_run_is_refused_and_the_difference_named(study, here, arguments, named, why):
    study.edit_module("def loss(model, batch):", "def loss(model, batch, scale=1):")
    assert here(surface.main, study.configuration).status == 0
    before = study.output.read_bytes()
    refused = here(surface.main, study.configuration, *arguments)
    assert refused.status == 2
    assert f"{named} (file: " in refused.err
    assert "; now: " in refused.err
    assert len(refused.err.splitlines()) == 1
    assert study.output.read_bytes() == before


def test_another_checkpoint_is_refused(study, here, computed):
    import torch

    computed()
    state = torch.load(study.folder / "center.pt")
    state["weight"][0, 0] += 1
    torch.save(state, study.folder / "center.pt")
    refused = here(surface.main, study.configuration)
    assert refused.status == 2
    assert "center (file: " in refused.err


def test_a_network_whose_code_has_changed_is_refused(study, here, computed):
    computed()
    study.edit_module("- 0.5) ** 2", "- 0.25) ** 2")
    refused = here(surface.main, study.configuration)
    assert refused.status == 2
    assert "the network's code or the loss has changed" in refused.err


def test_overwrite_replaces_another_run(study, computed):
    computed()
    computed("--alpha=-0.75:1.5:8", "--overwrite")
    assert read_surface(study.output).alpha.size == 8


def test_a_second_job_on_the_same_file_is_refused_and_the_first_named(study, here, computed):
    computed()
    reference = shutil.copy(study.output, study.folder / "reference.h5")
    study.output.unlink()
    # The first stands in its first batch for as long as the second takes.
    study.edit_module(
        "time.sleep(", "while os.path.exists('hold'):\n            time.sleep(0.02)\n        time.sleep("
    )
    (study.folder / "hold").touch()
    first = _start(study, [])
    while not (lock_path(study.output).exists() and lock_path(study.output).read_text()):
        assert first.poll() is None, "it never began"
        time.sleep(0.02)
    second = here(surface.main, study.configuration)
    assert second.status == 2
    assert f"process {first.pid}" in second.err
    (study.folder / "hold").unlink()
    assert first.wait(FAR) == 0
    with h5py.File(study.output, "r") as found, h5py.File(reference, "r") as expected:
        assert np.array_equal(found["train_loss"][...], expected["train_loss"][...])


def test_a_file_can_be_read_while_it_is_written(study):
    job = _start(study, [], SLEEP="0.1")
    _wait_for_tiles(study.output, 2, job)
    found = read_surface(study.output)
    assert 0 < found.progress < 1
    assert np.isfinite(found.values["train_loss"][found.done["train"]]).all()
    _kill(job)
