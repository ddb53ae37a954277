"""The training program: checkpoints, history, seeds; stopped, killed and resumed; several trainings on several ranks."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import psutil
import pytest
import torch

from mpi_landscape import surface, train
from mpi_landscape.problem.checkpoints import read_state
from mpi_landscape.storage.history.records import read_history
from tests.exhaustive import values
from tests.programs.conftest import FAR

CONFIGURATION = """
model: {{name: mlp, arguments: {{input_size: [1, 8, 8], hidden: [12]}}}}
data: {{name: digits}}
grid: {{alpha: [-1, 1, 3], beta: null}}
compute: {{device: cpu}}
training:
  epochs: 3
  batch_size: 64
  learning_rate: 0.05
  seed: 4
  output: {folder}/run
  schedule: {{milestones: [2], factor: 0.5}}
"""


@pytest.fixture
def configuration(study):
    path = study.folder / "train.yaml"
    path.write_text(CONFIGURATION.format(folder=study.folder))
    return path


def solution(folder: Path) -> dict[str, bytes]:
    """Everything that a training found: every checkpoint's tensors and every row of the history but the seconds."""
    found = {}
    for path in sorted(folder.glob("*.pt")):
        for name, tensor in read_state(path).items():
            found[f"{path.name} {name}"] = tensor.numpy().tobytes()
    history = read_history(folder / "history.h5")
    found |= {name: values.tobytes() for name, values in history.values.items() if name != "seconds"}
    return found


def test_there_is_a_checkpoint_for_the_start_and_every_epoch(study, here, configuration):
    assert here(train.main, configuration).status == 0
    names = sorted(path.name for path in (study.folder / "run").iterdir())
    assert names == [
        "configuration.yaml",
        *(f"epoch_{number:04d}.pt" for number in range(4)),
        "final.pt",
        "history.h5",
    ]
    last, final = (read_state(study.folder / "run" / name) for name in ("epoch_0003.pt", "final.pt"))
    assert all(torch.equal(last[name], final[name]) for name in final)


def test_checkpoints_may_be_fewer_but_the_end_of_each_phase_is_kept(study, here, configuration):
    phases = "training.phases=[{epochs: 3}, {epochs: 2, batch_size: 16}]"
    chosen = (phases, "training.schedule=null", "training.checkpoint_every=4")
    assert here(train.main, configuration, *(word for each in chosen for word in ("--set", each))).status == 0
    names = sorted(path.name for path in (study.folder / "run").glob("*.pt"))
    assert names == [
        "epoch_0000.pt",
        "epoch_0003.pt",
        "epoch_0004.pt",
        "epoch_0005.pt",
        "final.pt",
        "phase_1.pt",
        "phase_2.pt",
    ]
    history = read_history(study.folder / "run" / "history.h5")
    assert history.phase.tolist() == [0, 0, 0, 0, 1, 1]
    assert history.done.all(), "every epoch has its row"


def test_the_history_says_what_was_done(study, here, configuration):
    here(train.main, configuration)
    history = read_history(study.folder / "run" / "history.h5")
    assert history.values["learning_rate"].tolist() == [0.0, 0.05, 0.05, 0.025]
    loss = history.values["train_loss"]
    assert loss[-1] < loss[0] / 2
    state = read_state(study.folder / "run" / "final.pt")
    norm = torch.cat([tensor.double().flatten() for tensor in state.values()]).norm()
    assert history.values["weight_norm"][-1] == pytest.approx(norm.item(), rel=1e-12)
    assert history.attributes["num_parameters"] == 64 * 12 + 12 + 12 * 10 + 10
    assert "epochs: 3" in history.attributes["configuration"]


def test_the_same_seed_gives_the_same_bits_and_another_does_not(study, here, configuration):
    here(train.main, configuration)
    here(train.main, configuration, "--set", f"training.output={study.folder}/again")
    seeds = ["--set", f"training.output={study.folder}/other", "--set", "training.seed=5"]
    here(train.main, configuration, *seeds)
    first, again, other = (solution(study.folder / name) for name in ("run", "again", "other"))
    assert again == first
    weights = [name for name in first if "weight" in name and ".pt" in name]
    assert not any(first[name] == other[name] for name in weights)


def test_the_surface_around_the_result_begins_at_its_loss(study, here, configuration):
    here(train.main, configuration)
    # The same file: its checkpoint and its output follow from the training's folder.
    ended = here(surface.main, configuration)
    assert ended.status == 0, ended.err
    loss = read_history(study.folder / "run" / "history.h5").values["train_loss"][-1]
    with h5py.File(study.folder / "run" / "surface.h5", "r") as file:
        # Another batch size, and so other rounding.
        assert file["train_loss"][1] == pytest.approx(loss, rel=1e-6)


def test_the_stored_configuration_trains_and_computes_the_same(study, here, configuration):
    here(train.main, configuration)
    stored = study.folder / "run" / "configuration.yaml"
    assert "complete" in here(train.main, stored).out
    assert here(surface.main, stored).status == 0


def test_a_finished_training_is_left_as_it_is_and_overwrite_begins_anew(study, here, configuration):
    here(train.main, configuration)
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in (study.folder / "run").iterdir()}
    ended = here(train.main, configuration)
    assert ended.status == 0
    assert "complete" in ended.out
    after = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in (study.folder / "run").iterdir()}
    assert after == before
    found = solution(study.folder / "run")
    (study.folder / "run" / "mine.txt").write_text("a user's own")
    assert here(train.main, configuration, "--overwrite", "--set", "training.seed=5").status == 0
    assert solution(study.folder / "run") != found
    assert (study.folder / "run" / "mine.txt").exists()


DIFFERENCES = [
    (["--set", "training.learning_rate=0.1"], "training.learning_rate (file: 0.05; now: 0.1)"),
    (["--set", "training.seed=5"], "training.seed"),
    (["--set", "training.epochs=4"], "training.epochs"),
    (["--set", "training.schedule=null"], "training.schedule"),
    (["--set", "model.arguments.hidden=[13]"], "model.arguments.hidden"),
    (["--set", "data.arguments.limit=100"], "data.arguments.limit"),
    (["--set", "loss=mse"], "loss.name"),
]


@pytest.mark.parametrize(("arguments", "named"), DIFFERENCES, ids=[named for _, named in DIFFERENCES])
def test_another_training_in_the_same_folder_is_refused_and_the_difference_named(
    study, here, configuration, arguments, named
):
    here(train.main, configuration)
    before = {path: path.read_bytes() for path in (study.folder / "run").iterdir()}
    ended = here(train.main, configuration, *arguments)
    assert ended.status == 2
    assert named in ended.err
    assert len(ended.err.splitlines()) == 1
    assert {path: path.read_bytes() for path in (study.folder / "run").iterdir()} == before


def test_a_training_that_diverges_says_where_and_keeps_the_last_good_checkpoint(study, here, configuration):
    ended = here(train.main, configuration, "--set", "training.learning_rate=1e30")
    assert ended.status == 1
    assert "diverged" in ended.err
    assert "step" in ended.err
    assert "error:" in ended.err
    kept = read_state(study.folder / "run" / "epoch_0000.pt")
    assert all(torch.isfinite(tensor).all() for tensor in kept.values())
    assert not (study.folder / "run" / "final.pt").exists()


def test_a_diverged_member_does_not_stop_the_others(study, here, configuration):
    ended = here(train.main, configuration, "--set", "training.learning_rate=[1e30, 0.05]")
    assert ended.status == 1
    assert (study.folder / "run" / "learning_rate=0.05" / "final.pt").exists()
    assert not list((study.folder / "run").glob("learning_rate=1e*/final.pt"))
    assert "diverged" in ended.out


def test_a_dry_run_says_what_it_would_cost_and_writes_nothing(study, here, configuration):
    before = sorted(study.folder.rglob("*"))
    ended = here(train.main, configuration, "--set", "training.batch_size=[64, 128]", "--dry-run")
    assert ended.status == 0, ended.err
    assert ended.out.count("910 parameters") == 2
    assert "23 steps" in ended.out
    assert "12 steps" in ended.out
    assert ended.out.count("expected") == 2
    assert [path for path in sorted(study.folder.rglob("*")) if "pycache" not in str(path)] == before


BAD = [
    (["--set", "training=null"], ["training"], "no section"),
    (["--set", "training.epochs=-1"], ["training.epochs"], "epochs below 0"),
    (["--set", "data.splits=[test]"], ["'train'", "test"], "nothing to train on"),
    (["--set", "training.output=/proc/run"], ["/proc/run"], "a folder that refuses"),
    (["--set", "training.nesterov=true", "--set", "training.momentum=0"], ["nesterov"], "nesterov alone"),
    (["--set", "model.arguments.input_size=[3, 8, 8]"], ["shape"], "images of another size"),
    (["--set", "model.arguments.num_classes=7"], ["label", "7"], "more classes than outputs"),
    (["--set", "training.batch_size=2000"], ["2000", "1442"], "a batch larger than the set"),
    (["--set", "training.batch_size=[64, 2000]"], ["2000", "1442"], "a member's batch larger than the set"),
    (["--set", "training.schedule.milestones=[3]"], ["milestones", "3"], "a step beyond the last epoch"),
    (["--set", "training.optimizer=adam", "--set", "training.momentum=0.9"], ["momentum"], "not Adam's"),
    (["--set", "training.optimizer=lion"], ["sgd", "adam"], "an unknown optimizer"),
    (["--set", "training.batch_size=[64, 64]"], ["64"], "twice the same member"),
    (["--set", "training.start=/nowhere.pt"], ["/nowhere.pt"], "a start that is not there"),
    (["--set", "data={name: cifar10, root: /nowhere}"], ["CIFAR10", "/nowhere", "download"], "no data"),
    (["--set", "model.name=resnet21"], ["resnet21"], "no such depth"),
    (["--set", "compute.device=cuda:99"], ["cuda:99"], "no such device"),
    (["--time-limit", "-1"], ["-1"], "a time limit below 0"),
]


@pytest.mark.parametrize(("arguments", "words", "why"), BAD, ids=[why for *_, why in BAD])
def test_bad_input_is_refused_in_one_line(study, here, configuration, arguments, words, why):
    ended = here(train.main, configuration, *arguments)
    assert ended.status == 2, ended.err
    assert len(ended.err.splitlines()) == 1
    for word in words:
        assert word in ended.err
    assert not (study.folder / "run" / "history.h5").exists()


def test_two_files_that_train_into_one_folder_are_refused_and_both_named(study, here, configuration):
    other = study.folder / "other.yaml"
    other.write_text(configuration.read_text().replace("seed: 4", "seed: 5"))
    ended = here(train.main, configuration, other)
    assert ended.status == 2
    assert "train.yaml" in ended.err
    assert "other.yaml" in ended.err
    assert not (study.folder / "run").exists()


def test_checkpoints_without_a_history_are_not_replaced_unasked(study, here, configuration):
    (study.folder / "run").mkdir()
    (study.folder / "run" / "final.pt").write_bytes(b"somebody's work")
    ended = here(train.main, configuration)
    assert ended.status == 2
    assert "final.pt" in ended.err
    assert (study.folder / "run" / "final.pt").read_bytes() == b"somebody's work"


# A network with everything that a training must carry over: batch normalisation, dropout, augmentation, velocity.
LONG = """
model: {{target: "{module}:build"}}
data: {{name: digits, arguments: {{limit: {{train: 400, test: 50}}}}}}
compute: {{threads: 1, device: cpu}}
training:
  output: {folder}/run
  batch_size: 16
  learning_rate: 0.02
  augmentation: {{shift: 1, flip: true}}
  phases:
    - {{epochs: 3, schedule: {{milestones: [2]}}}}
    - {{epochs: 2, optimizer: adam, learning_rate: 1e-3}}
"""
NETWORK = """
import os, time
from torch import nn

class Slow(nn.Module):
    def forward(self, inputs):
        if self.training:
            time.sleep(float(os.environ.get("SLEEP", "0")))
        return inputs

def build():
    return nn.Sequential(Slow(), nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.2),
                         nn.Linear(144, 10))
"""


@pytest.fixture
def long(study):
    (study.folder / f"{study.module}.py").write_text(NETWORK)
    path = study.folder / "long.yaml"
    path.write_text(LONG.format(folder=study.folder, module=study.module))
    return path


def start(study, long, *arguments, launcher=(), sleep="0.01"):
    return subprocess.Popen(
        [*launcher, sys.executable, "-m", "mpi_landscape.train", str(long), *arguments],
        cwd=study.folder,
        env={**os.environ, "SLEEP": sleep},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def kill(job):
    """Every process of a job at once."""
    ranks = psutil.Process(job.pid).children(recursive=True)
    for process in (job, *ranks):
        process.kill()
    job.communicate(timeout=FAR)
    psutil.wait_procs(ranks, timeout=FAR)


def test_stopped_in_the_middle_of_epochs_costs_no_step_and_changes_no_bit(study, here, long):
    assert here(train.main, long, "--set", f"training.output={study.folder}/reference").status == 0
    begun = []
    for stop in range(3):
        job = start(study, long, sleep="0.1")
        begun.append(going(job, "parameters" if stop == 0 else "goes on after"))
        time.sleep(1.0)
        job.send_signal(signal.SIGTERM)
        output, _ = job.communicate(timeout=FAR)
        assert job.returncode == 75, output
        assert "run the same command again" in output
        assert (study.folder / "run" / "state.pt").exists()
    assert begun[1] != begun[2], "each start begins where the last one stopped"
    assert here(train.main, long).status == 0
    assert not (study.folder / "run" / "state.pt").exists()
    assert solution(study.folder / "run") == solution(study.folder / "reference")


def going(job, words: str) -> str:
    """The line with which a job says that it has begun."""
    for line in job.stdout:
        if words in line:
            return line
    pytest.fail("the job ended before it began")


def test_a_time_limit_stops_cleanly_and_says_so(study, here, long, monkeypatch):
    monkeypatch.setenv("SLEEP", "0.1")
    stopped = here(train.main, long, "--time-limit", "0.5")
    assert stopped.status == 75, stopped.err
    assert "the time limit of 0.5 s" in stopped.out
    monkeypatch.delenv("SLEEP")
    assert not (study.folder / "run" / "final.pt").exists()
    assert here(train.main, long).status == 0


@pytest.mark.slow
@pytest.mark.parametrize("count", values([1, 6], 1))
def test_killed_at_random_instants_and_resumed_equals_uninterrupted(study, here, long, count):
    from mpi_landscape.solutions import following as room

    assert here(train.main, long, "--set", f"training.output={study.folder}/reference").status == 0
    # Every state is kept, so that each start gets further than the last.
    saving = study.folder / "saving.py"
    saving.write_text(
        "import sys\nfrom mpi_landscape import train\nfrom mpi_landscape.solutions import following\n"
        "following._SAVE_STEP = following._SAVE_EPOCH = 0.0\ntrain.main(sys.argv[1:])\n"
    )
    assert room._SAVE_STEP > 0
    chance, kills = random.Random(3), 0
    while kills < count:
        job = subprocess.Popen(
            [sys.executable, str(saving), str(long)],
            cwd=study.folder,
            env={**os.environ, "SLEEP": "0.02", "PYTHONPATH": os.pathsep.join(sys.path)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        going(job, "goes on after" if kills else "parameters")
        time.sleep(chance.uniform(0, 0.4) if kills else 1.0)
        assert job.poll() is None, "finished before anything was shown"
        job.kill()
        job.communicate(timeout=FAR)
        kills += 1
        history = read_history(study.folder / "run" / "history.h5")
        assert history.epoch.size == 6, "it opens whenever it was killed"
    assert here(train.main, long).status == 0
    assert solution(study.folder / "run") == solution(study.folder / "reference")


def test_an_error_in_the_middle_of_a_step_does_not_spoil_the_state(study, here, long):
    assert here(train.main, long, "--set", f"training.output={study.folder}/reference").status == 0
    # In the eleventh step of the second epoch, after batch normalisation has taken the batch into its statistics.
    broken = NETWORK.replace(
        "class Slow",
        "count = [0]\n\nclass Broken(nn.Module):\n    def forward(self, inputs):\n"
        "        count[0] += self.training\n        if count[0] == 36:\n            raise ValueError('a flaw of mine')\n"
        "        return inputs\n\nclass Slow",
    ).replace("nn.Flatten()", "Broken(), nn.Flatten()")
    fine = broken.replace("== 36", "== -1")
    module = study.folder / f"{study.module}.py"
    module.write_text(broken)
    ended = here(train.main, long)
    assert ended.status == 1
    assert "a flaw of mine" in ended.err
    module.write_text(fine)
    assert here(train.main, long).status == 0
    ours, reference = (solution(study.folder / name) for name in ("run", "reference"))
    assert list(ours.values()) == list(reference.values()), "names differ by the number of the layer"


def test_data_that_have_changed_since_are_refused(study, here, long, monkeypatch):
    job = start(study, long, sleep="0.1")
    going(job, "parameters")
    deadline = time.monotonic() + FAR
    while not (study.folder / "run" / "epoch_0001.pt").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    job.send_signal(signal.SIGTERM)
    job.communicate(timeout=FAR)
    state = torch.load(study.folder / "run" / "state.pt", weights_only=True)
    # As at the end of an epoch, with parameters that are not those of the history's last loss.
    state["step"] = 0
    for name, value in state["model"].items():
        if value.is_floating_point():
            state["model"][name] = value + 0.5
    torch.save(state, study.folder / "run" / "state.pt")
    ended = here(train.main, long)
    assert ended.status == 2
    assert "has changed" in ended.err


SWEEP = ["--set", "training.batch_size=[16, 80]", "--set", "training.weight_decay=[0, 1e-3]"]


@pytest.fixture
def separately(study, here, long):
    """The four members, each trained on its own."""
    found = {}
    for batch in (16, 80):
        for decay, text in ((0, "0"), (1e-3, "0.001")):
            output = study.folder / f"alone_{batch}_{text}"
            chosen = [
                f"training.batch_size={batch}",
                f"training.weight_decay={decay}",
                f"training.output={output}",
            ]
            ended = here(train.main, long, *(word for each in chosen for word in ("--set", each)))
            assert ended.status == 0, ended.err
            found[f"batch_size={batch},weight_decay={text}"] = solution(output)
    return found


def members(folder):
    return {path.parent.name: solution(path.parent) for path in folder.glob("*/final.pt")}


@pytest.mark.parametrize("size", values([1, 2, 3], 1, 3))
def test_a_sweep_gives_the_same_bits_on_any_number_of_ranks(study, standing, long, separately, size):
    done = standing(size, "-m", "mpi_landscape.train", long, *SWEEP, cwd=study.folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert members(study.folder / "run") == separately
    table = done.stdout.splitlines()[-4:]
    assert [line.split()[0].rsplit("/", 1)[1] for line in table] == list(separately), "in the order asked for"


@pytest.mark.mpi
@pytest.mark.slow
@pytest.mark.exhaustive
def test_a_sweep_killed_in_the_middle_and_resumed_equals_uninterrupted(study, launcher, long, separately):
    job = start(study, long, *SWEEP, launcher=launcher(2), sleep="0.02")
    deadline = time.monotonic() + FAR
    while not members(study.folder / "run") and job.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    kill(job)
    done = len(members(study.folder / "run"))
    assert 0 < done < 4, "killed too early or too late to show anything"
    again = start(study, long, *SWEEP, launcher=launcher(2), sleep="0")
    output, _ = again.communicate(timeout=FAR)
    assert again.returncode == 0, output
    assert output.count("complete before") >= done
    assert members(study.folder / "run") == separately


@pytest.mark.mpi
@pytest.mark.exhaustive
def test_a_signal_to_one_rank_stops_a_sweep_and_the_same_command_goes_on(study, launcher, long, separately):
    # Slow enough for the second rank, which reads the data later, to begin before the first has trained all the others.
    job = start(study, long, *SWEEP, launcher=launcher(2), sleep="0.1")
    deadline = time.monotonic() + FAR
    while time.monotonic() < deadline:
        begun = {path.parent for path in study.folder.glob("run/*/epoch_0001.pt")}
        if len(begun - {path.parent for path in study.folder.glob("run/*/final.pt")}) == 2:
            break
        time.sleep(0.05)
    # Not the launcher and its proxies: the youngest process is a rank.
    ranks = [
        each
        for each in psutil.Process(job.pid).children(recursive=True)
        if "mpi_landscape.train" in each.cmdline()
    ]
    ranks[-1].send_signal(signal.SIGUSR1)
    output, _ = job.communicate(timeout=FAR)
    assert job.returncode == 75, output
    assert len(list(study.folder.glob("run/*/state.pt"))) == 2, "each rank kept where it was"
    again = start(study, long, *SWEEP, launcher=launcher(3), sleep="0")
    output, _ = again.communicate(timeout=FAR)
    assert again.returncode == 0, output
    assert members(study.folder / "run") == separately


def test_a_second_training_in_the_same_folder_is_refused_and_the_first_named(study, here, long):
    first = start(study, long, sleep="0.1")
    deadline = time.monotonic() + FAR
    while not (study.folder / "run" / "history.h5").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    second = here(train.main, long)
    kill(first)
    assert second.status == 2
    assert f"process {first.pid}" in second.err


def test_plain_gradient_descent_on_w_squared_is_its_closed_form(study, here):
    path = study.folder / "toy.yaml"
    path.write_text(
        "{model: {name: product1, arguments: {initial: [2.0]}}, data: constant, loss: mse, training: {epochs: 20, "
        f"batch_size: all, learning_rate: 0.05, momentum: 0.0, weight_decay: 0, output: '{study.folder}/run'}}}}"
    )
    assert here(train.main, path).status == 0
    loss = read_history(study.folder / "run" / "history.h5").values["train_loss"]
    # w <- w - 0.05 * 2 w
    expected = (2.0 * 0.9 ** np.arange(21)) ** 2
    np.testing.assert_allclose(loss, expected, rtol=1e-5)  # float32
