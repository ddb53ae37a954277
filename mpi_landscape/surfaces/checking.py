"""Points of a finished file, evaluated again by the network itself: on another machine, by another person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mpi_landscape.configuration.sections.whole import Configuration
from mpi_landscape.errors import LandscapeError
from mpi_landscape.evaluation.arithmetic import exact_arithmetic
from mpi_landscape.evaluation.precision import precision_of
from mpi_landscape.evaluation.probe import Setting
from mpi_landscape.evaluation.reference import Reference
from mpi_landscape.geometry.kept import KeptPlane
from mpi_landscape.parallel.ranks import Ranks
from mpi_landscape.placement.center import Center, share_center
from mpi_landscape.placement.ends import buffers_move
from mpi_landscape.placement.placing import placed
from mpi_landscape.placement.plane import share_plane
from mpi_landscape.placement.roles import share_roles
from mpi_landscape.plan.decisions import Decisions
from mpi_landscape.storage.identity import of_attributes
from mpi_landscape.storage.surface.reader import (
    read_direction,
    read_lines,
    read_names,
    read_surface,
    vectors_are_saved,
)
from mpi_landscape.storage.surface.value import Surface
from mpi_landscape.surfaces.identity import fingerprint_of
from mpi_landscape.surfaces.plane import plane_of
from mpi_landscape.surfaces.ranges import resolved
from mpi_landscape.surfaces.recomputing import Recomputing
from mpi_landscape.surfaces.request import Request, request_of
from mpi_landscape.wording import coordinates, listed

# Relative, of exact values: another kind of processor rounds otherwise.
_ROUNDING = 1e-4
# Standard errors of a sampled value, and largest errors of an approximate precision, that are allowed.
_SAMPLED, _APPROXIMATE = 4.0, 10.0
# Points that are looked at where nobody names any.
_POINTS = 5


@dataclass(frozen=True, kw_only=True)
class Checked:
    """One value of a file, and what it is now.

    Attributes:
        point: (α, β), (α,) on a line, or (α, seed) of several lines.
        split: Of the data.
        stored: The loss in the file, nats per example.
        found: The loss now.
        allowed: How far they may be apart.
    """

    point: tuple[float, ...]
    split: str
    stored: float
    found: float
    allowed: float

    @property
    def passed(self) -> bool:
        """Whether they agree."""
        same = self.stored == self.found or (np.isnan(self.stored) and np.isnan(self.found))
        return bool(same or abs(self.stored - self.found) <= self.allowed)

    @property
    def line(self) -> str:
        """For people."""
        here = coordinates(self.point)
        return (
            f"({here})  {self.split}: {self.stored:.9g} in the file, {self.found:.9g} by the network itself  "
            f"{'pass' if self.passed else 'FAIL'}"
        )


def check(
    path: Path, configuration: Configuration, where: str, points: Sequence[tuple[float, ...]], ranks: Ranks
) -> list[Checked]:
    """Evaluate points of a surface file again, over all of the data, by the network of a configuration moved in place.

    Center and directions are those of the file, so that of the configuration network, loss and data are checked.

    Args:
        path: The file.
        configuration: What it is said to be of.
        where: Its file, for messages.
        points: Each is taken to the nearest point of the grid; for none the center, the ends of the range of losses, and
            two others.
        ranks: One.

    Raises:
        LandscapeError: The two do not fit each other, or a point is not done.
    """
    surface = read_surface(path)
    chosen = [_nearest(surface, point) for point in points] or _usual(surface)
    with exact_arithmetic():
        request = request_of(resolved(configuration, ranks, where), ranks, where)
        problem = request.problem
        if precision_of(request.compute.precision).kept:
            return _found(surface, request, _kept(surface, request, ranks, where), chosen, ranks)
        center = share_center(
            problem.model,
            ranks,
            normalization_buffers=buffers_move(request.directions, problem.model, ranks, where=where),
        )
        if read_names(path) != [entry.name for entry in center.layout.entries]:
            raise LandscapeError(f"{path}: is of a network with other tensors than that of {where}")
        vectors = _vectors(surface, request, center, ranks, where)
        if not torch.equal(vectors[0], center.vector):
            raise LandscapeError(
                f"{path}: has another center than {where}: its checkpoint has changed, or is another one"
            )
        plane = {"layout": center.layout, "center": vectors[0], "directions": vectors[1:]}
        return _found(surface, request, plane, chosen, ranks)


def _found(
    surface: Surface,
    request: Request,
    plane: Mapping[str, Any],
    chosen: Sequence[tuple[int, ...]],
    ranks: Ranks,
) -> list[Checked]:
    """The values at some points, by the network itself; of the plane, what a `Setting` says."""
    problem, decided = request.problem, Decisions.of(surface.attributes, ())
    # A map of curvature is of one split.
    common = {split: dataset for split, dataset in problem.splits.items() if split in surface.done}
    if not common:
        raise LandscapeError(
            f"{surface.path}: is of {listed(surface.done)}, which the data of {problem.where} do not have "
            f"({listed(problem.splits)})"
        )
    problem = replace(problem, splits=common)
    with placed(problem, ranks, request.compute, decided) as seat, ExitStack() as resources:
        setting = Setting(
            model=problem.model, loss=problem.loss, device=seat.device, gradients=seat.gradients, **plane
        )
        # As the file says, whatever the configuration does.
        anew = "batch_norm" in of_attributes(surface.attributes)
        found = []
        by: Recomputing | Reference = (
            resources.enter_context(Recomputing(setting, seat)) if anew else setting.reference()
        )
        for place in chosen:
            point, told = _coordinates(surface, place), _told(surface, place)
            for split, examples in seat.splits.items():
                if not surface.done[split][place]:
                    continue
                (sums,) = by.tile(examples.pieces(0, examples.num_batches), [point])
                stored = float(surface.values[f"{split}_loss"][place])
                loss = float(sums[0] / sums[2])
                rounding = max(_ROUNDING, seat.precision.rounding)
                found.append(
                    Checked(point=told, split=split, stored=stored, found=loss,
                            allowed=_allowed(surface, split, place, loss, rounding))
                )  # fmt: skip
    return found


def _kept(surface: Surface, request: Request, ranks: Ranks, where: str) -> dict[str, Any]:
    """The plane of a network whose tensors keep their types, made again.

    Raises:
        LandscapeError: It is not the one that the file was computed in.
    """
    if surface.is_line:
        request = replace(request, directions=replace(request.directions, beta=None))
    plane = plane_of(request, ranks)
    assert isinstance(plane, KeptPlane)
    if read_names(surface.path) != [entry.name for entry in plane.layout.entries]:
        raise LandscapeError(f"{surface.path}: is of a network with other tensors than that of {where}")
    _check_made(surface, {name: plane.fingerprint(name) for name in ("center", *plane.directions)}, where)
    return {"layout": plane.layout, "kept": plane}


def _vectors(surface: Surface, request: Request, center: Center, ranks: Ranks, where: str) -> list[Tensor]:
    """Center and directions of a file; made again as the configuration says, where the file has their fingerprints alone.

    Raises:
        LandscapeError: What is made again is not what the file was computed with.
    """
    names = ("center", "alpha") if surface.is_line else ("center", "alpha", "beta")
    if vectors_are_saved(surface.attributes):
        if surface.seeds is not None:
            center_vector = torch.from_numpy(read_direction(surface.path, "center")[0])
            return [center_vector, *map(torch.from_numpy, read_lines(surface.path))]
        return [torch.from_numpy(read_direction(surface.path, name)[0]) for name in names]
    said = request.directions
    if surface.is_line:
        said = replace(said, beta=None)
    roles = share_roles(request.problem, said.rules, ranks)
    buffers = any(entry.kind == "buffer" for entry in center.layout.entries)
    center = share_center(request.problem.model, ranks, normalization_buffers=buffers, roles=roles)
    plane = share_plane(said, request.problem.model, center, ranks, where=where)
    _check_made(surface, {name: fingerprint_of(plane, name) for name in names}, where)
    return [plane.center, *plane.directions.values()]


def _check_made(surface: Surface, fingerprints: Mapping[str, str], where: str) -> None:
    """Refuse vectors that were made again and are others than those of the file."""
    known = of_attributes(surface.attributes)
    for name, now in fingerprints.items():
        identity = name if name == "center" else f"direction_{name}"
        if known.get(identity) != now:
            raise LandscapeError(
                f"{surface.path}: holds no vectors, and its {identity} ({known.get(identity, 'nothing')}) is not what {where} "
                f"makes ({now}): its checkpoint, seeds or rules have changed"
            )


def advice(found: Sequence[Checked]) -> str:
    """What a user may do now."""
    if all(each.passed for each in found):
        return "all agree: network, loss and data are those of the file"
    if all(not each.passed for each in found):
        return "none agrees: the loss, the data or the network's code are others than those that the file was computed with"
    return (
        "some agree: the file's engine was wrong at the others, or the network depends on what was evaluated before; compute "
        "it anew with --set compute.engine=plain"
    )


def _allowed(surface: Surface, split: str, place: tuple[int, ...], loss: float, rounding: float) -> float:
    allowed = rounding * abs(loss)
    stderr = surface.values.get(f"{split}_loss_stderr")
    if stderr is not None:
        allowed += _SAMPLED * float(stderr[place])
    # Where a format overflows its error is infinite: that allows nothing where it does not.
    error = surface.attributes.get("precision_error_finite", surface.attributes.get("precision_error", 0.0))
    return allowed + _APPROXIMATE * float(error) * abs(loss)


def _nearest(surface: Surface, point: tuple[float, ...]) -> tuple[int, ...]:
    axes = _axes(surface)
    if len(point) != len(axes):
        raise LandscapeError(f"--at {point}: has {len(point)} coordinates; {surface.path} has {len(axes)}")
    return tuple(int(np.argmin(np.abs(axis - each))) for axis, each in zip(axes, point, strict=True))


def _usual(surface: Surface) -> list[tuple[int, ...]]:
    """The center, the least and the greatest loss, and two others, of points that are done."""
    split = next(iter(surface.done))
    done, losses = surface.done[split], surface.values[f"{split}_loss"]
    places = np.argwhere(done)
    if not len(places):
        raise LandscapeError(f"{surface.path}: no point is done yet")
    finite = np.where(done & np.isfinite(losses), losses, np.nan)
    wanted = [_nearest(surface, (0.0,) * losses.ndim)]
    if np.isfinite(finite).any():
        wanted += [
            tuple(int(i) for i in np.unravel_index(int(pick(finite)), losses.shape))
            for pick in (np.nanargmin, np.nanargmax)
        ]
    draw = np.random.default_rng(0).permutation(len(places))
    wanted += [tuple(int(i) for i in places[each]) for each in draw]
    return [place for place in dict.fromkeys(wanted) if done[place]][:_POINTS]


def _axes(surface: Surface) -> list[NDArray[Any]]:
    return [axis for axis in (surface.alpha, surface.beta, surface.seeds) if axis is not None]


def _told(surface: Surface, place: tuple[int, ...]) -> tuple[float, ...]:
    """A point for people."""
    return tuple(axis[each].item() for axis, each in zip(_axes(surface), place, strict=True))


def _coordinates(surface: Surface, place: tuple[int, ...]) -> tuple[float, ...]:
    """A point as one number for each direction."""
    if surface.seeds is None:
        return _told(surface, place)
    row, line = place
    return tuple(float(surface.alpha[row]) if each == line else 0.0 for each in range(len(surface.seeds)))
