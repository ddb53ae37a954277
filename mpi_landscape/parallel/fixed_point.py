"""Sums over ranks whose bits do not depend on who adds what: terms are added as whole numbers of a common unit.

Whole numbers are added in any order. The unit follows from how large the terms are, of all ranks together, and from how many
there are of them, so it is the same for any number of ranks. It is taken from the sum before; where a term is too large for it,
or all are so small that digits would be lost, all is made again with the unit that fits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mpi_landscape.errors import AgreedError, LandscapeError
from mpi_landscape.parallel.broadcast import SLICE
from mpi_landscape.parallel.ranks import Ranks
from mpi_landscape.parallel.stopping import Stopped

# Of 63 bits one is for sums that round up.
_BITS = 61
# By how many bits the terms of the next sum may be larger, and smaller, without its being made again.
_ABOVE, _BELOW = 3, 12
# Terms that are other ones every time they are made fit no unit.
_MOST_ROUNDS = 4
# A float64 of 2 to this power and its inverse are both normal numbers.
_LARGEST_POWER = 1000


@dataclass(frozen=True, kw_only=True)
class Summed:
    """A sum over all ranks.

    Attributes:
        total: float64, on the device of the terms; NaN everywhere where a term is not finite.
        exponent: All terms are below 2 to this power; the next sum begins with it.
        rounds: How often the terms were made.
    """

    total: Tensor
    exponent: int
    rounds: int


class Held:
    """Terms that one rank adds, in units that all ranks share.

    Args:
        shape: Of a term.
        num_terms: How many there are at most, on all ranks together.
        exponent: The terms are to be below 2 to this power.
        device: Where they are.

    Example:
        >>> held = Held((2,), num_terms=3, exponent=1, device=torch.device("cpu"))
        >>> for term in ([1.0, 0.25], [-0.5, 0.25], [1e-3, 1.5]):
        ...     held.add(torch.tensor(term, dtype=torch.float64))
        >>> held.largest, held.value(held.whole.numpy()).tolist()
        (1.5, [0.501, 2.0])
    """

    def __init__(
        self, shape: tuple[int, ...], *, num_terms: int, exponent: int, device: torch.device
    ) -> None:
        power = exponent + max(0, math.ceil(math.log2(max(num_terms, 1)))) - _BITS
        self._power = min(max(power, -_LARGEST_POWER), _LARGEST_POWER)
        self.whole = torch.zeros(shape, dtype=torch.int64, device=device)
        self._largest = torch.zeros((), dtype=torch.float64, device=device)

    def add(self, term: Tensor) -> None:
        """Add a term, of any floating-point type."""
        wide = term.detach().to(torch.float64)
        if not wide.numel():
            return
        # Without waiting for a GPU. What is no number stays so in a maximum.
        self._largest = torch.maximum(self._largest, wide.abs().max())
        self.whole += wide.mul(2.0**-self._power).round_().to(torch.int64)

    @property
    def largest(self) -> float:
        """The greatest absolute value of a number of this rank's terms; infinite where one is not finite."""
        found = float(self._largest)
        return found if math.isfinite(found) else math.inf

    def value(self, whole: NDArray[np.int64]) -> Tensor:
        """A sum of such whole numbers, float64."""
        return (
            torch.from_numpy(whole)
            .reshape(self.whole.shape)
            .to(self.whole.device, torch.float64)
            .mul_(2.0**self._power)
        )


def exponent_of(largest: float) -> int:
    """The least power of 2 above a number.

    Example:
        >>> exponent_of(0.75), exponent_of(4.0), exponent_of(0.0)
        (0, 3, 0)
    """
    return math.frexp(largest)[1]


def fits(largest: float, exponent: int) -> bool:
    """Whether terms of this size are neither too large for a unit, nor so small that digits are lost in it."""
    return largest == 0 or exponent - _BELOW - _ABOVE <= exponent_of(largest) <= exponent


def summed(
    terms: Callable[[], Iterable[Tensor]],
    ranks: Ranks,
    *,
    shape: tuple[int, ...],
    num_terms: int,
    exponent: int,
    device: torch.device,
    slice_size: int = SLICE,
) -> Summed:
    """The sum of the terms of all ranks, the same bits on every rank and for any number of them. Collective.

    Args:
        terms: Makes this rank's terms anew at every call.
        ranks: The job.
        shape: Of a term, the same on all ranks.
        num_terms: How many there are at most, on all ranks together.
        exponent: Of 2, above which no term is expected.
        device: Where the terms are.
        slice_size: Bytes per message.

    Raises:
        AgreedError: A rank refused while it made its terms, or they are other ones every time.
        Stopped: On every rank, with the same words: one was told to stop.
    """
    rounds = 0
    while True:
        rounds += 1
        held = Held(shape, num_terms=num_terms, exponent=exponent, device=device)
        largest = _agreed(held, terms, ranks)
        if not math.isfinite(largest):
            nothing = torch.full(shape, math.nan, dtype=torch.float64, device=device)
            return Summed(total=nothing, exponent=exponent, rounds=rounds)
        if fits(largest, exponent):
            break
        if rounds == _MOST_ROUNDS:
            raise AgreedError(
                "the same terms of a sum are of another size every time they are computed; valid is a network that does the same "
                "in every pass"
            )
        exponent = exponent_of(largest)
    whole = held.whole.cpu().numpy().reshape(-1)
    _add_over_ranks(whole, ranks, slice_size)
    # Zeros say nothing of what comes after them.
    after = exponent_of(largest) + _ABOVE if largest else exponent
    return Summed(total=held.value(whole), exponent=after, rounds=rounds)


def _agreed(held: Held, terms: Callable[[], Iterable[Tensor]], ranks: Ranks) -> float:
    """Add this rank's terms; the greatest absolute value of a number of any rank's."""
    refusal: LandscapeError | None = None
    reason: str | None = None
    try:
        for term in terms():
            held.add(term)
    except LandscapeError as error:
        refusal = error
    except Stopped as stop:
        reason = str(stop)
    # One meeting for all that the ranks must agree on.
    everywhere = ranks.gather((refusal is None, reason, held.largest))
    if not all(fine for fine, _, _ in everywhere):
        with ranks.together():
            if refusal is not None:
                raise refusal
    for rank, (_, words, _) in enumerate(everywhere):
        if words is not None:
            raise Stopped(words if rank == 0 else f"{words} on rank {rank}")
    return max(largest for _, _, largest in everywhere)


def _add_over_ranks(whole: NDArray[np.int64], ranks: Ranks, slice_size: int) -> None:
    """Add the whole numbers of all ranks in place, which have just met."""
    if ranks.comm is None:
        return
    from mpi4py import MPI

    width = max(1, slice_size // whole.itemsize)
    for start in range(0, whole.size, width):
        ranks.comm.Allreduce(MPI.IN_PLACE, whole[start : start + width], op=MPI.SUM)
