"""A surface as it lies in a file, finished or not: the value that readers return and plots draw."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mpi_landscape.errors import LandscapeError
from mpi_landscape.storage.by_name import ByName
from mpi_landscape.storage.drawing import drawing
from mpi_landscape.storage.surface import decay
from mpi_landscape.storage.surface.ending import Ended
from mpi_landscape.storage.surface.labelled import labelled
from mpi_landscape.storage.surface.points import NamedPoint
from mpi_landscape.vocabulary import COMPUTED
from mpi_landscape.wording import listed

if TYPE_CHECKING:
    import xarray

# Computed norms of gradients and eigenvalues are those of the loss alone.
_OF_THE_LOSS_ALONE = tuple(f"_{name}" for name in (*COMPUTED, "curvature_ratio"))


class Minimum(NamedTuple):
    """The lowest value of a quantity, and where it is; `beta` is None on a line."""

    value: float
    alpha: float
    beta: float | None


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Surface(ByName):
    """Loss and accuracy over a grid: f(α, β) = L(θ* + αδ + βη), Li et al. 2018, arXiv:1712.09913.

    Every quantity is also an attribute: `surface.train_loss` is `surface.values["train_loss"]`.

    Attributes:
        path: Where it was read from.
        alpha: (num_alpha,) float64, in units of the first direction.
        beta: (num_beta,) float64, in units of the second direction; None for a line.
        values: Quantity name (`train_loss`, `test_accuracy`, `lambda_max`, ...) to an array of shape
            (num_alpha, num_beta), (num_alpha,) for a line, or (num_alpha, num_lines) for several, float64, in its units.
            NaN where not done, but also where NaN *is* the result.
        done: Split name to a bool array of the same shape: True where the value is a result.
        seeds: Of several lines, that of each one's random direction: (num_lines,) int64; None otherwise. `lines` has them one
            by one.
        units: Quantity name to its units as the file says them: `nats per example` for a loss, `1` for a fraction
            such as an accuracy; empty or absent where they are not known.
        points: Those that have names: the center and the ends of differences, where a direction leads to a checkpoint.
        attributes: Everything else the file says of itself.
        target: The relative error that the last run was asked for, 0 for exact values; None where the plan has no samples.
        evaluations: The share of the evaluations of an exact surface that were made, in [0, 1]; None likewise.
        ending: Whether it is finished, or why not; `surface.ending.sentence` says it in words.
        tiles_left: How many tiles are not done; of a surface of samples that is finished, some may be.
        kept_by: What keeps the file, where it is a temporary one; gone with the last surface of it.
        find_products: Finds the coefficients of ‖θ‖², by set of parameters; see `decay.products`.

    Example:
        >>> line = Surface(path="a.h5", alpha=np.array([-1.0, 0, 1]), beta=None, values={"train_loss": np.array([2.0, 0.5, 3])},
        ...     done={"train": np.ones(3, bool)})
        >>> line
        Surface('a.h5', line of 3 points, train; finished)
          lowest train loss 0.5 at 0
        >>> line.train_loss[2], line.minimum
        (np.float64(3.0), Minimum(value=0.5, alpha=0.0, beta=None))
    """

    _called = "a surface"

    path: str
    alpha: NDArray[np.float64]
    beta: NDArray[np.float64] | None
    values: Mapping[str, NDArray[np.float64]]
    done: Mapping[str, NDArray[np.bool_]]
    seeds: NDArray[np.int64] | None = None
    units: Mapping[str, str] = field(default_factory=dict)
    points: tuple[NamedPoint, ...] = ()
    attributes: Mapping[str, Any] = field(default_factory=dict)
    target: float | None = None
    evaluations: float | None = None
    ending: Ended = Ended.FINISHED
    tiles_left: int = 0
    find_products: Callable[[], Mapping[str, NDArray[np.float64]]] | None = None
    kept_by: Any = None

    def _by_name(self) -> Mapping[str, NDArray[np.float64]]:
        found: Mapping[str, NDArray[np.float64]] = self.__dict__.get("values", {})
        return found

    def __repr__(self) -> str:
        shape = " x ".join(str(len(axis)) for axis in (self.alpha, self.beta) if axis is not None)
        grid = f"line of {shape} points" if self.is_line else f"{shape} points"
        grid = grid if self.seeds is None else f"{len(self.seeds)} lines of {shape} points"
        share = min(99, int(100 * self.progress))
        state = (
            "finished" if self.ending is Ended.FINISHED else f"{share} % done, {self.tiles_left} tiles left"
        )
        notes = "".join(f"; {each}" for each in (state, decay.words(self.attributes)) if each)
        text = (
            f"Surface({self.path!r}, {grid}, {listed(list(self.done)) if self.done else 'no split'}{notes})"
        )
        return f"{text}\n  {self._lowest}" if self._lowest else text

    @property
    def _lowest(self) -> str:
        name = self._usual
        if name is None or not self._finite(name).any():
            return ""
        value, *place = self.minimum_of(name)
        where = ", ".join(f"{each:g}" for each in place if each is not None)
        return f"lowest {name.replace('_', ' ')} {value:.6g} at {where if self.is_line else f'({where})'}"

    @property
    def quantities(self) -> list[str]:
        """The names of the quantities, in the order of the file."""
        return list(self.values)

    @property
    def is_line(self) -> bool:
        """Whether there is one axis only."""
        return self.beta is None

    @property
    def lines(self) -> tuple[Surface, ...]:
        """Each of several lines by itself, in the order of their seeds; the surface itself where it is one line or a plane.

        Example:
            >>> both = Surface(path="a.h5", alpha=np.array([0.0, 1]), beta=None, seeds=np.array([1, 2]),
            ...     values={"train_loss": np.array([[0.5, 0.5], [2, 3]])}, done={"train": np.ones((2, 2), bool)})
            >>> [line.train_loss.tolist() for line in both.lines]
            [[0.5, 2.0], [0.5, 3.0]]
        """
        if self.seeds is None:
            return (self,)
        return tuple(self._line(place) for place in range(len(self.seeds)))

    def _line(self, place: int) -> Surface:
        return replace(
            self,
            seeds=None,
            values={name: value[:, place] for name, value in self.values.items()},
            done={split: done[:, place] for split, done in self.done.items()},
            find_products=None if self.find_products is None else partial(self._products_of, place),
        )

    def _products_of(self, place: int) -> dict[str, NDArray[np.float64]]:
        assert self.find_products is not None
        return {name: numbers[3 * place : 3 * place + 3] for name, numbers in self.find_products().items()}

    @property
    def progress(self) -> float:
        """The share of the cells that are done, over all splits, in [0, 1]."""
        masks = list(self.done.values()) or [self.done_of(name) for name in self.values]
        return sum(int(done.sum()) for done in masks) / sum(done.size for done in masks)

    @property
    def minimum(self) -> Minimum:
        """The lowest train loss that is known, and where it is; of the first loss, where no split is called train.

        Raises:
            LandscapeError: There is no finite one.
        """
        name = self._usual
        if name is None:
            raise LandscapeError(
                f"{self.path}: there is no loss; valid is minimum_of one of {listed(self.quantities)}"
            )
        return self.minimum_of(name)

    def minimum_of(self, quantity: str) -> Minimum:
        """The lowest value of a quantity that is known and finite, and where it is.

        Raises:
            LandscapeError: There is no such quantity, or no finite value of it.
        """
        if quantity not in self.values:
            raise LandscapeError(
                f"{self.path}: there is no quantity {quantity!r}; valid quantities are {listed(self.quantities)}"
            )
        finite, values = self._finite(quantity), self.values[quantity]
        if not finite.any():
            raise LandscapeError(f"{self.path}: {quantity} has no finite value yet, so no minimum")
        place = np.unravel_index(int(np.argmin(np.where(finite, values, np.inf))), values.shape)
        beta = None if self.beta is None else float(self.beta[place[1]])
        return Minimum(float(values[place]), float(self.alpha[place[0]]), beta)

    def _finite(self, quantity: str) -> NDArray[np.bool_]:
        return self.done_of(quantity) & np.isfinite(self.values[quantity])

    @property
    def _usual(self) -> str | None:
        losses = [name for name in self.values if name.endswith("_loss")]
        return "train_loss" if "train_loss" in losses else next(iter(losses), None)

    @property
    def relative_errors(self) -> dict[str, float]:
        """By split, the largest standard error relative to its own loss, over the points that are done; 0 where exact."""
        result = {}
        for split, done in self.done.items():
            stderr, loss = self.values.get(f"{split}_loss_stderr"), self.values.get(f"{split}_loss")
            if stderr is None or loss is None:
                continue
            # A loss that is not finite stays so, whatever examples come; one of zero that is certain has no error.
            unsure = done & np.isfinite(loss) & (stderr > 0)
            with np.errstate(divide="ignore"):
                result[split] = float(np.max(stderr[unsure] / np.abs(loss[unsure]), initial=0.0))
        return result

    def split_of(self, quantity: str) -> str | None:
        """The split that a quantity was computed on: `train` for `train_loss`; None for one of no split."""
        # The longest: `train_large_loss` belongs to `train_large`, though `train` may be there as well.
        fitting = [split for split in self.done if quantity.startswith(f"{split}_")]
        return max(fitting, key=len, default=None)

    def done_of(self, quantity: str) -> NDArray[np.bool_]:
        """Where a quantity's value is a result; where it is a number, for one of no split."""
        split = self.split_of(quantity)
        return ~np.isnan(self.values[quantity]) if split is None else self.done[split]

    def with_weight_decay(self, weight_decay: float, *, of: str = "all") -> Surface:
        """The same with (λ/2)·‖θ(α, β)‖² added to every loss: what a training with weight decay has minimized.

        Norms of gradients are left out, as they are of the loss alone.

        Args:
            weight_decay: λ, as torch.optim.SGD takes it; its gradient is λθ.
            of: `all` parameters, as there, or `weights`: without biases and normalizations.

        Raises:
            LandscapeError: It is no number of 0 or above, or the losses have some already, or nothing of the parameters is known.
        """
        strength, chosen = decay.checked(weight_decay, of, where="with_weight_decay()")
        if "weight_decay" in self.attributes:
            raise LandscapeError(
                f"{self.path}: its losses are {decay.words(self.attributes)} already; add it to those of the file"
            )
        if self.find_products is None:
            raise LandscapeError(f"{self.path}: says nothing of the norm of its parameters")
        norm = decay.squared_norm(
            self.find_products()[chosen], self.alpha, self.beta, several=self.seeds is not None
        )
        values = {
            name: value + strength / 2 * norm if name.endswith("_loss") else value
            for name, value in self.values.items()
            if not name.endswith(_OF_THE_LOSS_ALONE)
        }
        said = {**self.attributes, "weight_decay": strength, "weight_decay_of": chosen}
        return replace(self, values=values, attributes=said)

    def to_xarray(self) -> xarray.Dataset:
        """All quantities as an xarray.Dataset with labelled axes, as `xarray.open_dataset` makes it of the file.

        Raises:
            LandscapeError: xarray is not installed.
        """
        axes = {"alpha": self.alpha, "beta": self.beta, "repeat": self.seeds}
        return labelled(self.values, axes, self.units, self.attributes)

    def plot(
        self, kind: str | None = None, *, quantity: str | None = None, ax: Any = None, **options: Any
    ) -> Any:
        """Draw it as `python -m plotting` does.

        Args:
            kind: `contour`, `filled`, `surface`, `heatmap`, `line` or `persistence`; by default contour, or line for a line. Of a
                map of curvature also `curvature`, the default, and `extremes`.
            quantity: Such as `test_loss`; by default the first loss, in a line with its accuracy.
            ax: Axes of matplotlib to draw into, of projection 3d for a surface; by default a figure of its own.
            options: As those of the command line: scale, levels, vmin, vmax, title.

        Returns:
            The matplotlib figure, which a notebook shows; or `ax`, where it is given.

        Raises:
            LandscapeError: matplotlib is not installed, or kind and quantity do not fit.
        """
        return drawing().draw(self, kind=kind, quantity=quantity, ax=ax, **options)
