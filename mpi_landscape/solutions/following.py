"""One training in its own folder: begun or gone on with, and kept epoch by epoch."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from itertools import accumulate
from pathlib import Path
from typing import Any

from mpi_landscape.configuration import reading
from mpi_landscape.errors import LandscapeError
from mpi_landscape.parallel.stopping import Stopped
from mpi_landscape.problem.build import units_of_loss
from mpi_landscape.solutions import folder as files
from mpi_landscape.solutions.member import PreparedTraining
from mpi_landscape.storage import identity
from mpi_landscape.storage.checkpoints import epoch_name
from mpi_landscape.storage.history.records import HistoryWriter, create_history, read_history
from mpi_landscape.storage.places import write_whole
from mpi_landscape.storage.provenance import provenance
from mpi_landscape.training.loop import Epoch, Training
from mpi_landscape.training.recipe import num_epochs

# Seconds of work that a kill may cost; the numbers are the same wherever a training goes on from.
_SAVE_EPOCH, _SAVE_STEP = 10.0, 300.0
# Another machine rounds otherwise; other data or another network are further off.
_SAME_LOSS = 1e-3


def follow(
    prepared: PreparedTraining,
    state: Mapping[str, Any] | None,
    *,
    stepped: Callable[[], None],
    between: Callable[[], None],
    tell: Callable[[Epoch], None],
) -> None:
    """Train to the end, from the beginning or from where an earlier start came to.

    Where it ends early, `final.pt` is not there and the same call goes on to the same bits.

    Args:
        prepared: The training; its folder is claimed by the caller.
        state: What it goes on from; None begins anew, even where something is in the folder.
        stepped: Called after every step; it and `between` may raise to end the training.
        between: Called between batches while nothing is trained.
        tell: Called after every epoch.

    Raises:
        DivergedError: The training loss is not finite any more.
        LandscapeError: The folder holds what does not fit, or cannot be written.
    """
    member, training = prepared.member, prepared.training()
    folder = member.folder
    if state is None:
        _begin(prepared)
    with HistoryWriter(folder / files.HISTORY) as history:
        done = -1 if state is None else _go_on(training, state, folder)
        history.forget_after(done)
        keeper = _Keeper(training, folder / files.STATE)
        # A state says which epochs are done; before the first row of the history there is none.
        begun = done >= 0

        def pause() -> None:
            keeper.after(_SAVE_STEP)
            stepped()

        try:
            for epoch in training.epochs(pause, looking=between):
                _keep_epoch(prepared, history, epoch)
                begun = True
                keeper.after(_SAVE_EPOCH)
                tell(epoch)
        except Stopped:
            # Between two steps, so the very last of them can be kept. Any other exception may come from the middle of
            # one, with running statistics that are ahead of the parameters.
            if begun:
                keeper.after(0.0)
            raise
    files.keep_network(folder / files.FINAL, prepared.model.state_dict(), num_epochs(prepared.recipe))
    (folder / files.STATE).unlink(missing_ok=True)


class _Keeper:
    """Saves the state from which a training goes on, not more often than it is worth."""

    def __init__(self, training: Training, path: Path) -> None:
        self._training, self._path = training, path
        self._last = time.monotonic()

    def after(self, seconds: float) -> None:
        if time.monotonic() - self._last >= seconds:
            files.keep(self._path, self._training.state())
            self._last = time.monotonic()


def _begin(prepared: PreparedTraining) -> None:
    """A folder with nothing done in it."""
    member = prepared.member
    files.clear(member.folder)
    text = reading.to_yaml(member.configuration)
    write_whole(member.folder / files.CONFIGURATION, text.encode())
    create_history(
        member.folder / files.HISTORY,
        num_epochs=num_epochs(prepared.recipe),
        splits=list(prepared.feeds),
        loss_units=units_of_loss(prepared.loss, member.configuration.loss.name),
        attributes={
            "title": member.title,
            "configuration": text,
            **identity.as_attributes(member.identity),
            **prepared.facts,
            **provenance(),
        },
    )


def _go_on(training: Training, state: Mapping[str, Any], folder: Path) -> int:
    """Take over a state; returns the number of epochs that it has completed."""
    training.restore(state)
    epoch, step = int(state["epoch"]), int(state["step"])
    history = read_history(folder / files.HISTORY)
    if step == 0 and 0 <= epoch < len(history.epoch) and history.done[epoch]:
        _check_loss(training, folder, float(history.values["train_loss"][epoch]), epoch)
    return epoch


def _check_loss(training: Training, folder: Path, before: float, epoch: int) -> None:
    """Refuse another loss than before: the same network and data have the same."""
    now = training.look().values["train_loss"]
    if abs(now - before) > _SAME_LOSS * max(abs(before), _SAME_LOSS):
        raise LandscapeError(
            f"{folder}: the train loss after epoch {epoch} was {before:.9g}, now it is {now:.9g}, so the data, the "
            "network's code or the loss has changed; choose another training.output, or --overwrite to train again"
        )


def _keep_epoch(prepared: PreparedTraining, history: HistoryWriter, epoch: Epoch) -> None:
    """A checkpoint where one is due, then the row that says so."""
    member, recipe = prepared.member, prepared.recipe
    state = prepared.model.state_dict()
    ends = list(accumulate(phase.epochs for phase in recipe.phases))
    if epoch.number % member.settings.checkpoint_every == 0 or epoch.number in ends:
        files.keep_network(member.folder / epoch_name(epoch.number), state, epoch.number)
    if len(recipe.phases) > 1 and epoch.number in ends:
        number = ends.index(epoch.number) + 1
        files.keep_network(member.folder / f"phase_{number}.pt", state, epoch.number)
    values = {name: getattr(epoch, name) for name in ("learning_rate", "weight_norm", "seconds")}
    history.record(epoch.number, {**values, **epoch.values}, phase=epoch.phase)
