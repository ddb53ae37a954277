"""What defines the numbers of a surface: runs that agree in it may share a file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from mpi_landscape.evaluation.engine.description import Engine
from mpi_landscape.geometry.kept import KeptPlane
from mpi_landscape.geometry.plane import Plane, axis_of
from mpi_landscape.loading.batches import Examples
from mpi_landscape.placement.placing import Placed
from mpi_landscape.plan.quantities import SUMS
from mpi_landscape.plan.tiles import Plan
from mpi_landscape.storage.identity import fingerprint
from mpi_landscape.surfaces.request import Request
from mpi_landscape.wording import ranges


def identity_of(
    placed: Placed,
    plane: Plane | KeptPlane,
    request: Request,
    splits: Mapping[str, Examples],
    plan: Plan,
    engine: Engine,
) -> dict[str, str]:
    """By name, in the order in which differences are told."""
    grid, problem = request.grid, placed.problem
    further = placed.quantities.columns[len(SUMS) :]
    axes = {"alpha": grid.alpha, "beta": grid.beta}
    moved, kept = {entry.name for entry in plane.layout.entries}, set(plane.layout.fixed)
    fixed = [(name, value) for name, value in problem.model.named_parameters() if name in kept]
    rest = [_values(value) for name, value in [*problem.model.named_buffers(), *fixed] if name not in moved]
    return {
        "grid": ", ".join(
            f"{name} {axis.min:g}:{axis.max:g}:{axis.num}" for name, axis in axes.items() if axis
        )
        + (f", seeds {ranges(grid.seeds)}" if grid.seeds else "")
        + f" ({fingerprint(*(axis.values for axis in axes.values() if axis))})",
        "center": fingerprint_of(plane, "center"),
        "buffers": fingerprint(*rest),
        **{f"direction_{axis}": fingerprint_of(plane, axis) for axis in map(axis_of, plane.directions)},
        **{f"data_{split}": examples.identity for split, examples in splits.items()},
        "precision": request.compute.precision,
        "engine": engine.label(),
        "plan": f"batches of {placed.batch_size}, tiles of {plan.points_per_tile} points, shards {dict(plan.shards)}"
        + (f", strips of {grid.strips}" if grid.strips else ""),
        "loss": problem.loss_text,
        # Named only where there are more than every file has.
        **({"quantities": ", ".join(further)} if further else {}),
    }


def fingerprint_of(plane: Plane | KeptPlane, name: str) -> str:
    """Of the center, or of the direction of an axis; of all of them, in their order, where several lines share it."""
    if isinstance(plane, KeptPlane):
        return plane.fingerprint(name)
    if name == "center":
        return fingerprint(plane.center.numpy())
    return fingerprint(*(each.numpy() for key, each in plane.directions.items() if axis_of(key) == name))


def _values(buffer: Tensor) -> NDArray[Any]:
    """A buffer in its own type, but as float32 where that holds its values: so all were written once, and files go on.

    Example:
        >>> [_values(each).dtype.name for each in (torch.tensor(2**24), torch.tensor(2**24 + 1), torch.tensor(1j))]
        ['float32', 'int64', 'complex64']
    """
    buffer = buffer.detach().cpu()
    if buffer.dtype == torch.float64 or buffer.is_complex():
        return buffer.resolve_conj().numpy()
    single = buffer.float()
    exact = buffer.is_floating_point() or bool((single.to(buffer.dtype) == buffer).all())
    found: NDArray[Any] = (single if exact else buffer).numpy()
    return found
