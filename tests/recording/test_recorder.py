"""The recorder: what later programs read, whole or not at all, and gone on with."""

import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time

import numpy as np
import pytest
import torch
from torch import nn

from mpi_landscape import LandscapeError, Recorder, inspect
from mpi_landscape.problem.checkpoints import load_state, read_state
from mpi_landscape.recording import recorder as module
from mpi_landscape.storage.history.records import read_history
from plotting.__main__ import main as draw


@pytest.fixture
def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))


def changed(network, epoch):
    """Other numbers for every epoch."""
    with torch.no_grad():
        for tensor in network.parameters():
            tensor.fill_(epoch + 0.25)
    return network


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_every_epoch_is_read_again_as_it_was(network, tmp_path):
    with Recorder(tmp_path / "run") as recorder:
        for epoch in range(4):
            recorder(changed(network, epoch), epoch)
            # The training goes on at once.
            changed(network, 99)
    assert names(tmp_path / "run") == [*(f"epoch_000{epoch}.pt" for epoch in range(4)), "history.h5"]
    for epoch in range(4):
        state = read_state(tmp_path / "run" / f"epoch_000{epoch}.pt")
        load_state(network, state, where="here")
        assert all(bool((each == epoch + 0.25).all()) for each in network.parameters())


def test_a_surface_is_computed_around_what_was_recorded(network, tmp_path, capsys):
    from mpi_landscape import surface

    with Recorder(tmp_path / "run") as recorder:
        recorder(network, 3)
    (tmp_path / "nets.py").write_text(
        "import torch\nfrom torch import nn\n"
        "def net():\n    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))\n"
        "def data():\n    return {'train': torch.utils.data.TensorDataset(torch.randn(9, 3, generator=torch.Generator()"
        ".manual_seed(1)), torch.arange(9) % 4)}\n"
    )
    (tmp_path / "a.yaml").write_text(
        f"model: {{target: 'nets:net', checkpoint: {tmp_path}/run/epoch_0003.pt}}\ndata: {{target: 'nets:data'}}\n"
        f"grid: {{alpha: [-1, 1, 3], beta: null}}\noutput: {tmp_path}/a.h5\n"
    )
    with pytest.raises(SystemExit) as ended:
        surface.main([str(tmp_path / "a.yaml")])
    assert not ended.value.code, capsys.readouterr().err


def test_the_table_is_a_history_as_programs_know_it(network, tmp_path, capsys):
    with Recorder(tmp_path, every=2, title="mine") as recorder:
        for epoch in range(5):
            recorder(
                changed(network, epoch), epoch, learning_rate=0.1 / (1 + epoch), train_loss=torch.tensor(2.0 - epoch / 4),
                val_accuracy=np.float32(epoch / 8),
            )  # fmt: skip
        recorder.note(4, val_loss=7.5)
    assert names(tmp_path) == ["epoch_0000.pt", "epoch_0002.pt", "epoch_0004.pt", "history.h5"]
    found = read_history(tmp_path / "history.h5")
    assert found.done.all()
    assert found.splits == ("train", "val")
    np.testing.assert_allclose(found.values["learning_rate"], [0.1 / (1 + k) for k in range(5)])
    np.testing.assert_array_equal(found.values["train_loss"], [2, 1.75, 1.5, 1.25, 1])
    np.testing.assert_array_equal(found.values["val_accuracy"], np.arange(5) / 8)
    np.testing.assert_array_equal(found.values["val_loss"], [np.nan] * 4 + [7.5])
    # 12 + 4 + 4 + 4 parameters, all the same; not of epochs that are not kept.
    np.testing.assert_allclose(
        found.values["weight_norm"], [24**0.5 * (k + 0.25) if k % 2 == 0 else np.nan for k in range(5)]
    )
    with pytest.raises(SystemExit) as ended:
        inspect.main([str(tmp_path / "history.h5")])
    assert not ended.value.code
    assert "mine" in capsys.readouterr().out
    assert draw([str(tmp_path / "history.h5"), "--output", str(tmp_path / "a.png")]) == 0


def test_on_a_restart_it_goes_on_and_overwrites_what_is_done_anew(network, tmp_path):
    with Recorder(tmp_path) as recorder:
        for epoch in range(4):
            recorder(changed(network, epoch), epoch, train_loss=epoch)
    with Recorder(tmp_path) as recorder:
        recorder(changed(network, 50), 2, train_loss=50)
    state = {epoch: read_state(tmp_path / f"epoch_000{epoch}.pt")["0.bias"][0].item() for epoch in range(4)}
    assert state == {0: 0.25, 1: 1.25, 2: 50.25, 3: 3.25}
    assert read_history(tmp_path / "history.h5").values["train_loss"].tolist() == [0, 1, 50, 3]
    with Recorder(tmp_path, existing="refuse") as recorder:
        with pytest.raises(LandscapeError, match=r"epoch_0003\.pt: is there already; choose another folder"):
            recorder(network, 3)
        recorder(changed(network, 4), 4)
    assert (tmp_path / "epoch_0004.pt").exists()


def test_one_recorder_has_a_folder_at_a_time(network, tmp_path):
    with Recorder(tmp_path) as recorder:
        recorder(network, 0)
        code = f"from mpi_landscape import Recorder\nfrom torch import nn\nRecorder({str(tmp_path)!r})(nn.Linear(1, 1), 0)\n"
        other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert other.returncode == 1
        assert str(os.getpid()) in other.stderr.splitlines()[-1]
    with Recorder(tmp_path) as again:
        again(network, 1)


def test_the_folder_of_a_training_of_ours_is_left_alone(network, tmp_path):
    from tests.storage.test_files_of_before import BEFORE

    (tmp_path / "history.h5").write_bytes((BEFORE / "training/history.h5").read_bytes())
    with pytest.raises(
        LandscapeError, match=r"is of a training by mpi_landscape\.train, whose folder is its own"
    ):
        Recorder(tmp_path)(network, 0)
    assert names(tmp_path) == ["history.h5"]


def test_what_could_not_be_written_is_said_by_the_next_call_and_then_it_goes_on(
    network, tmp_path, monkeypatch
):
    def full(content, stream):
        raise OSError(28, "No space left on device")

    recorder = Recorder(tmp_path)
    recorder(network, 0)
    with monkeypatch.context() as patched:
        patched.setattr(module.torch, "save", full)
        recorder(network, 1)
        recorder._thread.join()
    with pytest.raises(LandscapeError, match=r"epoch_0001\.pt: cannot be written: No space left") as caught:
        recorder(network, 2)
    assert "\n" not in str(caught.value)
    recorder(network, 2)
    recorder.close()
    assert names(tmp_path) == ["epoch_0000.pt", "epoch_0002.pt", "history.h5"]


def test_what_nobody_asks_for_is_said_when_the_process_ends(tmp_path):
    code = (
        "import torch, os\nfrom torch import nn\nfrom mpi_landscape import Recorder\n"
        f"recorder = Recorder({str(tmp_path)!r})\nrecorder(nn.Linear(1, 1), 0)\nrecorder._thread.join()\n"
        "def broken(*_):\n    raise OSError(28, 'No space left on device')\n"
        "torch.save = broken\nrecorder(nn.Linear(1, 1), 1)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "the last epoch was not kept" in done.stderr
    assert "No space left" in done.stderr
    assert (tmp_path / "epoch_0000.pt").exists()


def test_a_script_that_ends_without_closing_has_its_last_epoch(tmp_path):
    code = f"from torch import nn\nfrom mpi_landscape import Recorder\nRecorder({str(tmp_path)!r})(nn.Linear(900, 900), 7)\n"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert read_state(tmp_path / "epoch_0007.pt")["weight"].shape == (900, 900)


def test_the_call_does_not_wait_for_its_own_writing(network, tmp_path, monkeypatch):
    going_on, save = threading.Event(), torch.save

    def waiting(content, stream):
        assert going_on.wait(60)
        save(content, stream)

    monkeypatch.setattr(module.torch, "save", waiting)
    recorder = Recorder(tmp_path)
    recorder(changed(network, 0), 0)
    changed(network, 99)
    assert not (tmp_path / "epoch_0000.pt").exists()
    going_on.set()
    recorder.close()
    assert read_state(tmp_path / "epoch_0000.pt")["0.weight"].unique().tolist() == [0.25]


TRAINING = """
    import sys
    import torch
    from torch import nn
    from mpi_landscape import Recorder

    network, recorder = nn.Linear(1500, 1500), Recorder(sys.argv[1])
    for epoch in range(int(sys.argv[2]), 10**6):
        with torch.no_grad():
            network.weight.fill_(epoch)
        recorder(network, epoch, train_loss=epoch)
"""


@pytest.mark.slow
def test_killed_in_the_middle_of_a_write_and_gone_on(tmp_path):
    script, folder = tmp_path / "script.py", tmp_path / "run"
    script.write_text(textwrap.dedent(TRAINING))
    chance, begun, first = random.Random(5), 0, 0
    for kills in range(1, 9):
        job = subprocess.Popen([sys.executable, str(script), str(folder), str(first)])
        start = time.monotonic()
        while not list(folder.glob(f"epoch_{first + 1:04d}.pt")):
            assert time.monotonic() - start < 120
            time.sleep(0.005)
        time.sleep(chance.uniform(0, 0.05))
        job.send_signal(signal.SIGKILL)
        job.wait()
        begun += bool(list(folder.glob(".*.new")))
        kept = sorted(folder.glob("epoch_*.pt"))
        for path in kept[-3:]:
            state = read_state(path)
            assert state["weight"].unique().tolist() == [int(path.stem.split("_")[1])], (
                "of one moment, and whole"
            )
        found = read_history(folder / "history.h5")
        np.testing.assert_array_equal(found.values["train_loss"][found.done], found.epoch[found.done])
        # The row comes after its checkpoint, so each kill may have come between one and its row.
        assert len(kept) - kills <= found.done.sum() <= len(kept)
        first = len(kept)
    assert begun, "no kill was in the middle of a write, so nothing is shown"
    with Recorder(folder) as recorder:
        recorder(nn.Linear(2, 1), first)
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"folder": 5}, "folder is 5"),
        ({"every": 0}, "every is 0; expected a number of epochs"),
        ({"every": True}, "every is true"),
        ({"dtype": "int8"}, "dtype is 'int8'; valid are float16, bfloat16"),
        ({"existing": "keep"}, "existing is 'keep'; valid is overwrite or refuse"),
    ],
)
def test_what_cannot_be_meant_is_refused_at_once(tmp_path, arguments, words):
    with pytest.raises(LandscapeError, match=words) as caught:
        Recorder(**{"folder": tmp_path, **arguments})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("epoch", "values", "words"),
    [
        (-1, {}, "epoch is -1; expected a whole number from 0"),
        (1.5, {}, "epoch is 1.5"),
        (True, {}, "epoch is true"),
        (0, {"loss": 1.0}, "'loss' is not kept; valid are learning_rate, train_loss"),
        (0, {"train_loss": "low"}, "train_loss is 'low'; expected a number"),
    ],
)
def test_a_bad_call_is_refused_and_keeps_nothing(network, tmp_path, epoch, values, words):
    with pytest.raises(LandscapeError, match=words):
        Recorder(tmp_path / "run")(network, epoch, **values)
    assert not (tmp_path / "run").exists()


DISTRIBUTED = """
    import sys
    import torch
    from torch import nn
    from mpi_landscape import Recorder

    rank = int(sys.argv[2])
    torch.distributed.init_process_group("gloo", init_method=f"file://{sys.argv[1]}/store", rank=rank, world_size=2)
    network = nn.parallel.DistributedDataParallel(nn.Linear(2, 1))
    recorder = Recorder(sys.argv[1] + "/run" + str(rank))
    recorder(network, 0)
    recorder.close()
    torch.distributed.destroy_process_group()
"""


def test_only_rank_zero_of_a_distributed_training_records(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(DISTRIBUTED))
    jobs = [subprocess.Popen([sys.executable, str(script), str(tmp_path), str(rank)]) for rank in range(2)]
    assert [job.wait(timeout=200) for job in jobs] == [0, 0]
    assert sorted(read_state(tmp_path / "run0/epoch_0000.pt")) == ["bias", "weight"]
    assert not (tmp_path / "run1").exists()


def test_half_of_the_bits_take_half_of_the_room(tmp_path):
    network = nn.Linear(500, 400)
    sizes = {}
    for dtype in (None, "float16"):
        with Recorder(tmp_path / str(dtype), dtype=dtype) as recorder:
            recorder(network, 0)
        sizes[dtype] = (tmp_path / str(dtype) / "epoch_0000.pt").stat().st_size
    assert sizes["float16"] == pytest.approx(sizes[None] / 2, rel=0.02)
    load_state(network, read_state(tmp_path / "float16/epoch_0000.pt"), where="here")
