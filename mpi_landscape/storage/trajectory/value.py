"""Trajectories as they lie in a file, finished or not: the value that readers return and plots draw."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mpi_landscape.errors import LandscapeError
from mpi_landscape.storage.by_name import ByName
from mpi_landscape.storage.drawing import drawing
from mpi_landscape.storage.surface.ending import Ended

if TYPE_CHECKING:
    import xarray


# Shares of the variation, and of the way along the other axis; see `extent`.
_NOTHING, _MOST, _BESIDE = 1e-3, 0.1, 0.2


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Trajectory(ByName):
    """The checkpoints of one training, or of several one after another, in a plane around a center.

    Every quantity is also an attribute, one value per checkpoint: `trajectory.train_loss`.

    Attributes:
        path: Where it was read from.
        names: Of the trajectories; "" for a single one.
        index: (num_checkpoints,) int64: which trajectory a checkpoint is of.
        epoch: (num_checkpoints,) int64.
        checkpoints: Their files.
        alpha: (num_checkpoints,) float64, the coordinate in units of the first direction; 0 at the center.
        beta: Likewise of the second.
        distance: (num_checkpoints,) float64, out of the plane, in units of the weights.
        from_center: (num_checkpoints,) float64, distance from the center, likewise.
        learning_rate: (num_checkpoints,) float64, of the epoch; NaN where it is not known.
        values: Quantity name (`train_loss`, `train_accuracy`, `train_loss_in_plane`, ...) to (num_checkpoints,) float64 in its
            units: of the checkpoint as it is, and of its place in the plane. NaN where not done, or where NaN *is* the result.
        done: (num_checkpoints,) bool: where the values are results.
        units: Quantity name to its units.
        variation: (num_components,) float64, the share of each principal component, of sum 1; None where the axes are no
            principal ones.
        fingerprints: Of `center`, `alpha` and `beta`: a surface on these axes has the same.
        attributes: Everything else the file says of itself.
        ending: Whether it is finished, or why not; `trajectory.ending.sentence` says it in words.
    """

    _called = "a trajectory"

    path: str
    names: tuple[str, ...]
    index: NDArray[np.int64]
    epoch: NDArray[np.int64]
    checkpoints: tuple[str, ...]
    alpha: NDArray[np.float64]
    beta: NDArray[np.float64]
    distance: NDArray[np.float64]
    from_center: NDArray[np.float64]
    learning_rate: NDArray[np.float64]
    values: Mapping[str, NDArray[np.float64]]
    done: NDArray[np.bool_]
    units: Mapping[str, str] = field(default_factory=dict)
    variation: NDArray[np.float64] | None = None
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    attributes: Mapping[str, Any] = field(default_factory=dict)
    ending: Ended = Ended.FINISHED

    def _by_name(self) -> Mapping[str, NDArray[np.float64]]:
        found: Mapping[str, NDArray[np.float64]] = self.__dict__.get("values", {})
        return found

    @property
    def axes(self) -> str:
        """What the axes are: `pca`, `random` or `start_to_end`."""
        return str(self.attributes.get("axes", ""))

    @property
    def shares(self) -> dict[str, float]:
        """By axis, the part of the variance of the checkpoints along it, where the file says it."""
        found = {name: self.attributes.get(f"{name}_variation") for name in ("alpha", "beta")}
        return {name: float(share) for name, share in found.items() if isinstance(share, float)}

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits, in the order of the file."""
        return tuple(name.removesuffix("_loss") for name in self.values if name.endswith("_loss"))

    def extent(self, name: str) -> tuple[float, float]:
        """Least and greatest coordinate of the paths and the center on an axis, in its units; `name` is `alpha` or `beta`.

        Along an axis that holds next to nothing of the variation, beside one that holds most of it, at least a fifth of what the
        paths go along the other: from start to end they look straight then, as they are, and not like the noise on that axis.
        """
        values = getattr(self, name)
        low, high = min(0.0, float(values.min())), max(0.0, float(values.max()))
        other = "beta" if name == "alpha" else "alpha"
        lengths = [float(self.attributes.get(f"{each}_norm") or 0.0) for each in (name, other)]
        shares = self.shares
        if shares.get(name, 1.0) > _NOTHING or shares.get(other, 0.0) < _MOST or not all(lengths):
            return low, high
        least = _BESIDE * float(np.ptp(np.append(getattr(self, other), 0.0))) * lengths[1] / lengths[0]
        missing = max(0.0, least - (high - low)) / 2
        return low - missing, high + missing

    def way(self, number: int) -> NDArray[np.int64]:
        """The places of the checkpoints of one trajectory, in order."""
        return np.flatnonzero(self.index == number)

    def lowered(self, number: int) -> NDArray[np.int64]:
        """The places in a trajectory after which the learning rate is lower: the last checkpoint before each drop."""
        places = self.way(number)
        rates = self.learning_rate[places]
        # The network before the first step has had none.
        before = np.where(self.epoch[places][:-1] > 0, rates[:-1], np.nan)
        with np.errstate(invalid="ignore"):
            return places[:-1][rates[1:] < before]

    def __repr__(self) -> str:
        state = (
            "finished"
            if self.ending is Ended.FINISHED
            else f"{int(self.done.sum())} of {len(self.done)} done"
        )
        ways = f"{len(self.names)} trajectories, " if len(self.names) > 1 else ""
        shares = ", ".join(f"{name} {100 * share:.1f} %" for name, share in self.shares.items())
        text = f"Trajectory({self.path!r}, {ways}{len(self.epoch)} checkpoints on axes {self.axes}; {state})"
        return "\n  ".join([text, *([f"variation {shares}"] if shares else [])])

    def to_xarray(self) -> xarray.Dataset:
        """All of it but the vectors as an xarray.Dataset over `checkpoint`.

        Raises:
            LandscapeError: xarray is not installed.
        """
        try:
            import xarray
        except ImportError as error:
            raise LandscapeError("to_xarray() needs xarray: pip install xarray") from error
        columns = {
            name: getattr(self, name)
            for name in ("alpha", "beta", "distance", "from_center", "learning_rate", "index")
        } | dict(self.values)
        variables: dict[str, Any] = {
            name: (
                "checkpoint",
                column,
                {"units": self.units.get(name, "1"), "long_name": name.replace("_", " ")},
            )
            for name, column in columns.items()
        }
        if self.variation is not None:
            variables["variation"] = ("component", self.variation)
        return xarray.Dataset(
            variables, coords={"epoch": ("checkpoint", self.epoch)}, attrs=dict(self.attributes)
        )

    def plot(self, kind: str = "path", *, surface: Any = None, title: str | None = None) -> Any:
        """Draw it as `python -m plotting` does.

        Args:
            kind: `path`, the way in the plane; or `seen`, what the plane shows of it: true loss against that in the plane, and
                the distance out of it.
            surface: A surface on the same axes, whose contours are drawn below the path.
            title: Instead of that in the file.

        Returns:
            The matplotlib figure, which a notebook shows.

        Raises:
            LandscapeError: matplotlib is not installed, or the surface has other axes.
        """
        return drawing().draw_trajectory(self, kind=kind, surface=surface, title=title)
