"""In which way products of a network are computed."""

from __future__ import annotations

from dataclasses import dataclass

from mpi_landscape.evaluation.engine.folding import Pair


@dataclass(frozen=True, kw_only=True)
class Way:
    """What is done besides double backward by the network itself.

    Attributes:
        precise: Whether the network's outputs go into the loss as float64: what a loss subtracts of numbers near each other, such
            as a probability near one of one, then keeps its digits, and so do products at places where the loss is small.
        folded: Layers and normalizations that are one.
        channels_last: Whether images go into the network with all channels of a pixel beside each other.
        compiled: Whether forward over reverse mode is compiled.
        copies: Whether copies of the network are as good as the network itself.
        alone: Whether threads would share what a pass may write to, so that there is one.
        dropped: A line for each thing that was tried and dropped, with the reason.
    """

    precise: bool = False
    folded: tuple[Pair, ...] = ()
    channels_last: bool = False
    compiled: bool = False
    copies: bool = False
    alone: bool = False
    dropped: tuple[str, ...] = ()

    def words(self) -> str:
        """What a user wants to know of it."""
        said = [
            *(["compiled forward over reverse mode"] if self.compiled else ["double backward"]),
            *([f"{len(self.folded)} normalisations folded"] if self.folded else []),
            *(["channels-last"] if self.channels_last else []),
            *(["loss in float64"] if self.precise else []),
        ]
        return ", ".join(said)


PLAIN = Way()
