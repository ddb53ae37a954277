"""Barriers: by how much the loss on the way is above that of the worse end."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from mpi_landscape.storage.connection.schema import KIND, LINE, WHAT
from mpi_landscape.storage.item_file import open_item_file, read_results

# What their datasets begin with, behind `line_`.
BARRIER = "barrier_"


def barrier(losses: NDArray[np.float64]) -> float:
    """The greatest of the losses along a path minus the larger of those at its ends; NaN where one is not known.

    Example:
        >>> barrier(np.array([1.0, 4.0, 2.0])), barrier(np.array([1.0, 0.5, 2.0]))
        (2.0, 0.0)
    """
    if np.isnan(losses).any():
        return float("nan")
    with np.errstate(invalid="ignore"):
        return float(losses.max() - max(losses[0], losses[-1]))


def barriers_of(results: Mapping[str, NDArray[np.float64]]) -> dict[str, float]:
    """Every barrier by the name of its dataset: `barrier_train`, `line_barrier_train`, ...

    Example:
        >>> barriers_of({"train_loss": np.array([0.0, 2.0, 1.0]), "line_train_loss": np.array([0.0, 5.0, 1.0])})
        {'barrier_train': 1.0, 'line_barrier_train': 4.0}
    """
    found = {}
    for name, losses in results.items():
        if name.endswith("_loss"):
            prefix = LINE if name.startswith(LINE) else ""
            split = name.removeprefix(LINE).removesuffix("_loss")
            found[f"{prefix}{BARRIER}{split}"] = barrier(losses)
    return found


def write_barriers(path: Path) -> dict[str, float]:
    """Put the barriers of a finished file into it; one that has them already is not touched.

    Raises:
        LandscapeError: The file cannot be opened.
    """
    with open_item_file(path, "r", kind=KIND, what=WHAT) as file:
        found = barriers_of(read_results(file))
        same = all(_same(file[name], value) for name, value in found.items())
    if not same:
        with open_item_file(path, "r+", kind=KIND, what=WHAT) as file:
            for name, value in found.items():
                # A raw value at a fixed place, as all that changes in a file of ours.
                file[name][...] = value
            file.flush()
    return found


def _same(dataset: h5py.Dataset, value: float) -> bool:
    there: Any = dataset[()]
    return bool(np.float64(there).tobytes() == np.float64(value).tobytes())
