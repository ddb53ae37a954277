"""What a fault has left: does the file open, is every finished tile there, do the same bits come out in the end."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np

from mpi_landscape.errors import LandscapeError
from mpi_landscape.storage.surface.reader import read_surface
from mpi_landscape.storage.surface.tiles import open_tiles


def contents(path: Path) -> dict[str, bytes]:
    """Every dataset of numbers, as bytes."""
    found: dict[str, bytes] = {}
    with h5py.File(path, "r", locking=False) as file:

        def take(name: str, item: object) -> None:
            if isinstance(item, h5py.Dataset) and item.dtype.kind in "fiu":
                found[name] = item[...].tobytes()

        file.visititems(take)
    return found


def verified_tiles(path: Path) -> set[int]:
    """The tiles that are marked as done and whose checksum fits."""
    if not path.exists():
        return set()
    with open_tiles(path, mode="r") as store:
        return {int(index) for index in store.marked() if store.read(int(index)) is not None}


def wrong_values(path: Path, reference: dict[str, bytes]) -> int:
    """How many values a reader takes for results that are none."""
    surface = read_surface(path)
    wrong = 0
    for name, values in surface.values.items():
        true = np.frombuffer(reference[name]).reshape(values.shape)
        done = surface.done_of(name)
        wrong += int(np.count_nonzero(values[done].view(np.uint64) != true[done].view(np.uint64)))
    return wrong


@dataclass(frozen=True, kw_only=True)
class Aftermath:
    """What one fault has left.

    Attributes:
        unreadable: The file was there and did not open.
        lost: How many tiles were finished and are not verified any more.
        wrong: How many values are shown as results and are none.
        different: The completed file is not the undisturbed one, bit for bit.
        notes: Anything else that must not be, in words.
    """

    unreadable: bool = False
    lost: int = 0
    wrong: int = 0
    different: bool = False
    notes: tuple[str, ...] = ()

    @property
    def harmless(self) -> bool:
        """Whether nothing was harmed."""
        return self == Aftermath()


def aftermath(
    path: Path,
    finished: set[int],
    reference: dict[str, bytes],
    resume: Callable[[], None] | None,
    notes: tuple[str, ...] = (),
) -> Aftermath:
    """Look at a file that a fault has left, let it be completed, and look again.

    Args:
        path: The file; where it was to be created, it may be absent.
        finished: The tiles that must be there.
        reference: The contents of an undisturbed file.
        resume: Completes it; None to leave it as it is.
        notes: What was seen already.
    """
    unreadable, lost, wrong = False, len(finished), 0
    try:
        if path.exists():
            lost = len(finished - verified_tiles(path))
            wrong = wrong_values(path, reference)
    except (LandscapeError, OSError) as error:
        unreadable, notes = True, (*notes, str(error))
    different = resume is not None
    try:
        if resume is not None:
            resume()
            different = contents(path) != reference
    except Exception as error:
        notes = (*notes, f"resume: {type(error).__name__}: {error}")
    return Aftermath(unreadable=unreadable, lost=lost, wrong=wrong, different=different, notes=notes)


@dataclass(kw_only=True)
class Tally:
    """The sum over many faults of one kind; a row of the table.

    Attributes:
        what: Was done.
        times: How often.
        found: Every aftermath that was not harmless, with the fault.
        refused: How often the file was refused in a line, which is harmless where it was damaged.
    """

    what: str
    times: int = 0
    refused: int = 0
    found: list[tuple[str, Aftermath]] = field(default_factory=list)

    def add(self, fault: str, left: Aftermath) -> None:
        """Take note of what a fault has left."""
        self.times += 1
        if not left.harmless:
            self.found.append((fault, left))

    def row(self) -> str:
        """A line of the Markdown table."""
        harm = [left for _, left in self.found]
        unreadable = sum(left.unreadable for left in harm)
        lost = sum(left.lost for left in harm)
        same = self.times - self.refused - sum(left.different for left in harm)
        refused = f", {self.refused} refused in a line" if self.refused else ""
        return f"| {self.what} | {self.times} | {unreadable} | {lost} | {same} of {self.times}{refused} |"

    def complaints(self) -> list[str]:
        """A line for everything that was harmed or should not have been printed."""
        return [f"{self.what}: {fault}: {left}" for fault, left in self.found]


HEAD = (
    "| what was done | how often | files unreadable | finished tiles lost | resumed to the same bits |\n"
    "| --- | ---: | ---: | ---: | ---: |"
)
