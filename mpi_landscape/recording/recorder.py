"""A recorder: called once per epoch, it copies the network, and a thread writes the copy while the training goes on."""

from __future__ import annotations

import operator
import sys
import time
import weakref
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from threading import Thread
from types import TracebackType
from typing import Any, Literal, SupportsIndex

import torch
from torch import nn

from mpi_landscape.errors import LandscapeError
from mpi_landscape.recording.snapshot import DTYPES, Snapshot, snapshot, unwrapped
from mpi_landscape.recording.table import Table, checked
from mpi_landscape.storage.checkpoints import epoch_name, keep_whole
from mpi_landscape.storage.lock import exclusive
from mpi_landscape.storage.places import remove_abandoned
from mpi_landscape.wording import either, listed, reason, shown

# Rows of a table: one per epoch up to the last.
_MOST_EPOCHS = 10**6
_EXISTING = ("overwrite", "refuse")


class Recorder:
    """Keeps a network epoch by epoch: `epoch_0000.pt`, ..., as `mpi_landscape.train` names them, and `history.h5`.

    Checkpoints hold parameters and buffers as torch.save writes them, tied ones once. Each is there whole or not at all, also
    where the process is killed in the middle of it. The copy is made before the call returns, so that it is of one moment, and
    written by a thread; one call waits for the writing of the one before. What could not be written is said by the next call,
    in one line; by `close` for the last.

    On a restart it goes on in the same folder. An epoch that is there already is overwritten, as the training does it anew
    (`existing="refuse"` refuses it instead); later ones stay until they are reached. One recorder has a folder at a time. Of a
    distributed training the rank 0 of torch.distributed records, and all may call.

    Args:
        folder: Where; made where it is not there.
        every: Epochs between two checkpoints; of the others the values are kept.
        dtype: `float16` or `bfloat16` for half of the size; None for the network's own bits.
        trainable_only: Leave parameters out that no training moves (`requires_grad` is false), such as the base of an adapter.
        existing: `overwrite`, or `refuse`: what becomes of an epoch that is there already.
        title: What pictures of the history are to say; the network's class by default.

    Raises:
        LandscapeError: An argument is not valid.

    Example:
        >>> import tempfile
        >>> network, folder = nn.Linear(3, 2), tempfile.mkdtemp()
        >>> with Recorder(folder) as recorder:
        ...     for epoch in range(3):
        ...         recorder(network, epoch, learning_rate=0.1, train_loss=1 / (1 + epoch))
        >>> sorted(path.name for path in Path(folder).glob("*.*"))
        ['epoch_0000.pt', 'epoch_0001.pt', 'epoch_0002.pt', 'history.h5']
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        every: int = 1,
        dtype: Literal["float16", "bfloat16"] | None = None,
        trainable_only: bool = False,
        existing: Literal["overwrite", "refuse"] = "overwrite",
        title: str | None = None,
    ) -> None:
        if not isinstance(folder, str | Path) or not str(folder):
            raise LandscapeError(f"recorder: folder is {shown(folder)}; expected the path of a folder")
        if isinstance(every, bool) or not isinstance(every, int) or every < 1:
            raise LandscapeError(
                f"recorder: every is {shown(every)}; expected a number of epochs, 1 or above"
            )
        if dtype is not None and dtype not in DTYPES:
            raise LandscapeError(
                f"recorder: dtype is {shown(dtype)}; valid are {listed(DTYPES)}, or None for the network's own"
            )
        if existing not in _EXISTING:
            raise LandscapeError(f"recorder: existing is {shown(existing)}; valid is {either(_EXISTING)}")
        self.folder = Path(folder)
        self._every, self._trainable_only, self._existing, self._title = (
            every,
            trainable_only,
            existing,
            title,
        )
        self._dtype = None if dtype is None else DTYPES[dtype]
        self._table: Table | None = None
        self._held: ExitStack | None = None
        self._thread: Thread | None = None
        self._failed: list[LandscapeError] = []
        self._noted, self._since = False, time.perf_counter()

    def __call__(self, model: nn.Module | dict[str, Any], epoch: SupportsIndex, **values: Any) -> None:
        """Keep the network as it is now.

        Args:
            model: The network; or its state dictionary, such as one that was gathered from several ranks.
            epoch: How many epochs are behind it, 0 before the first.
            values: For the history: `learning_rate`, `train_loss`, `train_accuracy`, `val_loss`, ...: numbers, losses in nats
                per example and accuracies as fractions.

        Raises:
            LandscapeError: Something of it is not valid, another process records in the folder, or what was to be kept before
                could not be written.
        """
        number, numbers = _epoch(epoch), checked(values)
        if not is_first_rank():
            return
        self._settle()
        table = self._open(model)
        is_due = number % self._every == 0
        path = self.folder / epoch_name(number)
        if is_due and self._existing == "refuse" and path.exists():
            raise LandscapeError(f"{path}: is there already; choose another folder, or existing='overwrite'")
        now = time.perf_counter()
        kept = snapshot(model, dtype=self._dtype, trainable_only=self._trainable_only) if is_due else None
        table.note(number, {**numbers, "seconds": now - self._since})
        self._since, self._noted = now, False
        self._thread = Thread(target=self._write, args=(number, kept, path), name="recorder")
        self._thread.start()

    def note(self, epoch: SupportsIndex, **values: Any) -> None:
        """Keep further values of an epoch, such as the loss of a validation that comes after it.

        They are written with the next checkpoint, or by `close`.

        Raises:
            LandscapeError: As of a call.
        """
        number, numbers = _epoch(epoch), checked(values)
        if is_first_rank() and numbers:
            self._settle()
            self._open(None).note(number, numbers)
            self._noted = True

    def close(self) -> None:
        """Wait until all is written, and let go of the folder; the next call takes it up again.

        Raises:
            LandscapeError: Something could not be written.
        """
        try:
            self._settle()
            if self._noted and self._table is not None:
                self._table.write()
                self._noted = False
        finally:
            held, self._held, self._table = self._held, None, None
            if held is not None:
                held.close()

    def __enter__(self) -> Recorder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except LandscapeError:
            # What ended the training matters more.
            if kind is None:
                raise

    def _open(self, model: nn.Module | dict[str, Any] | None) -> Table:
        """The folder, held for this recorder alone from the first call on: a process may be forked before."""
        if self._table is not None:
            return self._table
        with ExitStack() as held:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise LandscapeError(
                    f"{self.folder}: cannot be made: {error.strerror}; choose another folder"
                ) from error
            # As trainings of this program hold theirs.
            held.enter_context(exclusive(self.folder / "training"))
            for name in ("configuration.yaml", "state.pt"):
                if (self.folder / name).exists():
                    raise LandscapeError(
                        f"{self.folder / name}: is of a training by mpi_landscape.train, whose folder is its own; choose another"
                    )
            for unfinished in self.folder.glob(".epoch_*.pt.*.new"):
                remove_abandoned(self.folder / unfinished.name[1:].rsplit(".", 2)[0])
            title = self._title or (
                type(unwrapped(model)).__name__ if isinstance(model, nn.Module) else "training"
            )
            self._table = Table(self.folder, title)
            self._held = held.pop_all()
        weakref.finalize(self, _tell, self._failed, self.folder)
        return self._table

    def _write(self, number: int, kept: Snapshot | None, path: Path) -> None:
        """In a thread."""
        try:
            if kept is not None:
                content = {"state_dict": dict(kept.state), "epoch": number}
                keep_whole(path, partial(torch.save, content))
            if self._table is not None:
                if kept is not None and kept.parameters:
                    self._table.note(number, {"weight_norm": kept.weight_norm})
                self._table.write()
        except LandscapeError as error:
            self._failed.append(error)
        except Exception as error:
            self._failed.append(LandscapeError(f"{path}: cannot be written: {reason(error)}"))

    def _settle(self) -> None:
        """Wait for what is being written; say what could not be.

        Raises:
            LandscapeError: So it was.
        """
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._failed:
            error = self._failed.pop()
            self._failed.clear()
            raise LandscapeError(
                f"{error} (so this epoch is not kept; the training itself may go on)"
            ) from error


def _tell(failed: list[LandscapeError], folder: Path) -> None:
    """Of a recorder that nobody has closed: what nobody has been told."""
    while failed:
        error = failed.pop()
        sys.stderr.write(f"error: {folder}: the last epoch was not kept: {error}\n")


def is_first_rank() -> bool:
    """Whether this process is the one that records."""
    distributed = torch.distributed
    return not (distributed.is_available() and distributed.is_initialized()) or distributed.get_rank() == 0


def _epoch(epoch: SupportsIndex) -> int:
    try:
        number = operator.index(epoch)
    except TypeError:
        number = -1
    if isinstance(epoch, bool) or not 0 <= number <= _MOST_EPOCHS:
        raise LandscapeError(
            f"recorder: epoch is {shown(epoch)}; expected a whole number from 0 to {_MOST_EPOCHS:,}"
        )
    return number
