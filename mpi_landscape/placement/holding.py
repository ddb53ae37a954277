"""The decision whether a split of the data is kept in memory or streamed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mpi_landscape.errors import LandscapeError


@dataclass(frozen=True, kw_only=True)
class Memory:
    """The memory in which data may be held.

    Attributes:
        free: Bytes that are free, of the device or of the node; None where that is unknown.
        copies: How often what is resident is held in that memory.
        ranks: How many ranks use that memory.
    """

    free: int | None
    copies: int = 1
    ranks: int = 1

    @property
    def free_per_rank(self) -> int | None:
        """Bytes that each rank may use; None where that is unknown."""
        return None if self.free is None else self.free // self.ranks


@dataclass(frozen=True, kw_only=True)
class Holding:
    """How a split is held.

    Attributes:
        streamed: Whether it is read again for every tile; otherwise it is resident.
        reason: Why, in words for people.
        bytes: Memory that all of its examples take.
    """

    streamed: bool
    reason: str
    bytes: int


def choose(request: str, sizes: Mapping[str, int], memory: Memory) -> dict[str, Holding]:
    """Decide how each split is held.

    With `auto`, splits are resident in their order as long as all together take less than half of what is free: the
    network and its activations take the rest.

    Args:
        request: `auto`, `resident` or `streamed`.
        sizes: Bytes by split.
        memory: What is free.

    Raises:
        LandscapeError: The data were asked to be resident, but do not fit.

    Example:
        >>> chosen = choose("auto", {"train": 800, "test": 90}, Memory(free=1000))
        >>> {split: each.streamed for split, each in chosen.items()}
        {'train': True, 'test': False}
        >>> chosen["train"].reason
        '800 B are half or more of 1 kB free'
    """
    taken, chosen = 0, {}
    for split, size in sizes.items():
        needed = taken + size * memory.copies
        chosen[split] = _choose(request, split, size, needed, memory.free)
        if not chosen[split].streamed:
            taken = needed
    return chosen


def _choose(request: str, split: str, size: int, needed: int, free: int | None) -> Holding:
    """The decision for a split with which all that is resident takes `needed` bytes."""
    if request == "resident" and free is not None and needed > free:
        raise LandscapeError(
            f"compute.data: resident was asked for, but split {split!r} brings the data to {size_text(needed)}, and "
            f"{size_text(free)} are free; use auto or streamed"
        )
    if request in ("resident", "streamed"):
        return Holding(streamed=request == "streamed", reason="compute.data", bytes=size)
    if free is None:
        return Holding(streamed=False, reason="free memory unknown", bytes=size)
    if needed < free / 2:
        return Holding(streamed=False, reason=f"{size_text(free)} free", bytes=size)
    reason = f"{size_text(needed)} are half or more of {size_text(free)} free"
    return Holding(streamed=True, reason=reason, bytes=size)


def size_text(number: float) -> str:
    """Bytes for people."""
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000 or unit == "GB":
            break
        number /= 1000
    return f"{number:.3g} {unit}"
