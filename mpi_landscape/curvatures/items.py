"""The account of a spectrum's items: which are done, and what follows from them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from mpi_landscape.storage.cells import Published, Row
from mpi_landscape.storage.spectrum.schema import DERIVED, Shape
from mpi_landscape.storage.spectrum.value import moments_of


class Items:
    """The items of a spectrum file, in their order; a `work.job.Account`.

    Args:
        shape: How much there is of everything.

    Attributes:
        rows: By number, those that are done.
    """

    def __init__(self, shape: Shape) -> None:
        self._shape = shape
        self.rows: dict[int, Row] = {}
        self.summary = "complete"

    def take_over(self, item: int, row: Row) -> None:
        """Note an item that was done before."""
        self.rows[item] = row.reshape(-1)

    def begin(self) -> list[Published]:
        """What is known of items that were done before."""
        found = (self._known(part) for part in self._shape.parts)
        return [each for each in found if each is not None]

    def add(self, item: int, row: Row) -> Published | None:
        """Take note of a row; what it makes known."""
        self.rows[item] = row.reshape(-1)
        return self._known(self._shape.item(item)[0])

    def _known(self, part: str) -> Published | None:
        """Trace and Frobenius norm, as far as there are probes."""
        shape, first = self._shape, self._shape.ends_of(part)
        done = [first + 1 + each for each in range(shape.num_probes) if first + 1 + each in self.rows]
        if first not in self.rows or not done:
            return None
        probes = np.stack([self.rows[each] for each in done])
        found = moments_of(
            self.rows[first][: shape.num_values],
            self.rows[first][shape.num_values : 2 * shape.num_values],
            # Behind nodes and weights.
            probes[:, -3],
            probes[:, -2],
            is_exact=shape.is_exact(probes[:, shape.num_steps : 2 * shape.num_steps]),
        )
        return Published(
            (np.array([0]),), {f"{part}{name}": np.array([getattr(found, name)]) for name in DERIVED}
        )

    def __iter__(self) -> Iterator[int]:
        """The items to do."""
        return (item for item in range(self._shape.num_items) if item not in self.rows)

    @property
    def num_left(self) -> int:
        """How many are left."""
        return self._shape.num_items - len(self.rows)

    @property
    def num_done(self) -> int:
        """How many are done."""
        return len(self.rows)
