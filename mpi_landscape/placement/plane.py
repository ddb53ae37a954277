"""From a configuration to a center and its directions: where the rooms `problem` and `geometry` meet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import singledispatch
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from mpi_landscape.configuration.sections.plane import (
    DifferenceDirection,
    Direction,
    DirectionsConfiguration,
    EigenvectorDirection,
    FileDirection,
    RandomDirection,
)
from mpi_landscape.errors import LandscapeError, printable
from mpi_landscape.geometry import directions as geometry
from mpi_landscape.geometry.layout import Layout
from mpi_landscape.geometry.moving import describe, warnings_of
from mpi_landscape.geometry.normalization import normalize
from mpi_landscape.geometry.plane import Plane, line_name
from mpi_landscape.parallel.ranks import Ranks
from mpi_landscape.placement.center import Center, flat_state
from mpi_landscape.placement.eigenvectors import along_eigenvector, eigenvector_of
from mpi_landscape.placement.ends import (
    NOTHING,
    SURFACES,
    Given,
    end_along,
    fixed_lines,
    left_behind,
    weights_of,
)
from mpi_landscape.placement.sharing import share_vectors
from mpi_landscape.problem.checkpoints import under_names
from mpi_landscape.storage import identity
from mpi_landscape.storage.trajectory.reader import is_trajectory, read_attributes
from mpi_landscape.storage.vectors import read_direction
from mpi_landscape.wording import one_line

# Closer to 1 than this, two directions span a line and not a plane.
_PARALLEL = 1 - 1e-6


def share_plane(
    configuration: DirectionsConfiguration,
    model: nn.Module,
    center: Center,
    ranks: Ranks,
    *,
    where: str,
    given: Given = NOTHING,
    recomputed: bool = False,
) -> Plane:
    """The directions that rank 0 builds, on every rank; messages say `where` they stand. Collective.

    What moves along them, and what does not, is said; `given` are the ends that a script has handed over to rank 0;
    `recomputed` says that running statistics are made anew at every point.

    Raises:
        AgreedError: A direction cannot be built.
    """
    built = ranks.on_root(
        lambda: _build(configuration, model, center, where=where, given=given, recomputed=recomputed)
    )
    for line in built.lines if built else []:
        ranks.say(line)
    vectors = share_vectors(built.vectors if built else None, ranks)
    return Plane(layout=center.layout, center=center.vector, directions=vectors)


def made(said: Direction, axis: str, model: nn.Module, center: Center, *, where: str) -> Tensor:
    """The vector of one direction, (n,) float32; messages say `where` it stands.

    Raises:
        LandscapeError: It cannot be built, or is zero or not finite.
    """
    around = _Around(model=model, center=center, axis=axis, where=where, given=NOTHING, recomputed=False)
    return _direction(said, around)


@dataclass(frozen=True, kw_only=True)
class _Built:
    """Directions, and what is to be said of them."""

    vectors: Mapping[str, Tensor]
    lines: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class _Around:
    """What a direction is made of: the network at the center, the axis, and what a script has handed over."""

    model: nn.Module
    center: Center
    axis: str
    where: str
    given: Given
    recomputed: bool

    @property
    def here(self) -> str:
        """What to call the direction."""
        return f"{self.where}: directions.{self.axis}"


def _build(
    configuration: DirectionsConfiguration,
    model: nn.Module,
    center: Center,
    *,
    where: str,
    given: Given,
    recomputed: bool,
) -> _Built:
    """`alpha`, and `beta` for a surface, (n,) float32 each; the model is left untouched.

    Raises:
        LandscapeError: One cannot be built, is zero or not finite, or the two are parallel.
    """

    def around(axis: str) -> _Around:
        return _Around(model=model, center=center, axis=axis, where=where, given=given, recomputed=recomputed)

    along = configuration.alpha
    if isinstance(along, RandomDirection) and along.lines:
        lines = {line_name(seed): _direction(along.of(seed), around("alpha")) for seed in along.lines}
        first = {"alpha": next(iter(lines.values()))}  # they move alike: one of them is described
        return _Built(vectors=lines, lines=_lines(first, configuration, around("alpha")))
    alpha = _direction(configuration.alpha, around("alpha"))
    if configuration.beta is None:
        return _Built(
            vectors={"alpha": alpha}, lines=_lines({"alpha": alpha}, configuration, around("alpha"))
        )
    against = alpha if configuration.orthogonalize else None
    beta = _direction(configuration.beta, around("beta"), against)
    check_plane({}, geometry.cosine(alpha, beta), where=where)
    vectors = {"alpha": alpha, "beta": beta}
    return _Built(vectors=vectors, lines=_lines(vectors, configuration, around("alpha")))


def _lines(
    vectors: Mapping[str, Tensor],
    configuration: DirectionsConfiguration,
    around: _Around,
) -> list[str]:
    """What moves, what does not, and ends that are not reached."""
    said = {"alpha": configuration.alpha, "beta": configuration.beta}
    model, where = around.model, around.where
    layout, ends, warnings = around.center.layout, [], []
    for axis, vector in vectors.items():
        each = said[axis]
        if isinstance(each, DifferenceDirection):
            end, lines = end_along(axis, each, model, around.given, where=where)
            ends += [f"end         {axis}: {line}" for line in lines]
            moved = [name for name, view in layout.views(vector).items() if bool(view.any())]
            warnings += [
                f"{axis}: {line}" for line in left_behind(model, end, moved, recomputed=around.recomputed)
            ]
        elif isinstance(each, EigenvectorDirection):
            found, said_of_it = along_eigenvector(each, around.center, f"{where}: directions.{axis}")
            ends.append(f"direction   {axis}: {found}")
            warnings += [f"{axis}: {line}" for line in said_of_it]
        elif isinstance(each, FileDirection) and not each.path.endswith((".npy", *SURFACES)):
            ends += [f"direction   {axis}: {line}" for line in weights_of(axis, each, around.given).lines]
    plane = Plane(layout=layout, center=around.center.vector, directions=vectors)
    warnings += warnings_of(plane)
    only = {axis: each.only for axis, each in said.items() if each is not None and axis in vectors}
    return [
        *ends,
        *describe(plane),
        *fixed_lines(layout, only),
        *(f"warning: {where}: directions.{line}" for line in warnings),
    ]


def _direction(said: Direction, around: _Around, against: Tensor | None = None) -> Tensor:
    """One direction: made as its kind says, then reduced to what moves, orthogonalized and normalized in this order."""
    direction = _made(said, around)
    if said.only == "trainable":
        direction = geometry.keep_frozen(direction, around.center.layout)
    if said.ignore:
        try:
            direction = geometry.ignore(direction, around.center.layout, said.ignore)
        except LandscapeError as error:
            raise LandscapeError(f"{around.here}.{error}") from error
    if against is not None:
        # What stays at the center stays there.
        direction = geometry.orthogonalize(
            direction, geometry.within(against, direction, around.center.layout)
        )
    direction = normalize(direction, around.center.vector, around.center.layout, how=said.normalize)
    check_plane({around.axis: bool(geometry.array_of(direction).any())}, 0.0, where=around.where)
    return direction


def check_plane(moves: Mapping[str, bool], cosine: float, *, where: str) -> None:
    """Refuse a direction along which nothing moves, and two that span a line.

    Args:
        moves: Whether anything moves, by axis.
        cosine: Of the angle between the two directions.
        where: For messages.

    Raises:
        LandscapeError: There is one, or there are two.
    """
    for axis, any_moves in moves.items():
        if not any_moves:
            raise LandscapeError(
                f"{where}: directions.{axis}: is zero everywhere, so nothing would move; ignore less, set only: all, or choose "
                f"another"
            )
    if abs(cosine) > _PARALLEL:
        raise LandscapeError(
            f"{where}: directions.alpha and directions.beta are parallel (cosine {cosine:.6f}) and span no plane; "
            f"give them different seeds or ends, or ask for a line"
        )


@singledispatch
def _made(said: Direction, around: _Around) -> Tensor:
    """The vector of a direction; a function is registered for each kind."""
    raise NotImplementedError(f"directions of kind {said.kind}")


@_made.register
def _random(said: RandomDirection, around: _Around) -> Tensor:
    return geometry.random_direction(around.center.layout, seed=said.seed)


@_made.register
def _difference(said: DifferenceDirection, around: _Around) -> Tensor:
    end, _ = end_along(around.axis, said, around.model, around.given, where=around.where)
    return geometry.difference(around.center.vector, flat_state(end, around.center.layout))


@_made.register
def _eigenvector(said: EigenvectorDirection, around: _Around) -> Tensor:
    return eigenvector_of(said, around.center, around.here)


@_made.register
def _file(said: FileDirection, around: _Around) -> Tensor:
    """A direction from a surface or trajectory file (the same axis), a flat .npy, or a state dict of tensors by name."""
    path, layout, here = Path(said.path), around.center.layout, f"{around.here}.path: {said.path}"
    if path.suffix in SURFACES:
        values, names = read_direction(path, around.axis)
        if names != [entry.name for entry in layout.entries]:
            raise LandscapeError(
                f"{here}: belongs to a network with other tensors ({', '.join(name[:80] for name in names[:3])}, ...)"
            )
        if is_trajectory(path):
            _check_center(path, around.center, here)
        return _checked(values, layout, here)
    if path.suffix == ".npy":
        if not path.is_file():
            raise LandscapeError(f"{here}: is not a regular file; expected an .npy array")
        try:
            # Mapped: an array that claims to be larger than its file is refused before it takes memory.
            values = np.load(path, mmap_mode="r", allow_pickle=False)
        # numpy parses the header as Python's literals, which can fail in many ways.
        except Exception as error:
            raise LandscapeError(
                f"{here}: cannot be read as an .npy array ({one_line(error, None)})"
            ) from error
        if not isinstance(values, np.ndarray):
            raise LandscapeError(f"{here}: holds several arrays; expected an .npy array")
        return _checked(values, layout, here)
    names = [entry.name for entry in layout.entries]
    state = weights_of(around.axis, said, around.given).state
    return layout.flatten(under_names(state, names, where=here), where=here)


def _check_center(path: Path, center: Center, here: str) -> None:
    """The plane of a trajectory is that of its axes around its center: around another one its path is not in the picture.

    Raises:
        LandscapeError: The network is not at that center.
    """
    attributes = read_attributes(path)
    if identity.of_attributes(attributes).get("center") != identity.fingerprint(center.vector.numpy()):
        raise LandscapeError(
            f"{here}: is a trajectory around another center, {printable(str(attributes.get('center')))}; valid is a surface "
            f"around that one (model.checkpoint)"
        )


def _checked(values: np.ndarray[tuple[int, ...], np.dtype[np.float32]], layout: Layout, here: str) -> Tensor:
    if values.dtype.kind != "f" or values.shape != (layout.size,):
        raise LandscapeError(
            f"{here}: is {values.dtype} of shape {values.shape}; this network needs ({layout.size},) floating-point numbers"
        )
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))
