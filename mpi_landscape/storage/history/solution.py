"""A training that a script has asked for, as it lies in its folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpi_landscape.storage.by_name import ByName
from mpi_landscape.storage.drawing import drawing
from mpi_landscape.storage.history.records import History
from mpi_landscape.storage.surface.ending import Ended


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Solution(ByName):
    """The checkpoints and the history of a training, finished or not.

    Every quantity is also an attribute, one value per epoch, from the network before the first: `solution.train_loss`.

    Attributes:
        folder: Where its files are.
        history: All of `history.h5`.
        ending: Whether it is finished, or why not; `solution.ending.sentence` says it in words.
    """

    _called = "a solution"

    folder: Path
    history: History
    ending: Ended = Ended.FINISHED

    def _by_name(self) -> Mapping[str, NDArray[np.float64]]:
        history: History | None = self.__dict__.get("history")
        return {} if history is None else history.values

    @property
    def final(self) -> Path:
        """The checkpoint of the end; there once the training is finished."""
        return self.folder / "final.pt"

    @property
    def checkpoints(self) -> list[Path]:
        """Those of the epochs that have one, in order, from the network before the first."""
        found = self.folder.glob("epoch_*.pt")
        return sorted(found, key=lambda path: int(path.stem.removeprefix("epoch_")))

    @property
    def num_epochs(self) -> int:
        """How many epochs are done."""
        return max(0, int(np.count_nonzero(self.history.done)) - 1)

    def __repr__(self) -> str:
        state = "finished" if self.ending is Ended.FINISHED else "not finished"
        text = f"Solution({str(self.folder)!r}, {self.num_epochs} epochs; {state})"
        done = np.flatnonzero(self.history.done)
        last = [
            f"{name.replace('_', ' ')} {self.history.values[name][done[-1]]:.4g}"
            for name in self.history.values
            if len(done)
            and name.endswith(("_loss", "_accuracy"))
            and not np.isnan(self.history.values[name][done[-1]])
        ]
        return "\n  ".join([text, *([", ".join(last)] if last else [])])

    def plot(self, *, title: str | None = None) -> Any:
        """Draw loss, error, weight norm and learning rate over the epochs, as `python -m plotting` does.

        Returns:
            The matplotlib figure, which a notebook shows.

        Raises:
            LandscapeError: matplotlib is not installed.
        """
        return drawing().draw_training(self.history, title=title)
