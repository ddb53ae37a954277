"""The recorder in other people's trainers, the real ones where they are installed."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from mpi_landscape.errors import LandscapeError
from mpi_landscape.problem.checkpoints import load_state, read_state
from mpi_landscape.storage.history.records import read_history


def data():
    generator = torch.Generator().manual_seed(0)
    return TensorDataset(torch.randn(24, 3, generator=generator), torch.arange(24) % 4)


def kept(folder):
    return sorted(path.name for path in folder.glob("epoch_*.pt"))


@pytest.fixture
def lightning():
    return pytest.importorskip("lightning.pytorch", reason="needs pip install lightning")


@pytest.fixture
def trained(lightning, tmp_path):
    """Train a module with a recorder; returns it, and its parameters after every epoch as it saw them itself."""
    from mpi_landscape.callbacks import LightningRecorder

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            torch.manual_seed(2)
            self.net, self.seen = nn.Linear(3, 4), {}

        def on_train_start(self):
            self.seen[self.current_epoch] = self.net.weight.detach().clone()

        def on_train_epoch_end(self):
            self.seen[self.current_epoch + 1] = self.net.weight.detach().clone()

        def training_step(self, batch, index):
            loss = nn.functional.cross_entropy(self.net(batch[0]), batch[1])
            self.log("train_loss", loss, on_epoch=True, on_step=False)
            return loss

        def configure_optimizers(self):
            optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
            return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)]

    def train(epochs, resume=None, **options):
        module = Module()
        recorder = LightningRecorder(tmp_path / "run", **options)
        trainer = lightning.Trainer(
            max_epochs=epochs, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
            enable_checkpointing=False, callbacks=[recorder],
        )  # fmt: skip
        trainer.fit(module, DataLoader(data(), batch_size=8), ckpt_path=resume)
        trainer.save_checkpoint(tmp_path / "last.ckpt")
        return module

    return train


def test_lightning_keeps_every_epoch_with_what_was_logged(trained, tmp_path):
    module = trained(3)
    assert kept(tmp_path / "run") == [f"epoch_000{epoch}.pt" for epoch in range(4)]
    for epoch, weight in module.seen.items():
        assert torch.equal(read_state(tmp_path / f"run/epoch_000{epoch}.pt")["net.weight"], weight)
    found = read_history(tmp_path / "run/history.h5")
    np.testing.assert_allclose(found.values["learning_rate"], [np.nan, 0.1, 0.05, 0.025])
    losses = found.values["train_loss"]
    assert np.isnan(losses[0])
    assert np.isfinite(losses[1:]).all()
    assert len(set(losses[1:])) == 3
    # The network alone reads it, without the prefix of the module.
    load_state(nn.Linear(3, 4), read_state(tmp_path / "run/epoch_0003.pt"), where="here")


def test_lightning_goes_on_where_a_training_goes_on(trained, tmp_path):
    first = trained(2)
    second = trained(4, resume=tmp_path / "last.ckpt")
    assert kept(tmp_path / "run") == [f"epoch_000{epoch}.pt" for epoch in range(5)]
    assert torch.equal(read_state(tmp_path / "run/epoch_0000.pt")["net.weight"], first.seen[0])
    assert torch.equal(read_state(tmp_path / "run/epoch_0004.pt")["net.weight"], second.seen[4])
    assert np.isfinite(read_history(tmp_path / "run/history.h5").values["train_loss"][1:]).all()


def test_lightning_keeps_every_second_epoch_when_asked(trained, tmp_path):
    trained(4, every=2, dtype="float16")
    assert kept(tmp_path / "run") == ["epoch_0000.pt", "epoch_0002.pt", "epoch_0004.pt"]
    assert read_state(tmp_path / "run/epoch_0004.pt")["net.bias"].dtype == torch.float16


@pytest.fixture
def trainer(tmp_path):
    """A real Trainer of transformers on a small network."""
    transformers = pytest.importorskip("transformers", reason="needs pip install transformers accelerate")
    pytest.importorskip("accelerate", reason="needs pip install transformers accelerate")
    from mpi_landscape.callbacks import HuggingFaceRecorder

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(2)
            self.net = nn.Linear(3, 4)

        def forward(self, inputs, labels=None):
            outputs = self.net(inputs)
            return {"loss": nn.functional.cross_entropy(outputs, labels), "logits": outputs}

    class Rows(torch.utils.data.Dataset):
        def __len__(self):
            return 24

        def __getitem__(self, index):
            inputs, label = data()[index]
            return {"inputs": inputs, "labels": label}

    def make(**options):
        arguments = transformers.TrainingArguments(
            output_dir=str(tmp_path / "out"), num_train_epochs=3, per_device_train_batch_size=8, logging_strategy="epoch",
            eval_strategy="epoch", save_strategy="no", report_to=[], use_cpu=True, disable_tqdm=True,
        )  # fmt: skip
        recorder = HuggingFaceRecorder(tmp_path / "run", **options)
        return transformers.Trainer(
            Network(), arguments, train_dataset=Rows(), eval_dataset=Rows(), callbacks=[recorder]
        )

    return make


def test_transformers_keeps_every_epoch_with_its_losses(trainer, tmp_path):
    made = trainer()
    made.train()
    assert kept(tmp_path / "run") == [f"epoch_000{epoch}.pt" for epoch in range(4)]
    last = read_state(tmp_path / "run/epoch_0003.pt")
    assert torch.equal(last["net.weight"], made.model.net.weight.detach())
    assert not torch.equal(last["net.weight"], read_state(tmp_path / "run/epoch_0002.pt")["net.weight"])
    found = read_history(tmp_path / "run/history.h5")
    logged = {round(each["epoch"]): each for each in made.state.log_history if "loss" in each}
    checked = {round(each["epoch"]): each for each in made.state.log_history if "eval_loss" in each}
    for epoch in (1, 2, 3):
        assert found.values["train_loss"][epoch] == logged[epoch]["loss"]
        assert found.values["learning_rate"][epoch] == logged[epoch]["learning_rate"]
        assert found.values["eval_loss"][epoch] == checked[epoch]["eval_loss"]


def test_transformers_counts_steps_when_asked(trainer, tmp_path):
    trainer(steps=4).train()
    # Nine steps.
    assert kept(tmp_path / "run") == ["epoch_0000.pt", "epoch_0001.pt", "epoch_0002.pt"]
    with pytest.raises(LandscapeError, match="steps is 0; expected a number of steps"):
        trainer(steps=0)


@pytest.mark.parametrize(
    ("name", "modules"),
    [("LightningRecorder", ("lightning", "pytorch_lightning")), ("HuggingFaceRecorder", ("transformers",))],
)
def test_a_library_that_is_absent_is_named_in_one_line(name, modules):
    code = (
        f"import sys\nfor each in {modules!r}:\n    sys.modules[each] = None\n"
        "from mpi_landscape.errors import LandscapeError\n"
        f"try:\n    from mpi_landscape.callbacks import {name}\n"
        "except LandscapeError as error:\n    sys.stdout.write(f'{error}\\n')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert len(done.stdout.splitlines()) == 1
    assert done.stdout.startswith(f"{name} needs {modules[0]}: pip install {modules[0]}")


def test_an_unknown_callback_names_the_valid():
    from mpi_landscape import callbacks

    with pytest.raises(AttributeError, match="it has LightningRecorder, HuggingFaceRecorder"):
        callbacks.KerasRecorder  # noqa: B018
