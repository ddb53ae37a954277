"""Rows of numbered items at fixed places, and which of them are done.

Written once against plain arrays with `[...]`, so the same code serves an HDF5 file, serial or parallel, and its
in-memory twin. It knows neither what a row means nor what the file is of.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from mpi_landscape.errors import LandscapeError
from mpi_landscape.storage import elements
from mpi_landscape.storage.patient import Patient, not_kept, write_failure
from mpi_landscape.storage.soundness import damage_named

DONE = 1
# Bytes of arrays that are only looked at.
_IN_MEMORY = 2**28
Row = NDArray[np.float64]
# What changes in a file while items come in: name to shape, type and the value that means "not done".
Arrays = Mapping[str, tuple[tuple[int, ...], np.dtype[Any], Any]]


@dataclass(frozen=True)
class Block:
    """Where the row of an item lies: a block of one dataset."""

    name: str
    start: tuple[int, ...]
    shape: tuple[int, ...]


Place = Block | Sequence[Block]


@dataclass(frozen=True)
class Published:
    """What has become known with an item.

    Attributes:
        places: Where in the result arrays: one index array per axis.
        values: By dataset, in the order in which to write them: (num_places,) float64 each.
    """

    places: tuple[NDArray[np.int64], ...]
    values: Mapping[str, Row]


class Cells:
    """The rows and results of a file that can be written; a resource that is closed at the end of `with`.

    Args:
        arrays: Datasets of h5py or numpy arrays, by name.
        block: The place of an item's row: a block, or several blocks among which its numbers are divided in order.
        marks: The group of the datasets `checksum` and `status`, one element for each item.
        flush: Called after each write that must survive a kill.
        close: Called at the end.
        abandon: Called instead where something was raised.
        path: The file, for messages.
    """

    def __init__(
        self,
        arrays: Mapping[str, Any],
        block: Callable[[int], Place],
        *,
        marks: str = "tiles",
        flush: Callable[[], None] = lambda: None,
        close: Callable[[], None] = lambda: None,
        abandon: Callable[[], None] = lambda: None,
        path: Path | None = None,
    ) -> None:
        self._arrays, self._block, self._path = arrays, block, path
        self._checksums, self._status = arrays[f"{marks}/checksum"], arrays[f"{marks}/status"]
        self._flush, self._close, self._abandon = flush, close, abandon

    def __enter__(self) -> Cells:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, *_: object) -> None:
        if error is not None:
            self._abandon()
        else:
            try:
                self._close()
            except (OSError, RuntimeError) as failed:
                error = failed
        cause = None if error is None else write_failure(error)
        if cause is not None:
            raise not_kept(str(self._path), cause) from error
        if kind is None and error is not None:
            raise error

    def write(self, item: int, row: Row) -> None:
        """Keep an item's row: values, then their checksum, then the mark that it is done.

        Args:
            item: Its number.
            row: As many float64 values as its blocks hold.
        """
        values, first = row.reshape(-1), 0
        for block in self._blocks(item):
            part = values[first : first + math.prod(block.shape)]
            if part.size:
                elements.write_block(self._arrays[block.name], block.start, part.reshape(block.shape))
            first += part.size
        elements.write_block(self._checksums, (item,), np.array([checksum(item, row)]))
        elements.write_block(self._status, (item,), np.array([DONE]))
        self._flush()

    def read(self, item: int) -> Row | None:
        """An item's row in the shape of its block, when it is marked as done and its checksum fits; otherwise it is to do.

        Of several blocks it has one axis.
        """
        if self._status[item] != DONE:
            return None
        parts = [self._part(block) for block in self._blocks(item)]
        row: Row = (
            parts[0]
            if len(parts) == 1
            else np.concatenate([np.asarray(part, dtype=np.float64).reshape(-1) for part in parts])
        )
        return row if self._checksums[item] == checksum(item, row) else None

    def _blocks(self, item: int) -> Sequence[Block]:
        found = self._block(item)
        return [found] if isinstance(found, Block) else found

    def _part(self, block: Block) -> Row:
        ends = zip(block.start, block.shape, strict=True)
        part: Row = self._arrays[block.name][tuple(slice(start, start + size) for start, size in ends)]
        return part

    def marked(self) -> NDArray[np.int64]:
        """The numbers of the items that are marked as done."""
        return np.flatnonzero(self._status[...] == DONE)

    def publish(self, known: Published) -> None:
        """Write what has become known."""
        for name, values in known.values.items():
            elements.write_at(self._arrays[name], known.places, values)
        self._flush()

    def holds(self, known: Published) -> bool:
        """Whether `publish` would change nothing, bit for bit."""
        return all(
            elements.read_at(self._arrays[name], known.places).tobytes() == values.tobytes()
            for name, values in known.values.items()
        )

    def noted(self, name: str) -> float:
        """A number of the run itself, in a dataset of one element."""
        return float(self._arrays[name][0])

    def note(self, name: str, value: float) -> None:
        """Write such a number."""
        self._arrays[name][0] = value
        self._flush()


def checksum(item: int, row: Row) -> int:
    """CRC-32 of an item's row and its number, so that values in another item's block do not pass."""
    return zlib.crc32(np.ascontiguousarray(row, dtype=np.float64).tobytes(), item & 0xFFFFFFFF)


def in_memory(arrays: Arrays, block: Callable[[int], Place]) -> tuple[Cells, dict[str, NDArray[Any]]]:
    """The twin of a file: the same cells in memory, and its arrays to look at."""
    made = {name: np.full(shape, empty, dtype=dtype) for name, (shape, dtype, empty) in arrays.items()}
    return Cells(made, block), made


def open_cells(
    path: Path,
    comm: Any,
    mode: str,
    *,
    open_file: Callable[[Path, str, Any], h5py.File],
    layout: Callable[[h5py.File], tuple[Sequence[str], Callable[[int], Place]]],
    marks: str = "tiles",
) -> Cells:
    """The cells of an existing file, to be written by this process alone or, with `comm`, by every rank.

    Args:
        path: The file.
        comm: The communicator for the parallel writer; collective then. None for the root writer.
        mode: `r+`, or `r` to look only.
        open_file: Opens it, given path, mode and communicator, and refuses what is not of its kind.
        layout: The names of the datasets that change in an open file, and where the rows lie in them.
        marks: As for `Cells`.

    Raises:
        LandscapeError: The file cannot be opened.
    """
    patient = None
    file = open_file(path, mode, comm)
    try:
        with damage_named(path):
            # Before it is opened anew: a file behind an object of Python has no name that leads to it.
            names, block = layout(file)
            if comm is None and mode != "r":
                file.close()
                patient = Patient(path, "rb+")
                file = h5py.File(patient, mode)
            datasets: dict[str, Any] = {name: file[name] for name in names}
            if mode == "r" and sum(each.nbytes for each in datasets.values()) <= _IN_MEMORY:
                # At once, not item by item.
                datasets = {name: each[...] for name, each in datasets.items()}
                for each in datasets.values():
                    each.flags.writeable = False
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
    return Cells(datasets, block, marks=marks, flush=flush, close=close, abandon=abandon, path=path)
