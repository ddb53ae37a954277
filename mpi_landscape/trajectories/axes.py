"""The axes of trajectories, and where their checkpoints are on them. Collective."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from mpi_landscape.configuration.sections.plane import DirectionsConfiguration, RandomDirection
from mpi_landscape.errors import LandscapeError
from mpi_landscape.geometry.directions import cosine, random_direction
from mpi_landscape.geometry.layout import empty_vector
from mpi_landscape.geometry.plane import Plane
from mpi_landscape.geometry.principal import nearest, principal
from mpi_landscape.parallel.devices import thread_share
from mpi_landscape.parallel.ranks import Ranks
from mpi_landscape.placement.center import Center, share_center
from mpi_landscape.placement.columns import StoredVector, fingerprint_of_rest, stored_vector
from mpi_landscape.placement.plane import check_plane, made, share_plane
from mpi_landscape.placement.roles import share_roles
from mpi_landscape.placement.sharing import share_vectors
from mpi_landscape.trajectories.passes import Rows, components, products, products_with
from mpi_landscape.trajectories.request import Request

# Random directions with which the axes are compared: seeds that nobody takes for a direction of his own.
_SEEDS = (987654321, 987654322, 987654323, 987654324)


@dataclass(frozen=True, kw_only=True)
class Located:
    """Checkpoints in a plane.

    Attributes:
        plane: Its center and its axes, `alpha` and `beta`.
        coordinates: (num_checkpoints, 2) float64, in units of the axes.
        distances: (num_checkpoints,) float64, out of the plane, in units of the weights.
        lengths: (num_checkpoints,) float64, distances from the center, likewise.
        variation: (num_rows,) float64, the share of every principal component; None on other axes.
        shares: By axis, the part of the variance of the checkpoints around their mean that lies along it.
        cosines: By axis, those with some random directions.
    """

    plane: Plane
    coordinates: NDArray[np.float64]
    distances: NDArray[np.float64]
    lengths: NDArray[np.float64]
    variation: NDArray[np.float64] | None
    shares: Mapping[str, float]
    cosines: Mapping[str, list[float]]

    @property
    def expected_cosine(self) -> float:
        """The mean size of the cosine between two random directions in n dimensions: sqrt(2 / (π n)), for large n."""
        return math.sqrt(2 / (math.pi * self.plane.layout.size))


@dataclass(frozen=True, kw_only=True)
class Opened:
    """Checkpoints whose names and shapes are those of the network, and of which no number has been read.

    Attributes:
        center: The parameters at the center.
        vectors: Of every checkpoint.
        rest: By number, the fingerprint of what it holds beside its flat vector.
    """

    center: Center
    vectors: list[StoredVector]
    rest: list[str]

    @property
    def bytes(self) -> int:
        """What all files hold of flat vectors."""
        return sum(part.size * part.dtype.itemsize for vector in self.vectors for part in vector.parts)


def open_all(request: Request, ranks: Ranks) -> Opened:
    """The center on every rank, and every checkpoint opened on every rank. Collective.

    Raises:
        AgreedError: One is of another network, or cannot be read.
    """
    problem = request.problem
    roles = share_roles(problem, request.directions.rules, ranks)
    moves = request.directions.normalization_buffers is True
    center = share_center(problem.model, ranks, normalization_buffers=moves, roles=roles)
    vectors, rest = list[StoredVector](), dict[int, str]()
    with ranks.together():
        for number, path in enumerate(request.paths):
            vector, others = stored_vector(problem.model, center.layout, request.source(path))
            vectors.append(vector)
            if number % ranks.size == ranks.rank:
                rest[number] = fingerprint_of_rest(others)
    every = {number: text for each in ranks.gather(rest) for number, text in each.items()}
    return Opened(center=center, vectors=vectors, rest=[every[number] for number in range(len(vectors))])


def locate(request: Request, opened: Opened, ranks: Ranks) -> Located:
    """Make the axes and find every checkpoint on them. Reads each at most twice over all ranks. Collective.

    Raises:
        AgreedError: There are too few checkpoints, all are the same, or the axes span no plane.
    """
    center, at_center = opened.center, np.array(request.at_center)
    vectors = [vector for vector, is_one in zip(opened.vectors, at_center, strict=True) if not is_one]
    with ranks.together():
        _check_number(request, len(vectors))
    threads = thread_share(ranks, request.compute.threads)
    rows = Rows(vectors=vectors, center=center.vector, ranks=ranks, threads=threads)
    variation: NDArray[np.float64] | None = None
    if request.said.axes == "pca":
        gram = products(rows)
        with ranks.together():
            try:
                found = principal(gram)
            except LandscapeError as error:
                raise LandscapeError(f"{request.here}: {error}") from error
        # Rank 0's for all: it decides.
        found = ranks.share(found)
        made_axes, with_them, squares = components(rows, found)
        axes = dict(zip(("alpha", "beta"), made_axes, strict=True))
        variation, mean_square = found.variation, float(gram.mean())
    else:
        axes = (
            _random(request, center, ranks)
            if request.said.axes == "random"
            else _straight(request, opened, ranks)
        )
        with_them, squares, mean_square = products_with(rows, list(axes.values()))
    with ranks.together():
        try:
            inside, outside = nearest(squares, with_them.with_axes, with_them.of_axes)
        except LandscapeError as error:
            raise LandscapeError(f"{request.problem.where}: trajectory.axes: {error}") from error
    count = len(at_center)
    coordinates, distances, lengths = np.zeros((count, 2)), np.zeros(count), np.zeros(count)
    found_ones = ranks.share((inside, outside, np.sqrt(squares)))
    coordinates[~at_center], distances[~at_center], lengths[~at_center] = found_ones
    return Located(
        plane=Plane(layout=center.layout, center=center.vector, directions=axes),
        coordinates=coordinates,
        distances=distances,
        lengths=lengths,
        variation=variation,
        shares=_shares(with_them.with_axes, with_them.of_axes, squares, mean_square),
        cosines=_cosines(axes, center, ranks),
    )


def _check_number(request: Request, num_rows: int) -> None:
    """Refuse too few checkpoints.

    Raises:
        LandscapeError: So it is.
    """
    if num_rows < 1:
        raise LandscapeError(
            f"{request.here}: has the center alone; expected the checkpoints on the way to it"
        )
    if request.said.axes == "pca" and num_rows < 3:
        raise LandscapeError(
            f"{request.here}: has {num_rows + any(request.at_center)} checkpoints; principal axes need three besides the center, "
            f"as they are around the mean of these; valid for fewer is trajectory.axes: start_to_end"
        )


def _random(request: Request, center: Center, ranks: Ranks) -> dict[str, Tensor]:
    """Two random directions, filter-normalized unless `directions` say otherwise."""
    alpha, beta = _random_ones(request.directions)
    said = DirectionsConfiguration(
        alpha=alpha, beta=beta, orthogonalize=request.directions.orthogonalize, rules=request.directions.rules
    )
    return dict(
        share_plane(said, request.problem.model, center, ranks, where=request.problem.where).directions
    )


def _random_ones(said: DirectionsConfiguration) -> tuple[RandomDirection, RandomDirection]:
    """Those of a configuration, where they are random; a surface on the axes of a trajectory names its file there."""
    alpha = said.alpha if isinstance(said.alpha, RandomDirection) else RandomDirection(seed=1)
    return alpha, said.beta if isinstance(said.beta, RandomDirection) else RandomDirection(seed=2)


def _straight(request: Request, opened: Opened, ranks: Ranks) -> dict[str, Tensor]:
    """From the center to the first checkpoint, and a random direction."""
    center = opened.center

    def build() -> dict[str, Tensor]:
        start = empty_vector(center.layout.size)
        opened.vectors[0].read(0, start)
        start.sub_(center.vector)
        if not bool(start.any()):
            raise LandscapeError(
                f"{request.here}: {request.paths[0]} is the same as the center, {request.center}, so that there is no direction "
                f"from one to the other"
            )
        said = _random_ones(request.directions)[1]
        beta = made(said, "beta", request.problem.model, center, where=request.problem.where)
        check_plane({}, cosine(start, beta), where=request.problem.where)
        return {"alpha": start, "beta": beta}

    return share_vectors(ranks.on_root(build), ranks)


def _shares(
    with_axes: NDArray[np.float64],
    of_axes: NDArray[np.float64],
    squares: NDArray[np.float64],
    mean_square: float,
) -> dict[str, float]:
    """The part of the variance around the mean along each axis."""
    whole = float(squares.sum()) - len(squares) * mean_square
    along = np.square(with_axes - with_axes.mean(axis=1, keepdims=True)).sum(axis=1) / np.diag(of_axes)
    return {
        name: float(part / whole) if whole > 0 else math.nan
        for name, part in zip(("alpha", "beta"), along, strict=True)
    }


def _cosines(axes: Mapping[str, Tensor], center: Center, ranks: Ranks) -> dict[str, list[float]]:
    """Of each axis with random directions: what two directions that have nothing to do with each other have."""

    def measure() -> dict[str, list[float]]:
        found: dict[str, list[float]] = {name: [] for name in axes}
        for seed in _SEEDS:
            direction = random_direction(center.layout, seed=seed)
            for name, axis in axes.items():
                found[name].append(cosine(axis, direction))
        return found

    return ranks.share(ranks.on_root(measure)) or {}
