"""A path between two solutions as it lies in a file, finished or not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mpi_landscape.errors import LandscapeError
from mpi_landscape.storage.by_name import ByName
from mpi_landscape.storage.connection.barriers import barriers_of
from mpi_landscape.storage.drawing import drawing
from mpi_landscape.storage.surface.ending import Ended

if TYPE_CHECKING:
    import xarray

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Pivots:
    """What a path was made of, its ends among them.

    Attributes:
        t: (k,) float64, where the path passes them; of a Bézier curve, where its bend weighs most.
        distance: (k,) float64, from the straight line at the same t, in units of the parameters.
        checkpoints: Files of their parameters and buffers, as they were called when the path was made.
        on_path: Whether the path goes through them, which a Bézier curve does not with its bend.
    """

    t: Floats
    distance: Floats
    checkpoints: tuple[str, ...]
    on_path: bool


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Connection(ByName):
    """Losses along a path from one solution (t = 0) to another (t = 1), and along the straight line between them.

    Every quantity is also an attribute: `connection.train_loss`, `connection.line_train_loss`, ...

    Attributes:
        path: Where it was read from.
        t: (num,) float64, increasing.
        length: (num,) float64, the length of the path until there, in units of the parameters.
        values: Quantity name to (num,) float64 in its units; NaN where not done.
        done: (num,) bool, where they are results.
        pivots: What the path was made of.
        splits: Names of the data.
        units: Quantity name to its units.
        attributes: Everything else the file says of itself.
        ending: Whether it is finished, or why not.
        kept_by: What keeps the file, where it is a temporary one.

    Example:
        >>> none = Pivots(t=np.array([0.0, 1.0]), distance=np.zeros(2), checkpoints=(), on_path=True)
        >>> found = Connection(path="a.h5", t=np.array([0.0, 0.5, 1.0]), length=np.array([0.0, 1.0, 2.0]),
        ...     values={"train_loss": np.array([0.1, 0.3, 0.2]), "line_train_loss": np.array([0.1, 2.2, 0.2])},
        ...     done=np.ones(3, bool), pivots=none, splits=("train",), attributes={"method": "bezier"})
        >>> found
        Connection('a.h5', bezier, 3 points, train; finished)
          barrier train 0.1, along the straight line 2
        >>> round(found.barriers["barrier_train"], 12)
        0.1
    """

    _called = "a connection"

    path: str
    t: Floats
    length: Floats
    values: Mapping[str, Floats]
    done: NDArray[np.bool_]
    pivots: Pivots
    splits: tuple[str, ...]
    units: Mapping[str, str] = field(default_factory=dict)
    attributes: Mapping[str, Any] = field(default_factory=dict)
    ending: Ended = Ended.FINISHED
    kept_by: Any = None

    def _by_name(self) -> Mapping[str, Floats]:
        found: Mapping[str, Floats] = self.__dict__.get("values", {})
        return found

    @property
    def is_straight(self) -> bool:
        """Whether the path is the straight line itself."""
        return len(self.pivots.t) == 2

    @property
    def barriers(self) -> dict[str, float]:
        """`barrier_<split>` and `line_barrier_<split>`: the greatest loss minus the larger of the ends; NaN where not done."""
        return barriers_of(self.values)

    def __repr__(self) -> str:
        method = self.attributes.get("method", "path")
        state = "finished" if self.done.all() else f"{int(self.done.sum())} done"
        text = f"Connection({self.path!r}, {method}, {len(self.t)} points, {', '.join(self.splits)}; {state})"
        barriers = self.barriers
        lines = [
            f"barrier {split} {barriers[f'barrier_{split}']:.6g}, along the straight line "
            f"{barriers[f'line_barrier_{split}']:.6g}"
            for split in self.splits
            if not np.isnan(barriers.get(f"barrier_{split}", np.nan))
        ]
        return "\n  ".join([text, *lines])

    def to_xarray(self) -> xarray.Dataset:
        """All quantities as an xarray.Dataset along t.

        Raises:
            LandscapeError: xarray is not installed.
        """
        try:
            import xarray
        except ImportError as error:
            raise LandscapeError("to_xarray() needs xarray: pip install xarray") from error
        along = {**self.values, "length": self.length}
        return xarray.Dataset(
            {
                **{name: ("t", value, {"units": self.units.get(name, "")}) for name, value in along.items()},
                **{name: ((), value) for name, value in self.barriers.items()},
            },
            coords={"t": ("t", self.t)},
            attrs=dict(self.attributes),
        )

    def plot(self, *, title: str | None = None) -> Any:
        """Draw losses and accuracies along the path and along the straight line, as `python -m plotting` does.

        Returns:
            The matplotlib figure, which a notebook shows.

        Raises:
            LandscapeError: matplotlib is not installed.
        """
        return drawing().draw_path(self, title=title)
