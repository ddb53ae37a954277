"""What is in a spectrum file, and where: the ends of the spectrum are one item of work, every probe of its density is another.

    eigenvalues (k,), residuals (k,)                 the largest, descending, then the smallest, descending: the least is last
    eigenvectors (kept, n) float32                   of length 1, of `eigenvector_index`; with all that probes leave out
    loss, gradient_norm, noise, count (1,)           at the point; the error of a product relative to its length; examples
    num_products (1 + probes,)                       of the ends, then of each probe
    density/nodes, density/weights (probes, steps)   quadrature of each probe over the rest, weights of sum (n - k) / n
    density/trace, density/square (probes,)          what each says of the sum of the rest, and of that of its squares
    trace, trace_stderr, frobenius, frobenius_stderr (1,)
    normalized/...                                   the same in coordinates of which each filter's norm is the unit
    parameters/tensor_name, ...                      which tensor lies where in a vector of n numbers

What the items write are raw values at fixed places, after which follow a checksum and a mark.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from mpi_landscape.errors import LandscapeError
from mpi_landscape.storage import cells, files
from mpi_landscape.storage.cells import Block, Cells
from mpi_landscape.storage.soundness import (
    check_datasets,
    damage_named,
    holds,
    text,
    whole_numbers,
)

SCHEMA = 1
KIND, WHAT = "spectrum", "a spectrum file (mpi_landscape.hessian)"
PLAIN, NORMALIZED = "", "normalized/"
# What is known of the point with the ends, one number each.
FACTS = ("loss", "gradient_norm", "noise", "count")
# What each probe says of the sum of the other eigenvalues, and of that of their squares.
MOMENTS = ("trace", "square")
# What follows from all probes that are done.
DERIVED = ("trace", "trace_stderr", "frobenius", "frobenius_stderr")


@dataclass(frozen=True, kw_only=True)
class Shape:
    """How much there is of everything.

    Attributes:
        num_parameters: Numbers of a vector, n.
        num_values: Eigenvalues at both ends together, k.
        num_kept: Of how many the vectors are kept.
        num_probes: Random vectors.
        num_steps: Nodes of each.
        parts: `PLAIN`, and perhaps `NORMALIZED`.
    """

    num_parameters: int
    num_values: int
    num_kept: int
    num_probes: int
    num_steps: int
    parts: tuple[str, ...] = (PLAIN,)

    @property
    def num_items(self) -> int:
        """The ends and the probes of all parts."""
        return len(self.parts) * (1 + self.num_probes)

    def item(self, number: int) -> tuple[str, int | None]:
        """The part that an item is of, and its probe; None for the ends.

        Example:
            >>> shape = Shape(num_parameters=9, num_values=2, num_kept=0, num_probes=1, num_steps=3, parts=("", "normalized/"))
            >>> [shape.item(number) for number in range(shape.num_items)]
            [('', None), ('', 0), ('normalized/', None), ('normalized/', 0)]
        """
        part, place = divmod(number, 1 + self.num_probes)
        return self.parts[part], None if place == 0 else place - 1

    def ends_of(self, part: str) -> int:
        """The item of a part's ends."""
        return self.parts.index(part) * (1 + self.num_probes)

    def blocks(self, number: int) -> Sequence[Block]:
        """Where the row of an item lies."""
        part, probe = self.item(number)
        if probe is not None:
            return [
                Block(f"{part}density/nodes", (probe, 0), (1, self.num_steps)),
                Block(f"{part}density/weights", (probe, 0), (1, self.num_steps)),
                *(Block(f"{part}density/{name}", (probe,), (1,)) for name in MOMENTS),
                Block(f"{part}num_products", (1 + probe,), (1,)),
            ]
        vectors = Block(f"{part}eigenvectors", (0, 0), (self.num_kept, self.num_parameters))
        return [
            Block(f"{part}eigenvalues", (0,), (self.num_values,)),
            Block(f"{part}residuals", (0,), (self.num_values,)),
            *(Block(f"{part}{name}", (0,), (1,)) for name in FACTS),
            Block(f"{part}num_products", (0,), (1,)),
            *([vectors] if self.num_kept else []),
        ]

    def is_exact(self, weights: NDArray[np.float64]) -> bool:
        """Whether probes, by their weights (probes, steps), have as many nodes as there are dimensions, all eigenvalues."""
        return bool(((weights > 0).sum(axis=-1) == self.num_parameters - self.num_values).all())

    def arrays(self) -> cells.Arrays:
        """All datasets that change: name to shape, type, and the value that means "not done"."""
        real, empty = np.dtype(np.float64), np.nan
        found: dict[str, tuple[tuple[int, ...], np.dtype[Any], Any]] = {}
        for part in self.parts:
            found[f"{part}eigenvalues"] = (self.num_values,), real, empty
            found[f"{part}residuals"] = (self.num_values,), real, empty
            if self.num_kept:
                whole = (self.num_kept, self.num_parameters)
                found[f"{part}eigenvectors"] = whole, np.dtype(np.float32), empty
            for name in (*FACTS, *DERIVED):
                found[f"{part}{name}"] = (1,), real, empty
            found[f"{part}num_products"] = (1 + self.num_probes,), real, empty
            if self.num_probes:
                for name in ("nodes", "weights"):
                    found[f"{part}density/{name}"] = (self.num_probes, self.num_steps), real, empty
                for name in MOMENTS:
                    found[f"{part}density/{name}"] = (self.num_probes,), real, empty
        found["items/checksum"] = (self.num_items,), np.dtype(np.uint32), 0
        found["items/status"] = (self.num_items,), np.dtype(np.uint8), 0
        return found


_COUNTS = ("num_parameters", "num_values", "num_kept", "num_probes", "num_steps")


def as_attributes(shape: Shape) -> dict[str, Any]:
    """A shape as a file says it."""
    return {
        **{name: getattr(shape, name) for name in _COUNTS},
        "parts": ", ".join(part or "plain" for part in shape.parts),
    }


def read_shape(path: Path, file: h5py.File) -> Shape:
    """The shape of an open file, whose datasets are seen to have it.

    Raises:
        LandscapeError: They have not.
    """
    counts = {name: whole_numbers(path, file, name) for name in _COUNTS}
    for name, found in counts.items():
        least = 1 if name == "num_parameters" else 0
        if len(found) != 1 or found[0] < least:
            raise LandscapeError(f"{path}: is damaged: its attribute {name} is no number of such")
    words = text(path, file, "parts")
    named = {"plain": (PLAIN,), "plain, normalized/": (PLAIN, NORMALIZED)}
    if words not in named:
        raise LandscapeError(f"{path}: is damaged: it has the parts {words[:80]!r}")
    shape = Shape(**{name: found[0] for name, found in counts.items()}, parts=named[words])
    # Marks first: what a file claims to have many of, it has a mark for.
    check_datasets(path, file, {"items/status": ((shape.num_items,), "u1")})
    check_datasets(
        path,
        file,
        {name: (each, dtype.str[1:]) for name, (each, dtype, _) in shape.arrays().items()},
    )
    return shape


def open_spectrum_file(path: Path, mode: str, comm: Any = None) -> h5py.File:
    """Open a spectrum file.

    Args:
        path: Where it is.
        mode: `r` or `r+`.
        comm: For the parallel driver, the communicator; collective then.

    Raises:
        LandscapeError: There is no such file, or it is not one of ours, or of another kind or schema.
    """
    file = files.open_ours(path, mode, WHAT, comm)
    try:
        with damage_named(path):
            found = text(path, file, "kind") if holds_kind(file) else "surface"
            if found != KIND:
                raise LandscapeError(f"{path}: is of the kind {found[:40]}, not {WHAT}")
            if whole_numbers(path, file, "schema") != [SCHEMA]:
                raise LandscapeError(f"{path}: has another schema; this version reads and writes {SCHEMA}")
            read_shape(path, file)
    except LandscapeError:
        file.close()
        raise
    return file


def holds_kind(file: h5py.File) -> bool:
    """Whether a file says what it is of."""
    return "kind" in file.attrs


def check_kind(path: Path) -> None:
    """Refuse a file of another kind.

    Raises:
        LandscapeError: It is one, or cannot be opened.
    """
    open_spectrum_file(path, "r").close()


def open_items(path: Path, comm: Any = None, mode: str = "r+") -> Cells:
    """The items of an existing file; see `cells.open_cells`.

    Raises:
        LandscapeError: The file cannot be opened, or is not sound.
    """
    return cells.open_cells(path, comm, mode, open_file=open_spectrum_file, layout=_layout, marks="items")


def _layout(file: h5py.File) -> tuple[Sequence[str], Callable[[int], Sequence[Block]]]:
    shape = read_shape(Path(file.filename), file)
    return [*shape.arrays()], shape.blocks


def has_probes(file: h5py.File) -> bool:
    """Whether there is a density."""
    return holds(file, "density/nodes")
