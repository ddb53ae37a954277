"""Checkpoints as flat vectors of which any run of numbers can be read, without the rest."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from mpi_landscape.errors import LandscapeError
from mpi_landscape.evaluation.lending import tensors_of
from mpi_landscape.geometry.layout import Layout
from mpi_landscape.problem.checkpoints import Source, fitted, read_weights
from mpi_landscape.problem.weights.parts import Files, Part, parts_of
from mpi_landscape.storage.identity import fingerprint


@dataclass(frozen=True, kw_only=True)
class StoredVector:
    """A checkpoint in the order of a layout.

    Attributes:
        path: Where it is.
        layout: The order of the flat vector.
        parts: Where the numbers of each entry are.
        starts: The place of each entry in the flat vector.
    """

    path: str
    layout: Layout
    parts: Sequence[Part]
    starts: Sequence[int]

    def read(self, start: int, into: Tensor) -> None:
        """Read the numbers from `start` on, as many as fit into a 1D float32 tensor on the CPU.

        Raises:
            LandscapeError: The file cannot be read any more.
        """
        stop = start + len(into)
        with Files() as files:
            for place in range(bisect_right(self.starts, start) - 1, len(self.parts)):
                first, part = self.starts[place], self.parts[place]
                low, high = max(start, first), min(stop, first + part.size)
                if low < high:
                    part.read(low - first, into[low - start : high - start], files)
                if first >= stop:
                    break


def state_of(model: nn.Module, source: Source) -> dict[str, Tensor]:
    """The tensors of a checkpoint under the names of a network's parameters and buffers, each once; mapped from the file.

    Raises:
        LandscapeError: It cannot be read, or is of another network; the first difference is named.
    """
    found = fitted(model, read_weights(source).state, where=source.path)
    return {name: found[name] for name in tensors_of(model) if name in found}


def stored_vector(model: nn.Module, layout: Layout, source: Source) -> tuple[StoredVector, dict[str, Tensor]]:
    """A checkpoint as a flat vector, of which nothing but the names is read, and what else it holds of the network.

    Raises:
        LandscapeError: As `state_of`, or the network loads its state in a way of its own.
    """
    state = state_of(model, source)
    absent = next((entry.name for entry in layout.entries if entry.name not in state), None)
    if absent is not None:
        raise LandscapeError(
            f"{source.path}: has no {absent}; the network loads its state in a way of its own, in which its checkpoints cannot "
            f"be read in parts"
        )
    moved = {entry.name for entry in layout.entries}
    parts = parts_of({name: state[name] for name in moved})
    vector = StoredVector(
        path=source.path,
        layout=layout,
        parts=[parts[entry.name] for entry in layout.entries],
        starts=[entry.offset for entry in layout.entries],
    )
    return vector, {name: value for name, value in state.items() if name not in moved}


def fingerprint_of_rest(rest: Mapping[str, Tensor]) -> str:
    """Of what a checkpoint holds of a network beside its flat vector: statistics, counters, integers."""
    bits = {
        name: value.detach().resolve_conj().contiguous().reshape(-1).view(torch.uint8).numpy()
        for name, value in sorted(rest.items())
    }
    return fingerprint(*(np.frombuffer(name.encode(), dtype=np.uint8) for name in bits), *bits.values())
