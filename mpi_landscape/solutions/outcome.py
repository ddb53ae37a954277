"""What became of a training: a row of numbers that travels to rank 0, and its words."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from mpi_landscape.solutions import folder as files
from mpi_landscape.solutions.member import Member
from mpi_landscape.storage.history.records import read_history
from mpi_landscape.wording import duration

COLUMNS = ("ending", "seconds", "train_loss", "train_accuracy", "test_loss", "test_accuracy", "weight_norm")


class Ended(IntEnum):
    """How a training ended, by its number in a row."""

    TRAINED = 0
    COMPLETE = 1
    DIVERGED = 2

    @property
    def words(self) -> str:
        """The same for people."""
        return ("trained", "complete before", "diverged")[self]


def row_of(member: Member, ending: Ended, start: float) -> NDArray[np.float64]:
    """(len(COLUMNS),) float64, with the values after the last epoch that is done; begun at `start`, monotonic."""
    history = read_history(member.folder / files.HISTORY)
    done = np.flatnonzero(history.done)
    values = [
        float(history.values[name][done[-1]]) if name in history.values and len(done) else np.nan
        for name in COLUMNS[2:]
    ]
    return np.array([ending, time.monotonic() - start, *values])


def words(row: NDArray[np.float64]) -> str:
    """One line about a training that has ended."""
    shown = "  ".join(
        f"{name.replace('_', ' ')} {value:.4g}"
        for name, value in zip(COLUMNS[2:], row[2:], strict=True)
        if not np.isnan(value)
    )
    return f"{Ended(int(row[0])).words}, {duration(row[1]).removeprefix('about ')}  {shown}"


def table(members: Sequence[Member], rows: Mapping[int, NDArray[np.float64]]) -> list[str]:
    """One line per member, in the order asked for."""
    width = max(len(str(member.folder)) for member in members)
    head = f"{'folder':<{width}}  {'train loss':>10}  {'accuracy':>8}  {'test loss':>10}  {'accuracy':>8}  {'norm':>8}"
    lines = [head]
    for index, member in enumerate(members):
        row = rows.get(index)
        if row is None:
            lines.append(f"{member.folder!s:<{width}}  not finished")
            continue
        train_loss, train_accuracy, test_loss, test_accuracy, norm = row[2:]
        lines.append(
            f"{member.folder!s:<{width}}  {train_loss:>10.4g}  {train_accuracy:>8.4f}  {test_loss:>10.4g}  "
            f"{test_accuracy:>8.4f}  {norm:>8.4g}{'  diverged' if row[0] == Ended.DIVERGED else ''}"
        )
    return lines
