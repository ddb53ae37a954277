"""The recorder as a callback of Lightning, which asks for a class of its own to be inherited."""

from __future__ import annotations

from pathlib import Path
from typing import Any

try:
    from lightning.pytorch import Callback
except ImportError:
    from pytorch_lightning import Callback

from mpi_landscape.recording.recorder import Recorder
from mpi_landscape.recording.table import split_of


class LightningRecorder(Callback):  # type: ignore[misc]
    """Keeps the network before the first epoch and after each, with the losses and accuracies that were logged.

    Of what `self.log` was given with `on_epoch=True`, names such as `train_loss` and `val_accuracy` are kept.

    Args:
        folder: Where.
        every: Epochs between two checkpoints.
        thin: As of `Recorder`: dtype, trainable_only, existing, title.

    Example:
        >>> trainer = Trainer(callbacks=[LightningRecorder("runs/mine", every=1)])  # doctest: +SKIP
    """

    def __init__(self, folder: str | Path, every: int = 1, **thin: Any) -> None:
        super().__init__()
        self.recorder = Recorder(folder, every=every, **thin)
        self._rate: float | None = None

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """The network that has not been trained yet; of a training that goes on it is there already."""
        del pl_module
        if trainer.global_step == 0:
            self.recorder(trainer.model, trainer.current_epoch)

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """A scheduler may change the learning rate before the end."""
        del pl_module
        self._rate = trainer.optimizers[0].param_groups[0]["lr"] if trainer.optimizers else None

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """The network after an epoch."""
        del pl_module
        values = {name: value for name, value in trainer.callback_metrics.items() if split_of(name)}
        if self._rate is not None:
            values["learning_rate"] = self._rate
        self.recorder(trainer.model, trainer.current_epoch + 1, **values)

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """All is on disk when `fit` returns."""
        del trainer, pl_module, stage
        self.recorder.close()
