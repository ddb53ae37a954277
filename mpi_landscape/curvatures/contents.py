"""What a spectrum file holds from the beginning, and what defines its numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mpi_landscape.curvatures.request import Request
from mpi_landscape.evaluation.curvature.space import Space
from mpi_landscape.parallel.devices import device_name
from mpi_landscape.placement.placing import Placed
from mpi_landscape.storage import identity
from mpi_landscape.storage.cells import Cells
from mpi_landscape.storage.provenance import provenance
from mpi_landscape.storage.spectrum.creation import SpectrumContents, Tensors, create_spectrum
from mpi_landscape.storage.spectrum.schema import Shape, open_items, open_spectrum_file
from mpi_landscape.work.item_file import OwnFile


class SpectrumFile(OwnFile[SpectrumContents]):
    """The file of a spectrum."""

    def _create(self, contents: SpectrumContents) -> None:
        create_spectrum(self._path, contents)

    def _look(self) -> Any:
        return open_spectrum_file(self._path, "r")

    def open(self, comm: Any | None, mode: str) -> Cells:
        """Open it for its items."""
        return open_items(self._path, comm, mode)


def identity_of(
    request: Request, placed: Placed, space: Space, shape: Shape, *, center: str, engine: str
) -> dict[str, str]:
    """By name, in the order in which differences are told.

    Args:
        request: What was asked for.
        placed: The problem.
        space: Which parameters count.
        shape: How much there is of everything.
        center: Fingerprint of the network's parameters.
        engine: What the products are made with.
    """
    said, examples = request.said, placed.splits[request.said.split]
    buffers = [each.detach().cpu() for _, each in placed.problem.model.named_buffers()]
    words = [each.resolve_conj() if each.is_complex() else each for each in buffers]
    return {
        "center": center,
        "buffers": identity.fingerprint(
            *(each.float().numpy() if each.dtype.itemsize == 2 else each.numpy() for each in words)
        ),
        f"data_{said.split}": examples.identity,
        "operator": said.operator,
        "parameters": f"{space.size} ({identity.fingerprint(np.array([ord(c) for c in ' '.join(space.names)]))})",
        "ends": f"{request.num_largest} largest, {request.num_smallest} smallest, residuals of {said.tolerance:g}, at most "
        f"{said.most_steps} vectors" + ", extremes" * request.is_extremes,
        "density": f"{shape.num_probes} probes of {shape.num_steps} steps",
        "eigenvectors": str(shape.num_kept),
        "coordinates": ", ".join(part.removesuffix("/") or "plain" for part in shape.parts),
        "seed": str(said.seed),
        "precision": request.compute.precision,
        "engine": engine,
        "plan": f"batches of {placed.batch_size}",
        "loss": placed.problem.loss_text,
    }


def contents_of(
    request: Request,
    placed: Placed,
    space: Space,
    shape: Shape,
    own: Mapping[str, str],
    attributes: Mapping[str, Any],
) -> SpectrumContents:
    """What a new file holds; `own` is its identity, `attributes` more for it to say of itself."""
    said = request.said
    return SpectrumContents(
        shape=shape,
        kept=request.kept(),
        tensors=Tensors(
            names=list(space.names),
            shapes=[",".join(map(str, entry.real_shape)) for entry in space.entries],
            offsets=np.array(space.offsets, dtype=np.int64),
        ),
        loss_units=placed.quantities.loss_units,
        attributes={
            **provenance(),
            **attributes,
            **identity.as_attributes(own),
            "operator": said.operator,
            "parameters": request.parameters,
            "split": said.split,
            **({} if request.checkpoint is None else {"checkpoint": request.checkpoint}),
            "num_largest": request.num_largest,
            "tolerance": said.tolerance,
            "seed": said.seed,
            "loss_units": placed.quantities.loss_units,
            "num_examples": placed.splits[said.split].num_examples,
            "precision": request.compute.precision,
            "device": device_name(placed.device),
            "threads_per_rank": str(placed.threads),
            "batch_size": placed.batch_size,
            "arithmetic": placed.arithmetic,
        },
    )
