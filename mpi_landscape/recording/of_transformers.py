"""The recorder as a callback of Hugging Face's Trainer, which asks for a class of its own to be inherited."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from mpi_landscape.errors import LandscapeError
from mpi_landscape.recording.recorder import Recorder
from mpi_landscape.recording.table import split_of
from mpi_landscape.wording import shown


class HuggingFaceRecorder(TrainerCallback):  # type: ignore[misc]
    """Keeps the network before the first epoch and after each, with the losses that the Trainer logs.

    Args:
        folder: Where.
        every: Epochs between two checkpoints; with `steps`, so many times that number of steps.
        steps: Count so many optimizer steps as an epoch, for trainings of few; None for epochs.
        thin: As of `Recorder`: dtype, trainable_only, existing, title.

    Example:
        >>> trainer = Trainer(model, arguments, callbacks=[HuggingFaceRecorder("runs/mine")])  # doctest: +SKIP
    """

    def __init__(self, folder: str | Path, every: int = 1, steps: int | None = None, **thin: Any) -> None:
        super().__init__()
        if steps is not None and (isinstance(steps, bool) or not isinstance(steps, int) or steps < 1):
            raise LandscapeError(
                f"recorder: steps is {shown(steps)}; expected a number of steps, or None for epochs"
            )
        self.recorder = Recorder(folder, every=every, **thin)
        self._steps = steps

    def on_train_begin(self, args: Any, state: Any, control: Any, **further: Any) -> None:
        """The network that has not been trained yet."""
        del args, control
        if state.global_step == 0:
            self._keep(state, further, 0)

    def on_step_end(self, args: Any, state: Any, control: Any, **further: Any) -> None:
        """Where steps are counted."""
        del args, control
        if self._steps is not None and state.global_step % self._steps == 0:
            self._keep(state, further, state.global_step // self._steps)

    def on_epoch_end(self, args: Any, state: Any, control: Any, **further: Any) -> None:
        """The network after an epoch."""
        del args, control
        if self._steps is None:
            self._keep(state, further, round(state.epoch))

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **further: Any) -> None:
        """What is logged in an epoch or at its end belongs to it; the last counts."""
        del args, control, further
        said = {"loss": "train_loss", "learning_rate": "learning_rate"}
        self._note(state, {said[name]: value for name, value in (logs or {}).items() if name in said})

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any = None, **further: Any) -> None:
        """A validation comes after the epoch that it is of."""
        del args, control, further
        self._note(state, {name: value for name, value in (metrics or {}).items() if split_of(name)})

    def on_train_end(self, args: Any, state: Any, control: Any, **further: Any) -> None:
        """All is on disk when `train` returns."""
        del args, control, further
        if state.is_world_process_zero:
            self.recorder.close()

    def _keep(self, state: Any, further: dict[str, Any], number: int) -> None:
        if state.is_world_process_zero:
            self.recorder(further["model"], number)

    def _note(self, state: Any, values: dict[str, Any]) -> None:
        if state.is_world_process_zero and values:
            counted = (state.epoch or 0) if self._steps is None else state.global_step / self._steps
            self.recorder.note(math.ceil(counted), **values)
