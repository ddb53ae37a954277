"""Eigenvectors of a Hessian as directions of a plane."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from mpi_landscape.configuration.sections.plane import EigenvectorDirection
from mpi_landscape.errors import LandscapeError
from mpi_landscape.placement.center import Center
from mpi_landscape.storage import identity
from mpi_landscape.storage.spectrum.reader import Eigenvector, read_attributes, read_eigenvector


def eigenvector_of(said: EigenvectorDirection, center: Center, here: str) -> Tensor:
    """(n,) float32, zero in parameters that do not count in the Hessian; messages call the direction `here`.

    Raises:
        LandscapeError: The file has no such eigenvector, or it is of another network.
    """
    found = _read(said, here)
    entries = {entry.name: entry for entry in center.layout.entries}
    whole, begun = torch.zeros(center.layout.size), sorted(found.tensors.items(), key=lambda pair: pair[1])
    stops = [*(first for _, first in begun[1:]), found.vector.size]
    for (name, first), stop in zip(begun, stops, strict=True):
        entry = entries.get(name)
        if entry is None or entry.size != stop - first:
            there = "none" if entry is None else f"{entry.size} numbers there"
            raise LandscapeError(
                f"{here}.path: {said.path}: belongs to another network: its {name[:80]} has {stop - first} numbers, and this one "
                f"has {there}"
            )
        whole[entry.offset : entry.stop] = torch.from_numpy(found.vector[first:stop])
    return whole


def along_eigenvector(said: EigenvectorDirection, center: Center, here: str) -> tuple[str, list[str]]:
    """What it is, and what is to be minded, in lines for people."""
    attributes = read_attributes(said.path)
    words = str(attributes.get("operator", "hessian")).replace("_", "-")
    line = f"eigenvector {said.index} of the {words} in {said.path}, eigenvalue {_read(said, here).value:.6g}"
    own = identity.of_attributes(attributes).get("center")
    if own == identity.fingerprint(center.vector[: center.layout.size].numpy()):
        return line, []
    return line, [
        f"is an eigenvector of the {words} at another place than this center, so that the curvature along it is another here"
    ]


def _read(said: EigenvectorDirection, here: str) -> Eigenvector:
    if not Path(said.path).exists():
        raise LandscapeError(
            f"{here}.path: {said.path}: there is no such file (working folder {Path.cwd()}); python -m mpi_landscape.hessian "
            f"makes it, with hessian.eigenvectors: 1"
        )
    try:
        return read_eigenvector(said.path, said.index)
    except LandscapeError as error:
        raise LandscapeError(f"{here}: {error}") from error
