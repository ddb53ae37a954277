"""A plane of flat vectors: an affine map from coordinates to parameters, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mpi_landscape.errors import LandscapeError
from mpi_landscape.geometry.directions import array_of, dot
from mpi_landscape.geometry.layout import Layout

# Below this, the smallest eigenvalue of the cosines between directions is rounding: they span less than they are.
_DEPENDENT = 1e-9
# Numbers of a vector that are looked at together.
_BLOCK = 2**20


def line_name(seed: int) -> str:
    """What one of several lines' directions is called: they share an axis.

    Example:
        >>> line_name(3), axis_of(line_name(3)), axis_of("beta")
        ('alpha[3]', 'alpha', 'beta')
    """
    return f"alpha[{seed}]"


def axis_of(name: str) -> str:
    """The axis of a direction."""
    return name.partition("[")[0]


@dataclass(frozen=True, kw_only=True)
class Plane:
    """The vectors θ + Σ cᵢ dᵢ around a center θ (Li et al. 2018, arXiv:1712.09913, equation 1).

    The directions need be neither orthogonal nor of length 1.

    Args:
        layout: The order of the flat vectors, of n elements.
        center: θ, 1D tensor of shape (n,).
        directions: The dᵢ by name, at least one: 1D tensors of shape (n,).

    Raises:
        LandscapeError: There is no direction, one is zero, or a vector has another shape.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from mpi_landscape.geometry.layout import layout_of
        >>> oblique = {"alpha": torch.tensor([2.0, 0, 0]), "beta": torch.tensor([1.0, 1, 0])}
        >>> layout = layout_of(nn.Linear(3, 1, bias=False))
        >>> plane = Plane(layout=layout, center=torch.tensor([1.0, 1, 1]), directions=oblique)
        >>> plane.at([0.5, 3])  # (1, 1, 1) + 0.5 (2, 0, 0) + 3 (1, 1, 0)
        tensor([5., 4., 1.])
        >>> coordinates, distance = plane.project(torch.tensor([5.0, 4, 8]))  # 7 above it
        >>> np.allclose(coordinates, [0.5, 3]), distance
        (True, 7.0)
    """

    layout: Layout
    center: Tensor
    directions: Mapping[str, Tensor]

    def __post_init__(self) -> None:
        self.layout.check(self.center, where="center")
        if not self.directions:
            raise LandscapeError("a plane needs at least one direction")
        for name, direction in self.directions.items():
            self.layout.check(direction, where=f"direction {name}")
            if not array_of(direction).any():  # torch's makes a copy of bools
                raise LandscapeError(f"direction {name} is zero everywhere and spans nothing")

    def lines(self) -> list[Plane]:
        """A line along each direction by itself."""
        return [replace(self, directions={name: vector}) for name, vector in self.directions.items()]

    def at(self, coordinates: Sequence[float]) -> Tensor:
        """The vector at a point: 1D tensor of shape (n,), dtype and device of the center.

        Raises:
            LandscapeError: There are more or fewer coordinates than directions.
        """
        if len(coordinates) != len(self.directions):
            raise LandscapeError(
                f"a point of this plane has {len(self.directions)} coordinates, got {len(coordinates)}"
            )
        vector = self.center.detach().clone()
        for coordinate, direction in zip(coordinates, self.directions.values(), strict=True):
            vector.add_(direction.detach(), alpha=float(coordinate))
        return vector

    def check_range(self, axes: Sequence[tuple[float, float]], dtype: torch.dtype) -> None:
        """Refuse a rectangle in which parameters do not stay within a type: as a plane is flat, its corners tell.

        A number that is infinite in the center or a direction itself does not count.

        Args:
            axes: Least and greatest coordinate of each direction.
            dtype: In which the network moves.

        Raises:
            LandscapeError: A parameter leaves it at a corner.

        Example:
            >>> import torch
            >>> from torch import nn
            >>> from mpi_landscape.geometry.layout import layout_of
            >>> layout = layout_of(nn.Linear(1, 1, bias=False))
            >>> line = Plane(layout=layout, center=torch.tensor([1.0]), directions={"alpha": torch.tensor([-100.0])})
            >>> line.check_range([(-1e36, 2e36)], torch.float32)
            >>> line.check_range([(-1e36, 4e36)], torch.float32)
            Traceback (most recent call last):
            ...
            mpi_landscape.errors.LandscapeError: grid: at (4e+36) a number of weight would be beyond float32 (it is 1 at the \
center, -100 in direction alpha); valid is a smaller grid, or compute.precision: float64
        """
        ends = [*self.directions.values()]
        with np.errstate(over="ignore", invalid="ignore"):
            reach = [float(np.abs(array_of(each)).max(initial=0.0)) for each in (self.center, *ends)]
            far = reach[0] + sum(
                max(map(abs, axis)) * each for axis, each in zip(axes, reach[1:], strict=True)
            )
        if far <= torch.finfo(dtype).max:
            return
        for corner in product(*axes):
            for start in range(0, len(self.center), _BLOCK):
                whole = slice(start, start + _BLOCK)
                center, *steps = (each.detach()[whole].to(dtype) for each in (self.center, *ends))
                value = center.clone()
                usual = center.isfinite()
                for coordinate, step in zip(corner, steps, strict=True):
                    usual &= step.isfinite()
                    value.add_(step, alpha=coordinate)
                beyond = (usual & ~value.isfinite()).nonzero()
                if len(beyond):
                    place = int(beyond[0])
                    raise self._beyond(start + place, corner, dtype)

    def _beyond(self, place: int, corner: Sequence[float], dtype: torch.dtype) -> LandscapeError:
        name = next(entry.name for entry in reversed(self.layout.entries) if entry.offset <= place)
        steps = ", ".join(
            f"{float(each[place]):g} in direction {key}" for key, each in self.directions.items()
        )
        return LandscapeError(
            f"grid: at ({', '.join(f'{each:g}' for each in corner)}) a number of {name} would be beyond "
            f"{str(dtype).removeprefix('torch.')} (it is {float(self.center[place]):g} at the center, {steps}); valid is a "
            f"smaller grid{', or compute.precision: float64' if dtype == torch.float32 else ''}"
        )

    def project(self, vector: Tensor) -> tuple[NDArray[np.float64], float]:
        """The point of the plane that is nearest to a vector v of shape (n,), by least squares.

        Its coordinates c solve Σⱼ ⟨dᵢ, dⱼ⟩ cⱼ = ⟨dᵢ, v − θ⟩; for a single direction c = ⟨d, v − θ⟩ / ⟨d, d⟩.

        Returns:
            (num_directions,) float64 in units of the directions, and the distance ‖v − θ − Σ cᵢ dᵢ‖ that is left.

        Raises:
            LandscapeError: The vector has another shape, or the directions are linearly dependent.
        """
        self.layout.check(vector)
        rest = vector.detach().double() - self.center.detach().double()
        lengths, cosines = self._angles
        products = [dot(direction, rest) for direction in self.directions.values()]
        coordinates = np.linalg.solve(cosines, np.array(products) / lengths) / lengths
        for coordinate, direction in zip(coordinates, self.directions.values(), strict=True):
            rest.sub_(direction.detach().double(), alpha=float(coordinate))
        return coordinates, float(np.sqrt(dot(rest, rest)))

    @cached_property
    def _angles(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Lengths of the directions and cosines between them: numbers of one size for any lengths."""
        vectors = list(self.directions.values())
        lengths = np.array([np.sqrt(dot(each, each)) for each in vectors])
        products = np.array([[dot(one, other) for other in vectors] for one in vectors])
        with np.errstate(invalid="ignore"):  # of directions that are not finite
            cosines = products / lengths / lengths[:, None]
        if not np.linalg.eigvalsh(cosines)[0] > _DEPENDENT:
            raise LandscapeError(
                f"the directions {', '.join(self.directions)} are linearly dependent: a point has no coordinates"
            )
        return lengths, cosines
