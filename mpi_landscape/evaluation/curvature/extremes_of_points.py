"""Both ends of the Hessian's spectrum at many points of a plane (Li et al. 2018, arXiv:1712.09913, section 6, figure 7).

Every point is one run of Lanczos' method by one rank: products are sums over batches in the order of the plan, in float64: bits
depend neither on ranks nor on threads nor on what is computed beside it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from mpi_landscape.evaluation.computed import Pieces
from mpi_landscape.evaluation.curvature.lanczos import Extremes, Only, extremes
from mpi_landscape.evaluation.curvature.products import Engine, Products
from mpi_landscape.evaluation.curvature.space import space_of
from mpi_landscape.evaluation.curvature.starts import gaussian
from mpi_landscape.evaluation.curvature.warm import Place, Tile, solve_tile
from mpi_landscape.evaluation.curvature.way import Way
from mpi_landscape.evaluation.replica import in_type, own_copy
from mpi_landscape.evaluation.sums import Floats
from mpi_landscape.evaluation.vectors import Point, Rows, Vectors
from mpi_landscape.geometry.layout import Layout
from mpi_landscape.loading.batches import Batch
from mpi_landscape.loading.results import LossFunction
from mpi_landscape.loading.sharing import Pause

# Products that a point is expected to take: cold runs needed 16 to 36 on the residual networks and the perceptron of the digits.
EXPECTED_PRODUCTS = 30
# Vectors of a run besides its basis.
BESIDES = 9


@dataclass(frozen=True, kw_only=True)
class Search:
    """How both ends are found at every point.

    Attributes:
        operator: `hessian`, or a part of it.
        parameters: Which are varied: `trainable`, `moving`, or patterns of names.
        tolerance: Of the residual of an eigenvalue, relative to itself.
        most_steps: Vectors of a basis.
        normalized: Whether the ends in filter-normalized coordinates are found, too.
        starts: `cold`, or `tiles`.
        seed: Of the first vector.
        engine: As for `Products`.
        memory: Bytes of graphs that are kept between products at one point; None for what is free.
    """

    operator: str = "hessian"
    parameters: str | tuple[str, ...] = "trainable"
    tolerance: float = 1e-2
    most_steps: int = 60
    normalized: bool = False
    starts: str = "cold"
    seed: int = 1
    engine: Engine = "auto"
    memory: int | None = None

    @property
    def ends(self) -> Only:
        """Which ends are looked for: that of a Gauss-Newton matrix below is 0 by definition, and Lanczos would not find it."""
        return "max" if self.operator == "gauss_newton" else "both"

    @property
    def names(self) -> tuple[str, ...]:
        """What is known at a point, as `vocabulary.COMPUTED` names it, in its order."""
        low = self.ends == "both"
        return (
            "lambda_max",
            *["lambda_min"] * low,
            "lambda_max_residual",
            *["lambda_min_residual"] * low,
            "lambda_noise",
            *["lambda_max_normalized"] * self.normalized,
            *["lambda_min_normalized"] * (self.normalized and low),
            *["lambda_difference"] * (self.starts == "tiles"),
            "hessian_products",
        )

    @property
    def text(self) -> str:
        """What defines the numbers, in words for a file."""
        which = self.parameters if isinstance(self.parameters, str) else ", ".join(self.parameters)
        return (
            f"{self.operator} by {which}, residuals of {self.tolerance:g}, at most {self.most_steps} vectors, starts "
            f"{self.starts} of seed {self.seed}" + ", normalized too" * self.normalized
        )


class ExtremesOfPoints:
    """What finds both ends at points of a plane, by a copy of the network; a resource that is closed at the end of `with`.

    Args:
        model: As for `Evaluator`, like all that is not told here.
        search: How they are found.
        axes: The values of each coordinate, in their order: random numbers go with the place of a point among them.
        dtype: torch.float32 or torch.float64.
        threads: Batches whose products are computed at once.
        memory: Bytes of graphs that are kept.

    Attributes:
        space: The parameters that are varied.

    Example:
        The mean of (w₁² − w₂²)/2 · x² over x = 1, 3 has the eigenvalues 5 and −5 everywhere:

        >>> from mpi_landscape.geometry.layout import layout_of
        >>> model = nn.Linear(2, 1, bias=False)
        >>> def loss(model, x):
        ...     first, second = model.weight[0]
        ...     return (first**2 - second**2) / 2 * x[:, 0] ** 2
        >>> batch = Batch(data=torch.tensor([[1.0], [3.0]]), valid=2)
        >>> with ExtremesOfPoints(model, loss, layout_of(model), torch.ones(2), [torch.ones(2)], search=Search(),
        ...                       axes=[np.array([0.0, 0.5])], device=torch.device("cpu")) as ends:
        ...     ends.row(lambda: (each for each in [[batch]]), [(0.5,)])[:, :2].round(4).tolist()
        [[5.0, -5.0]]
    """

    def __init__(
        self,
        model: nn.Module,
        loss: LossFunction,
        layout: Layout,
        center: Tensor,
        directions: Sequence[Tensor],
        *,
        search: Search,
        axes: Sequence[Floats],
        device: torch.device,
        dtype: torch.dtype = torch.float32,
        threads: int = 1,
        memory: int = 0,
    ) -> None:
        # Products write into the parameters themselves, which are here nobody else's.
        network = in_type(own_copy(model), device, dtype)
        moved = tuple(direction.to(device, dtype) for direction in directions)
        self._vectors = Vectors(Rows(layout=layout, center=center.to(device, dtype), directions=moved))
        self.space = space_of(layout, parameters=search.parameters, directions=directions)
        self._search, self._axes, self._dtype, self._device = search, axes, dtype, device
        self._products = Products(
            network,
            loss,
            self.space,
            operator=search.operator,
            dtype=dtype,
            threads=threads,
            device=device,
            memory=memory,
            engine=search.engine,
        ).__enter__()

    def __enter__(self) -> ExtremesOfPoints:
        return self

    def __exit__(self, *error: object) -> None:
        self._products.__exit__(*error)

    def choose(self, batch: Batch) -> Way:
        """Decide at the center, on some examples of a batch, how products are computed."""
        return self._products.choose(batch)

    def row(self, pieces: Pieces, points: Sequence[Point], between: Pause | None = None) -> Floats:
        """What is known at each of several points, over all batches of a split.

        Args:
            pieces: Gives the batches of the split from the first on, each time that it is called.
            points: Coordinates, one tuple per point.
            between: Called between batches; what it raises ends the evaluation.

        Returns:
            (len(points), len(search.names)) float64; NaN where a product is not finite, but for their number.

        Raises:
            LandscapeError: A point lies off the plane.
        """
        for point in points:
            self._vectors.check(point)
        places = [self._place(point) for point in points]

        def solve(scaled: bool, index: int, start: Tensor) -> Extremes:
            self._put(points[index])
            scale = self.space.scale(self.space.of_layout(self._vectors.point)) if scaled else None
            return self._found(pieces, between, start, scale, self._noise(pieces, between))

        def tile(scaled: bool) -> Tile:
            return solve_tile(
                partial(solve, scaled),
                places,
                size=self.space.size,
                seed=self._search.seed,
                warm=self._search.starts == "tiles",
                dtype=self._dtype,
                device=self._device,
            )

        rows: Floats = np.empty((len(points), len(self._search.names)))
        if points:
            found = self._columns(tile(False), tile(True) if self._search.normalized else None)
            rows[:] = np.stack([found[name] for name in self._search.names], axis=1)
        return rows

    def seconds(self, pieces: Pieces) -> float:
        """What a point is expected to take with these batches: one product is timed at the center, and there are some thirty."""
        self._put((0.0,))
        start = gaussian(self.space.size, 0, "timed", dtype=self._dtype, device=self._device)
        self._products.product(start[None], pieces)
        before = time.perf_counter()
        self._products.product(start[None], pieces)
        return (time.perf_counter() - before) * EXPECTED_PRODUCTS * (1 + self._search.normalized)

    def _columns(self, tile: Tile, scaled: Tile | None) -> dict[str, Floats]:
        """Every column by name."""

        def each(tile: Tile, name: str) -> Floats:
            return np.array([getattr(found, name) for found in tile.extremes])

        tiles = [tile, *([scaled] if scaled else [])]
        # Checked in either coordinates: the larger of the two.
        differences = [np.where(part.checked, part.difference, np.nan) for part in tiles]
        return {
            "lambda_max": each(tile, "lambda_max"),
            "lambda_min": each(tile, "lambda_min"),
            "lambda_max_residual": each(tile, "residual_max"),
            "lambda_min_residual": each(tile, "residual_min"),
            "lambda_noise": each(tile, "floor"),
            "lambda_difference": np.fmax.reduce(differences),
            "hessian_products": np.sum([part.num_products for part in tiles], axis=0, dtype=np.float64),
            **(
                {f"lambda_{end}_normalized": each(scaled, f"lambda_{end}") for end in ("max", "min")}
                if scaled
                else {}
            ),
        }

    def _place(self, point: Point) -> Place:
        """Where a point stands among all of them."""
        indices = tuple(
            int(np.searchsorted(axis, coordinate)) for axis, coordinate in zip(self._axes, point, strict=True)
        )
        number = 0
        for axis, index in zip(self._axes, indices, strict=True):
            number = number * len(axis) + index
        return Place(number=number, indices=indices)

    def _put(self, point: Point) -> None:
        self._vectors.move(point)
        self._products.put(self._vectors.point_views())

    def _noise(self, pieces: Pieces, between: Pause | None) -> float:
        """The rounding of a product here, relative to it; where it is none, products say so themselves."""
        found = self._products.noise(pieces, between)
        return found if math.isfinite(found) else 0.0

    def _found(
        self, pieces: Pieces, between: Pause | None, start: Tensor, scale: Tensor | None, noise: float
    ) -> Extremes:
        """Both ends of H, or of D H D with D of this diagonal."""

        def product(vector: Tensor) -> Tensor:
            scaled = vector if scale is None else vector * scale
            found = self._products.product(scaled[None], pieces, between)[0]
            return found if scale is None else found * scale

        return extremes(
            product,
            start,
            tolerance=self._search.tolerance,
            most_steps=self._search.most_steps,
            noise=noise,
            only=self._search.ends,
        )
