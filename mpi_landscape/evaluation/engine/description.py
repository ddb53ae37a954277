"""The engine: how a network is rewritten so that passes over the data cost less and give the same loss."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from mpi_landscape.evaluation.vectors import Rows, Vectors
from mpi_landscape.geometry.layout import Layout

# Batch and count of valid examples -> (1, columns).
Sums = Callable[[Any, int], Tensor]

# What a file holds of steps that were not taken, since a file's engine is compared by its text. Other steps are written
# only where they are taken.
ABSENT = {
    "channels_last": False,
    "compiled": False,
    "first_layer": [],
    "folded": [],
    "fused": False,
    "points_per_pass": 1,  # of a step that is gone
}


class Probe(Protocol):
    """The plain network on a few examples, for a step to look at, with its plane: `directions` of (n,) each.

    Attributes:
        gradients: Whether the loss takes derivatives itself.
    """

    layout: Layout
    directions: Sequence[Tensor]
    device: torch.device
    dtype: torch.dtype
    gradients: bool

    @property
    def network(self) -> nn.Module:
        """The network at the center, in evaluation mode: a copy for looking at."""

    def run(self, network: nn.Module) -> Any:
        """The loss of the examples."""

    def elsewhere(self) -> nn.Module:
        """A network that differs from it in every parameter."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """One way to rewrite a network: it is tried on real examples, and taken where the losses stay.

    What it does to one network is its value: True, or names of layers.

    Attributes:
        name: What it is called in a configuration and in a file.
        proposal: (engine, probe) -> its value on top of that engine; None where there is nothing to do.
        words: (value) -> what a user wants to know of it.
        read: (value as JSON has it) -> value.
        on_vectors: (value, network, rows) -> rows, before the network is rewritten.
        on_network: (value, network, vectors, lower) -> network, whose parameters are views of the vectors' point.
        on_call: (network) -> what is called in its place, when all steps have rewritten it.
        on_sums: (sums) -> sums of a batch in another way.
        writes_vectors: Whether it changes the numbers of center and directions in place.
        shares_points: Whether what it computes of a batch serves all points of a tile.
    """

    name: str
    proposal: Callable[[Engine, Probe], Any]
    words: Callable[[Any], str]
    read: Callable[[Any], Any] = bool
    on_vectors: Callable[[Any, nn.Module, Rows], Rows] = lambda _, __, rows: rows
    on_network: Callable[[Any, nn.Module, Vectors, torch.dtype | None], nn.Module] = (
        lambda _, network, __, ___: network
    )
    on_call: Callable[[nn.Module], nn.Module] = lambda network: network
    on_sums: Callable[[Sums], Sums] = lambda sums: sums
    writes_vectors: bool = False
    shares_points: bool = False


@dataclass(frozen=True, kw_only=True)
class Engine:
    """What is rewritten; the plain network when nothing is.

    Attributes:
        taken: The steps with their values, in the order in which they are applied.
    """

    taken: tuple[tuple[Step, Any], ...] = ()

    def plus(self, step: Step, value: Any) -> Engine:
        """The same with one more step."""
        return Engine(taken=(*self.taken, (step, value)))

    def value(self, step: Step) -> Any:
        """What a step does; an empty tuple where it was not taken."""
        return dict(self.taken).get(step, ())

    @property
    def writes_vectors(self) -> bool:
        """Whether it needs vectors of its own."""
        return any(step.writes_vectors for step, _ in self.taken)

    @property
    def shares_points(self) -> bool:
        """Whether points of a tile cost less together."""
        return any(step.shares_points for step, _ in self.taken)

    def on_vectors(self, network: nn.Module, rows: Rows) -> Rows:
        """Center and directions as the rewritten network takes them."""
        for step, value in self.taken:
            rows = step.on_vectors(value, network, rows)
        return rows

    def on_network(self, network: nn.Module, vectors: Vectors, lower: torch.dtype | None) -> nn.Module:
        """The rewritten network, changed in place, whose parameters are views of the vectors' point; see `Step`."""
        for step, value in self.taken:
            network = step.on_network(value, network, vectors, lower)
        return network

    def on_call(self, network: nn.Module) -> nn.Module:
        """What is called in place of the rewritten network."""
        for step, _ in self.taken:
            network = step.on_call(network)
        return network

    def on_sums(self, sums: Sums) -> Sums:
        """What gives the sums of a batch."""
        for step, _ in self.taken:
            sums = step.on_sums(sums)
        return sums

    def text(self) -> str:
        """All of it as one line of JSON, for a file."""
        return json.dumps(ABSENT | {step.name: value for step, value in self.taken}, sort_keys=True)

    def label(self) -> str:
        """What tells two engines apart, in words and by a fingerprint of the names in it."""
        return f"{self.words()} ({hashlib.sha256(self.text().encode()).hexdigest()[:8]})"

    def words(self) -> str:
        """What a user wants to know of it."""
        return ", ".join(step.words(value) for step, value in self.taken) or "the plain network"


PLAIN = Engine()
