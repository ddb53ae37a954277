"""What evaluates the points of a surface, made once its engine is chosen."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from mpi_landscape.errors import LandscapeError
from mpi_landscape.evaluation.choosing import Choice
from mpi_landscape.evaluation.computed import KINDS, Computing, Rereading, columns
from mpi_landscape.evaluation.curvature.extremes_of_points import ExtremesOfPoints
from mpi_landscape.evaluation.engine.description import PLAIN
from mpi_landscape.evaluation.evaluator import Evaluator
from mpi_landscape.evaluation.probe import Setting
from mpi_landscape.evaluation.reference import Reference
from mpi_landscape.evaluation.vectors import Point
from mpi_landscape.geometry.kept import KeptPlane
from mpi_landscape.geometry.plane import Plane
from mpi_landscape.placement.placing import Placed
from mpi_landscape.surfaces.request import Request
from mpi_landscape.surfaces.searching import memory_for_graphs, space_in
from mpi_landscape.vocabulary import OF_THE_HESSIAN

# Numbers of a network of which a copy less is worth moving it in place: 256 MiB in float32.
LARGE = 2**26


def setting_of(placed: Placed, plane: Plane | KeptPlane) -> Setting:
    """Network, loss and plane."""
    moved: dict[str, Any] = (
        {"kept": plane, "threads": placed.threads}
        if isinstance(plane, KeptPlane)
        else {"center": plane.center, "directions": list(plane.directions.values())}
    )
    return Setting(
        model=placed.problem.model,
        loss=placed.problem.loss,
        layout=plane.layout,
        **moved,
        device=placed.device,
        gradients=placed.gradients,
        returned=placed.quantities.returned,
    )


def computing_of(
    setting: Setting, placed: Placed, choice: Choice, request: Request
) -> list[Computing | Rereading]:
    """What computes further quantities, by copies of the network, in the order of their columns."""
    search = request.search
    made: list[Callable[..., Computing | Rereading]] = [
        KINDS[name].made for name in placed.quantities.computed if name in KINDS
    ]
    if search is not None:
        memory = memory_for_graphs(space_in(setting, search), placed, search)
        axes = request.grid.coordinate_values
        made.append(partial(ExtremesOfPoints, search=search, axes=axes, memory=memory))
    return [
        make(
            setting.model,
            setting.loss,
            setting.layout,
            setting.center,
            setting.directions,
            device=placed.device,
            # The gradient of a lower precision would be another one.
            dtype=placed.precision.data,
            threads=1 if choice.alone else placed.threads,
        )
        for make in made
    ]


def seconds_of(further: Sequence[Computing | Rereading], placed: Placed) -> float:
    """What further quantities of a point take this rank, from a batch for each of its threads."""
    seconds = 0.0
    for computing in further:
        for examples in placed.splits.values():
            count = min(placed.threads, examples.num_batches)
            pieces = partial(examples.pieces, 0, count)
            if isinstance(computing, Rereading):
                found = computing.seconds(pieces)
            else:
                start = time.perf_counter()
                columns(computing, pieces, [(0.0,)])
                found = time.perf_counter() - start
            seconds += found * examples.num_batches / count
    return seconds


def seconds_to(point: Point, setting: Setting) -> float:
    """What it takes the network itself to get to a point and back."""
    start = time.perf_counter()
    with setting.reference().at(point):
        return time.perf_counter() - start


def is_spared(setting: Setting, placed: Placed) -> bool:
    """Whether a copy of the network is worth sparing, and nothing else needs one."""
    return _is_worth_sparing(setting, placed) and not placed.quantities.computed


def _is_worth_sparing(setting: Setting, placed: Placed) -> bool:
    return setting.layout.size >= LARGE and placed.precision.computed == placed.precision.data


def evaluator_of(
    setting: Setting, placed: Placed, choice: Choice, points_at_once: int
) -> Evaluator | Reference:
    """What evaluates the loss: the network itself, or copies of it.

    A large network that nothing rewrites and one thread evaluates is moved itself: its parameters are there already, and a copy
    would be the fifth vector of their size, beside center and directions. The numbers are the same.
    """
    single = choice.alone or placed.threads == 1 or placed.on_gpu
    spared = single and choice.engine == PLAIN and _is_worth_sparing(setting, placed)
    if choice.in_place or spared:
        return setting.reference()
    return setting.evaluator(
        choice.engine,
        placed.precision.computed,
        threads=1 if choice.alone else placed.threads,
        points_at_once=points_at_once,
    )


def check_copied(choice: Choice, placed: Placed) -> None:
    """Refuse what needs a copy where there is none.

    Raises:
        LandscapeError: It is wanted.
    """
    if not choice.in_place or placed.precision.kept:  # of which the configuration has refused what needs one
        return
    why = choice.dropped[0] if choice.dropped else "compute.engine is plain, which moves the network itself"
    if placed.precision.computed.itemsize < 4:
        raise LandscapeError(
            f"compute.precision: {placed.precision.name} needs a copy of the network ({why}); valid is float32"
        )
    if placed.quantities.computed and choice.dropped:
        name = placed.quantities.computed[0]
        if name in OF_THE_HESSIAN:
            raise LandscapeError(
                f"hessian: at a grid it needs a copy of the network ({why}); valid is at: center, or a network that can be copied"
            )
        raise LandscapeError(f"compute.quantities: {name} needs a copy of the network ({why}); leave it out")
