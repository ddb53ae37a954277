"""The engine: how a network is rewritten so that passes over the data cost less and give the same loss."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from mpi_landscape.errors import LandscapeError

# In the order in which they are applied; what each does is said by `Engine`.
STEPS = ("folded", "channels_last", "fused", "compiled", "graphed", "first_layer", "grouped")
# Those that are tried unless asked otherwise. A compiled network needs a C++ compiler where it runs, which one node may
# have and another not; several points in one pass took as long as one by one on every CPU measured.
USUAL = ("folded", "channels_last", "fused", "first_layer")


@dataclass(frozen=True, kw_only=True)
class Engine:
    """What is rewritten; the plain network when nothing is.

    Attributes:
        folded: (layer, normalisation) names: batch normalisations in evaluation mode, multiplied once into the layer
            before them, at the center and in the directions.
        channels_last: Weights of convolutions are kept in channels-last order, and so are the activations.
        fused: What follows a convolution (an activation, a sum with a shortcut) is done by the convolution's own kernel.
        compiled: The network goes through torch.compile.
        graphed: On a GPU a pass over a batch is recorded once, as a CUDA graph, and replayed.
        first_layer: Linear layers whose input is the data alone: W(α, β) x = W x + α D x + β E x, so three products
            serve all points of a tile.
        points_per_pass: Points that go through the network together.
    """

    folded: tuple[tuple[str, str], ...] = ()
    channels_last: bool = False
    fused: bool = False
    compiled: bool = False
    first_layer: tuple[str, ...] = ()
    points_per_pass: int = 1
    graphed: bool = False

    def text(self) -> str:
        """All of it as one line of JSON, for a file."""
        fields = asdict(self)
        if not self.graphed:
            # Files that were begun before there was such a step keep their identity.
            del fields["graphed"]
        return json.dumps(fields, sort_keys=True)

    def label(self) -> str:
        """What tells two engines apart, in words and by a fingerprint of the names in it."""
        return f"{self.words()} ({hashlib.sha256(self.text().encode()).hexdigest()[:8]})"

    def words(self) -> str:
        """What a user wants to know of it."""
        said = [
            f"{len(self.folded)} normalisations folded" if self.folded else "",
            "channels-last" if self.channels_last else "",
            "convolutions fused with what follows" if self.fused else "",
            "compiled" if self.compiled else "",
            "passes replayed as CUDA graphs" if self.graphed else "",
            f"first layer ({', '.join(self.first_layer)}) once per tile" if self.first_layer else "",
            f"{self.points_per_pass} points in a pass" if self.points_per_pass > 1 else "",
        ]
        return ", ".join(filter(None, said)) or "the plain network"


PLAIN = Engine()


def engine_of(text: str) -> Engine:
    """The inverse of `Engine.text`.

    Raises:
        LandscapeError: It is something else.
    """
    try:
        found: dict[str, Any] = json.loads(text)
        found["folded"] = tuple((str(layer), str(norm)) for layer, norm in found["folded"])
        found["first_layer"] = tuple(map(str, found["first_layer"]))
        return Engine(**found)
    except (ValueError, TypeError, KeyError) as error:
        raise LandscapeError(f"{text[:60]!r} is no engine of this version") from error


def steps_of(request: str | Iterable[str]) -> tuple[str, ...]:
    """The steps that may be tried.

    Args:
        request: `auto`, `plain`, or names of STEPS.
    """
    if request == "auto":
        return USUAL
    return () if request == "plain" else tuple(step for step in STEPS if step in tuple(request))
