"""A job of items with one row each, kept in a file of items: its file and its account."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from mpi_landscape.storage import identity
from mpi_landscape.storage.cells import Cells, Published, Row
from mpi_landscape.storage.item_file import (
    ItemContents,
    create_items,
    open_item_file,
    open_items,
    read_item_attributes,
)

Contents = TypeVar("Contents")


class OwnFile(ABC, Generic[Contents]):
    """The file of this very run; a `work.kept.Kept`.

    Args:
        path: Where it is; the caller holds its lock on rank 0.
        contents: What a new file holds, on rank 0 alone.
        identity: What defines its numbers.
        overwrite: Whether a file that is there is replaced.
    """

    def __init__(
        self, path: Path, contents: Contents | None, *, identity: Mapping[str, str], overwrite: bool
    ) -> None:
        self._path, self._contents = path, contents
        self._identity, self._overwrite = identity, overwrite
        self.notes: Mapping[str, float] = {}

    @property
    def path(self) -> Path:
        """Where it is."""
        return self._path

    def ensure(self) -> None:
        """Leave a file of this very run: the one that is there, or a new one.

        Raises:
            LandscapeError: The one that is there is another run's, or none can be made.
        """
        assert self._contents is not None
        if self._path.exists() and not self._overwrite:
            self.check()
        else:
            self._create(self._contents)

    def check(self) -> None:
        """See that the file is the one of this very run.

        Raises:
            LandscapeError: It is not.
        """
        with self._look() as file:
            identity.check_same(self._path, read_item_attributes(self._path, file), self._identity)

    @abstractmethod
    def open(self, comm: Any | None, mode: str) -> Cells:
        """Open it for its items."""

    @abstractmethod
    def _create(self, contents: Contents) -> None:
        """Make a new one."""

    @abstractmethod
    def _look(self) -> Any:
        """Open it to read, seen to be of its kind."""


class ItemFile(OwnFile[ItemContents]):
    """A file of items with one row each.

    Args:
        path: As for `OwnFile`.
        contents: Likewise.
        what: What it is, for messages: `a trajectory file`.
        kind: As `contents` has it.
        identity: As for `OwnFile`.
        overwrite: Likewise.
    """

    def __init__(
        self,
        path: Path,
        contents: ItemContents | None,
        *,
        what: str,
        kind: str,
        identity: Mapping[str, str],
        overwrite: bool,
    ) -> None:
        super().__init__(path, contents, identity=identity, overwrite=overwrite)
        self._what, self._kind = what, kind

    def _create(self, contents: ItemContents) -> None:
        create_items(self._path, contents)

    def _look(self) -> Any:
        return open_item_file(self._path, "r", kind=self._kind, what=self._what)

    def open(self, comm: Any | None, mode: str) -> Cells:
        """Open it for its items."""
        return open_items(self._path, comm, mode, kind=self._kind, what=self._what)


class EachItem:
    """Every item, in their order; each makes its own results known. A `work.job.Account`.

    Args:
        num_items: How many there are.
        results: The results of an item's row, by dataset: one number each.
        order: In which to begin them; as they are numbered where not given.
    """

    def __init__(
        self,
        num_items: int,
        results: Callable[[int, Row], Mapping[str, float]],
        order: NDArray[np.int64] | None = None,
    ) -> None:
        self._seen, self._results = np.zeros(num_items, dtype=bool), results
        self._order = np.arange(num_items) if order is None else order
        self._known: list[Published] = []
        self.summary = "complete"

    def take_over(self, item: int, row: Row) -> None:
        """Note an item that was done before."""
        self._known.append(self.add(item, row))

    def begin(self) -> list[Published]:
        """What is known of items that were done before."""
        return self._known

    def add(self, item: int, row: Row) -> Published:
        """Take note of a row; what it makes known."""
        self._seen[item] = True
        values = self._results(item, row.reshape(-1))
        return Published((np.array([item]),), {name: np.array([value]) for name, value in values.items()})

    def __iter__(self) -> Iterator[int]:
        """The items to do."""
        return (int(item) for item in self._order if not self._seen[item])

    @property
    def num_left(self) -> int:
        """How many are left."""
        return int(self._seen.size - self._seen.sum())

    @property
    def num_done(self) -> int:
        """How many are done."""
        return int(self._seen.sum())
