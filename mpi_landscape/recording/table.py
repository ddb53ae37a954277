"""The small table beside recorded checkpoints: a history.h5 as a training of this program has it, as long as it is until now."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mpi_landscape.errors import LandscapeError
from mpi_landscape.storage.checkpoints import HISTORY
from mpi_landscape.storage.history.records import NOT_DONE, create_history, quantities, read_history
from mpi_landscape.storage.provenance import provenance
from mpi_landscape.wording import listed, shown

_MARK = "recorded_by"
_OURS = "mpi_landscape.Recorder"
_QUANTITY = re.compile(r"([A-Za-z]\w*)_(loss|accuracy)")


class Table:
    """What is known of each epoch; what a file of before says is taken over.

    Args:
        folder: Where it is.
        title: What pictures are to say, for a new one.

    Raises:
        LandscapeError: What is there is no table of a recorder.
    """

    def __init__(self, folder: Path, title: str) -> None:
        self._path, self._title = folder / HISTORY, title
        self._rows: dict[int, dict[str, float]] = {}
        self._splits = ["train"]
        if self._path.exists():
            before = read_history(self._path)
            if before.attributes.get(_MARK) != _OURS:
                raise LandscapeError(
                    f"{self._path}: is of a training by mpi_landscape.train, whose folder is its own; choose another folder"
                )
            self._title = str(before.attributes.get("title", title))
            self._splits = list(before.splits)
            for epoch in before.epoch[before.done].tolist():
                row = {name: float(column[epoch]) for name, column in before.values.items()}
                self._rows[epoch] = {name: value for name, value in row.items() if not math.isnan(value)}

    def note(self, epoch: int, values: Mapping[str, float]) -> None:
        """Keep values of an epoch, in place of those that it had under their names."""
        for name in values:
            split = split_of(name)
            if split is not None and split not in self._splits:
                self._splits.append(split)
        self._rows.setdefault(epoch, {}).update(values)

    def write(self) -> None:
        """Put it on disk, whole.

        Raises:
            LandscapeError: It cannot be written.
        """
        last = max(self._rows)
        columns = {name: np.full(last + 1, np.nan) for name in quantities(self._splits)}
        phase = np.full(last + 1, NOT_DONE)
        for epoch, row in self._rows.items():
            phase[epoch] = 0
            for name, value in row.items():
                columns[name][epoch] = value
        create_history(
            self._path,
            num_epochs=last,
            splits=self._splits,
            attributes={"title": self._title, _MARK: _OURS, **provenance(("torch", "numpy", "h5py"))},
            rows={"phase": phase, **columns},
            advice="choose another folder",
        )


def split_of(name: str) -> str | None:
    """The split of a quantity; None for one of the epoch.

    Example:
        >>> split_of("val_loss"), split_of("learning_rate")
        ('val', None)
    """
    found = _QUANTITY.fullmatch(name)
    return found[1] if found else None


def checked(values: Mapping[str, object]) -> dict[str, float]:
    """Values that a caller gives, as numbers.

    Raises:
        LandscapeError: One is none, or of a name that no table has.
    """
    numbers = {}
    for name, value in values.items():
        if name != "learning_rate" and split_of(name) is None:
            raise LandscapeError(
                f"recorder: {name!r} is not kept; valid are {listed(['learning_rate', 'train_loss', 'train_accuracy'])}, and "
                f"these two of any other split, such as val_loss"
            )
        try:
            numbers[name] = float(value)  # type: ignore[arg-type]
        except (TypeError, ValueError, RuntimeError):
            raise LandscapeError(f"recorder: {name} is {shown(value)}; expected a number") from None
    return numbers
