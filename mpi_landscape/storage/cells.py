"""The cells of a surface: where each tile's result goes, and which tiles are done.

Written once against plain arrays with `[...]`, so the same code serves an HDF5 file, serial or parallel, and its
in-memory twin.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from mpi_landscape.errors import LandscapeError
from mpi_landscape.plan.grid import Grid
from mpi_landscape.plan.tiles import Plan, Tile
from mpi_landscape.storage import elements, files
from mpi_landscape.storage.soundness import damage_named
from mpi_landscape.storage.surface import schema

DONE = 1
Sums = NDArray[np.float64]


class Cells:
    """A surface that can be written, tile by tile; a resource that is closed at the end of `with`.

    Args:
        arrays: The datasets of `schema.arrays`, by name: h5py datasets or numpy arrays.
        grid: The points.
        plan: The tiles.
        accuracy: Whether there are accuracies.
        flush: Called after each write that must survive a kill.
        close: Called at the end.
        abandon: Called instead where something was raised.
        path: The file, for messages.
    """

    def __init__(
        self,
        arrays: Mapping[str, Any],
        grid: Grid,
        plan: Plan,
        *,
        accuracy: bool,
        flush: Callable[[], None] = lambda: None,
        close: Callable[[], None] = lambda: None,
        abandon: Callable[[], None] = lambda: None,
        path: Path | None = None,
    ) -> None:
        self._arrays = arrays
        self._grid = grid
        self._plan = plan
        self._accuracy = accuracy
        self._flush = flush
        self._close = close
        self._abandon = abandon
        self._path = path

    def __enter__(self) -> Cells:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._abandon()
        else:
            try:
                self._close()
            except (OSError, RuntimeError) as failed:
                error = failed
        cause = None if error is None else files.write_failure(error)
        if cause is not None:
            raise files.not_kept(str(self._path), cause) from error
        if kind is None and error is not None:
            raise error

    def write_tile(self, tile: Tile, sums: Sums) -> None:
        """Keep a tile's sums: values, then their checksum, then the mark that it is done.

        Args:
            tile: Which one.
            sums: (tile.num_points, 4) float64, the columns of `schema.SUMS` per point.
        """
        elements.write_block(
            self._arrays[schema.sums_name(tile.split)], (tile.shard, tile.start, 0), sums[np.newaxis]
        )
        elements.write_block(self._arrays["tiles/checksum"], (tile.index,), np.array([checksum(tile, sums)]))
        elements.write_block(self._arrays["tiles/status"], (tile.index,), np.array([DONE]))
        self._flush()

    def write_points(self, tile: Tile, totals: Sums) -> None:
        """Write the loss and accuracy of a tile's points, whose sums over all shards are known.

        Args:
            tile: The points.
            totals: (tile.num_points, 4) float64, sums over the whole split.
        """
        self.write_values(tile, mean_values(totals, self._accuracy))

    def write_values(self, tile: Tile, values: Mapping[str, Sums]) -> None:
        """Write what is known of a tile's points.

        Args:
            tile: The points.
            values: By kind, in the order in which to write them: (tile.num_points,) float64 each.
        """
        for kind, column in values.items():
            elements.write_at(self._arrays[f"{tile.split}_{kind}"], self._places(tile), column)
        self._flush()

    def holds_points(self, tile: Tile, totals: Sums) -> bool:
        """Whether `write_points` with these totals would change nothing, bit for bit."""
        return self.holds_values(tile, mean_values(totals, self._accuracy))

    def holds_values(self, tile: Tile, values: Mapping[str, Sums]) -> bool:
        """Whether `write_values` with these would change nothing, bit for bit."""
        return all(
            elements.read_at(self._arrays[f"{tile.split}_{kind}"], self._places(tile)).tobytes()
            == column.tobytes()
            for kind, column in values.items()
        )

    @property
    def target(self) -> float:
        """The relative error that the last run was asked for; NaN before the first, and for a plan without samples."""
        array = self._arrays.get(schema.TARGET)
        return float("nan") if array is None else float(array[0])

    def write_target(self, target: float) -> None:
        """Note the relative error that this run is asked for."""
        self._arrays[schema.TARGET][0] = target
        self._flush()

    def read_tile(self, tile: Tile) -> Sums | None:
        """A tile's sums, when it is marked as done and its checksum fits; None when it is to do."""
        if self._arrays["tiles/status"][tile.index] != DONE:
            return None
        sums: Sums = self._arrays[schema.sums_name(tile.split)][tile.shard, tile.start : tile.stop, :]
        return sums if self._arrays["tiles/checksum"][tile.index] == checksum(tile, sums) else None

    def marked(self) -> NDArray[np.int64]:
        """The numbers of the tiles that are marked as done."""
        return np.flatnonzero(self._arrays["tiles/status"][...] == DONE)

    def _places(self, tile: Tile) -> tuple[NDArray[np.int64], ...]:
        """Where a tile's points are in the result arrays: one index array per axis."""
        return np.unravel_index(self._grid.points(np.arange(tile.start, tile.stop)), self._grid.shape)


class Totals:
    """Rank 0's account: which tiles are in, and their sums over shards, added in the order of the plan.

    Args:
        plan: The tiles.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._shards = dict(plan.shards)
        # Few points, then: with enough of them every split has one shard and nothing is kept.
        self._sums = {
            split: np.full((count, plan.num_points, len(schema.SUMS)), np.nan)
            for split, count in plan.shards
            if count > 1
        }
        self._seen = np.zeros(plan.num_tiles, dtype=bool)
        self._missing = {
            (split, chunk): count
            for split, count in plan.shards
            if count > 1
            for chunk in range(plan.num_chunks)
        }

    def add(self, tile: Tile, sums: Sums) -> Sums | None:
        """Take note of a tile.

        Returns:
            (tile.num_points, 4) sums over the whole split when this was the last shard of its points, else None.
        """
        self._seen[tile.index] = True
        if self._shards[tile.split] == 1:
            return sums
        self._sums[tile.split][tile.shard, tile.start : tile.stop] = sums
        key = (tile.split, tile.start // self._plan.points_per_tile)
        self._missing[key] -= 1
        if self._missing[key] > 0:
            return None
        return add_shards(self._sums[tile.split][:, tile.start : tile.stop])

    def left(self) -> Iterator[int]:
        """The tiles that have not been added, in the order of the plan."""
        return (int(index) for index in np.flatnonzero(~self._seen))

    @property
    def num_left(self) -> int:
        """How many they are."""
        return int(self._seen.size - self._seen.sum())


def add_shards(sums: Sums) -> Sums:
    """Sums over a split from those of its shards, added one after the other.

    Args:
        sums: (num_shards, num_points, 4) float64.

    Returns:
        (num_points, 4) float64.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        total: Sums = np.cumsum(sums, axis=0)[-1]
    return total


def mean_values(totals: Sums, accuracy: bool) -> dict[str, NDArray[np.float64]]:
    """Loss and accuracy from sums over a split.

    Args:
        totals: (..., 4) float64, the columns of `schema.SUMS`.
        accuracy: Whether the correct count means anything.

    Returns:
        `loss` and perhaps `accuracy`, each of shape (...).
    """
    with np.errstate(invalid="ignore", over="ignore"):
        values = {"loss": totals[..., 0] / totals[..., 2]}
        if accuracy:
            values["accuracy"] = totals[..., 1] / totals[..., 2]
    return values


def checksum(tile: Tile, sums: Sums) -> int:
    """CRC-32 of a tile's values and its number, so that values in another tile's cells do not pass."""
    return zlib.crc32(np.ascontiguousarray(sums, dtype=np.float64).tobytes(), tile.index & 0xFFFFFFFF)


def in_memory(grid: Grid, plan: Plan, *, accuracy: bool) -> tuple[Cells, dict[str, NDArray[Any]]]:
    """The twin of a file: the same cells in memory, and its arrays to look at."""
    made = {
        name: np.full(shape, empty, dtype=dtype)
        for name, (shape, dtype, empty) in schema.arrays(grid, plan, accuracy).items()
    }
    return Cells(made, grid, plan, accuracy=accuracy), made


def open_cells(path: Path, comm: Any = None, *, mode: str = "r+") -> Cells:
    """The cells of an existing file, to be written by this process alone or, with `comm`, by every rank.

    Args:
        path: A file made by `schema.create`.
        mode: `r+`, or `r` to look only.
        comm: The communicator for the parallel writer; collective then. None for the root writer.

    Raises:
        LandscapeError: The file cannot be opened.
    """
    patient = None
    file = schema.open_file(path, mode, comm)
    try:
        with damage_named(path):
            # Before it is opened anew: a file behind an object of Python has no name that leads to it.
            grid, plan, accuracy = schema.read_plan(file)
            if comm is None and mode != "r":
                file.close()
                patient = files.Patient(path, "rb+")
                file = h5py.File(patient, mode)
            datasets = {name: file[name] for name in schema.arrays(grid, plan, accuracy)}
    except LandscapeError:
        file.close()
        raise

    def kept(work: Callable[[], None]) -> None:
        work()
        if patient is not None:
            patient.check()

    # A parallel file is written straight through, and its flush is collective; a serial one keeps up to 64 kB back.
    flush = (lambda: None) if comm is not None else partial(kept, file.flush)
    close = partial(kept, file.close)
    # Closing a parallel file is collective: a rank that raises must not wait there for the others.
    abandon = (lambda: None) if comm is not None else file.close
    return Cells(
        datasets, grid, plan, accuracy=accuracy, flush=flush, close=close, abandon=abandon, path=path
    )
