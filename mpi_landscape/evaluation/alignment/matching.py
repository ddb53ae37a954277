"""Which units of one network are which of another: weight matching.

Source: Ainsworth, Hayase and Srinivasa (2022), arXiv:2209.04836, algorithm 1 and equation 1. The distance of the weights of A and
of B after permutations is least where their inner product is largest. One set of units after the other, in random order, gets the
permutation that is best while the others stay, which is a linear assignment, until none changes.

From the identity this may end far from the best, as the first set is matched by weights to units that are out of order. So it is
begun a second time with sets matched one by one, each by the weights to units that are matched already, the inputs and outputs
first, and the nearer end counts. No end is farther away than the beginning.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mpi_landscape.errors import LandscapeError
from mpi_landscape.evaluation.alignment.symmetries import Factor, Symmetries, places

# A gain of less than this, in units of the product of both lengths, is rounding.
_LEAST_GAIN = 1e-12
# No matching has been seen to take more than some twenty.
_MOST_ROUNDS = 1000
# Of pairs of units within pairs of units, 1 GiB.
_MOST_NUMBERS = 2**27


class _Term(NamedTuple):
    """One place where the units of a set stand: a tensor, an axis, a block that begins there, and a factor of it."""

    name: str
    axis: int
    start: int
    block: int
    factor: int


def matched(
    first: Mapping[str, Tensor], second: Mapping[str, Tensor], symmetries: Symmetries, *, seed: int
) -> list[Tensor]:
    """For each set of units, the order that brings a second network next to a first.

    Args:
        first: Its tensors by name; those that count are looked at.
        second: Likewise, of the network whose units are permuted.
        symmetries: What may be permuted.
        seed: Of the order in which sets are looked at.

    Raises:
        LandscapeError: scipy is not installed.
    """
    matching = _Matching(first, second, symmetries)
    begun = [symmetries.identity(), matching.grown()]
    ends = [matching.descended(each, np.random.default_rng(seed)) for each in begun]
    return max(ends, key=matching.product)  # the first of equal ones


def distance(first: Mapping[str, Tensor], second: Mapping[str, Tensor], names: Sequence[str]) -> float:
    """The length of the difference of some tensors, in units of the weights; float64."""
    return math.sqrt(sum(float((_real(first[name]) - _real(second[name])).square().sum()) for name in names))


class _Matching:
    def __init__(
        self, first: Mapping[str, Tensor], second: Mapping[str, Tensor], symmetries: Symmetries
    ) -> None:
        self._symmetries = symmetries
        self._first = {name: _real(first[name]) for name in symmetries.counted}
        self._second = {name: _real(second[name]) for name in symmetries.counted}
        self._terms: list[list[_Term]] = [[] for _ in symmetries.sets]
        for name in symmetries.counted:
            for number, term in _terms(symmetries, name):
                self._terms[number].append(term)

    def product(self, permutations: Sequence[Tensor], names: Sequence[str] | None = None) -> float:
        """The inner product of the first network and the second one after permutations; of some tensors or all."""
        names = self._symmetries.counted if names is None else names
        moved = self._symmetries.permuted(self._second, permutations, names)
        return sum(float((self._first[name] * moved[name]).sum()) for name in names)

    def grown(self) -> list[Tensor]:
        """Sets matched one by one: next is the one of whose units most numbers can be compared."""
        permutations, decided = self._symmetries.identity(), set[int]()
        while len(decided) < len(self._terms):
            left = [number for number in range(len(self._terms)) if number not in decided]
            number = max(left, key=lambda each: self._evidence(each, decided))
            pair = None if self._evidence(number, decided) else self._pair(left, decided)
            if pair is None:
                terms = [term for term in self._terms[number] if self._others(term) <= decided]
                gains = self._gains(number, terms, permutations)
            else:
                number, inside, terms = pair
                gains = self._gains_at_best(number, inside, terms, permutations)
            permutations[number] = _assignment(gains)
            decided.add(number)
        return permutations

    def descended(self, permutations: Sequence[Tensor], generator: np.random.Generator) -> list[Tensor]:
        """One set after the other gets its best order, until none changes."""
        found = list(permutations)
        for _ in range(_MOST_ROUNDS):
            changed = [self._improve(int(each), found) for each in generator.permutation(len(found))]
            if not any(changed):
                break
        return found

    def _improve(self, number: int, permutations: list[Tensor]) -> bool:
        terms, old = self._terms[number], permutations[number]
        gains = self._gains(number, terms, permutations)
        new = _assignment(gains)
        names = list(dict.fromkeys(term.name for term in terms))
        blocks = {term[:4] for term in terms}
        if len({block[:2] for block in blocks}) == len(names) and len(blocks) == len(terms):
            rows = torch.arange(len(old))
            gain = float(gains[rows, new].sum() - gains[rows, old].sum())
        else:  # Where a set stands twice, across each other, what is best for either place may be worse for both.
            others = list(permutations)
            others[number] = new
            gain = self.product(others, names) - self.product(permutations, names)
        scale = sum(float(self._first[name].norm() * self._second[name].norm()) for name in names)
        if gain <= _LEAST_GAIN * scale:
            return False
        permutations[number] = new
        return True

    def _gains(self, number: int, terms: Sequence[_Term], permutations: Sequence[Tensor]) -> Tensor:
        """(n, n): the inner product that comes of unit j of the second network at the place of unit i of the first."""
        size = self._symmetries.sets[number].size
        found = torch.zeros(size, size, dtype=torch.float64)
        for term in terms:
            own, other = self._beside(term, (number,), permutations)
            found += own.reshape(size, -1) @ other.reshape(size, -1).T
        return found

    def _gains_at_best(
        self, number: int, inside: int, terms: Sequence[_Term], permutations: Sequence[Tensor]
    ) -> Tensor:
        """(n, n): likewise, where the units of another set within these units are in the best order for each i and j."""
        outer, inner = (self._symmetries.sets[each].size for each in (number, inside))
        found = torch.zeros(outer, outer, inner, inner, dtype=torch.float64)
        for term in terms:
            own, other = self._beside(term, (number, inside), permutations)
            found += torch.einsum(
                "iar,jbr->ijab", own.reshape(outer, inner, -1), other.reshape(outer, inner, -1)
            )
        rows = torch.arange(inner)
        best = [float(each[rows, _assignment(each)].sum()) for each in found.flatten(0, 1)]
        return torch.tensor(best, dtype=torch.float64).reshape(outer, outer)

    def _beside(
        self, term: _Term, sets: Sequence[int], permutations: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """A block of both networks, the units of some sets in front and where they were; all others are where they are by now."""
        orders = self._symmetries.orders[term.name]
        block = orders[term.axis][term.block]
        sizes = [factor.size for factor in block]
        front = [
            term.factor,
            *(at for at, each in enumerate(block) if each.units in sets and at != term.factor),
        ]
        front = front[: len(sets)]
        still = tuple(each if at not in front else Factor(each.size, None) for at, each in enumerate(block))
        own, other = (
            each.narrow(term.axis, term.start, math.prod(sizes))
            for each in (self._first[term.name], self._second[term.name])
        )
        for axis, order in enumerate(orders):
            at = places((still,) if axis == term.axis else order, permutations)
            if at is not None:
                other = other.index_select(axis, at)
        shape = (*own.shape[: term.axis], *sizes, *own.shape[term.axis + 1 :])
        dims = [term.axis + at for at in front]
        own, other = (each.reshape(shape).movedim(dims, list(range(len(dims)))) for each in (own, other))
        return own, other

    def _pair(self, left: Sequence[int], decided: set[int]) -> tuple[int, int, list[_Term]] | None:
        """A set with another one within its units, as the heads of an attention, where only these two are not matched."""
        sizes = [each.size for each in self._symmetries.sets]
        for number in sorted(left, key=lambda each: sizes[each]):
            found: dict[int, list[_Term]] = {}
            for term in self._terms[number]:
                missing = self._others(term) - decided
                block = self._symmetries.orders[term.name][term.axis][term.block]
                if len(missing) == 1 and number not in missing and missing <= {each.units for each in block}:
                    found.setdefault(missing.pop(), []).append(term)
            for inside, terms in found.items():
                if (sizes[number] * sizes[inside]) ** 2 <= _MOST_NUMBERS:
                    return number, inside, terms
        return None

    def _evidence(self, number: int, decided: set[int]) -> float:
        """Numbers per unit that can be compared while only some sets are matched."""
        terms = [term for term in self._terms[number] if self._others(term) <= decided]
        return sum(self._first[term.name].numel() for term in terms) / self._symmetries.sets[number].size

    def _others(self, term: _Term) -> set[int]:
        """The sets on which it depends what a place of a set's units says."""
        orders = self._symmetries.orders[term.name]
        around = [block for axis, order in enumerate(orders) if axis != term.axis for block in order]
        beside = [factor for at, factor in enumerate(orders[term.axis][term.block]) if at != term.factor]
        return {factor.units for block in (*around, beside) for factor in block if factor.units is not None}


def _terms(symmetries: Symmetries, name: str) -> Iterator[tuple[int, _Term]]:
    for axis, order in enumerate(symmetries.orders[name]):
        start = 0
        for number, block in enumerate(order):
            for at, factor in enumerate(block):
                if factor.units is not None:
                    yield factor.units, _Term(name, axis, start, number, at)
            start += math.prod(factor.size for factor in block)


def _assignment(gains: Tensor) -> Tensor:
    """The permutation with the largest sum of gains.

    Example:
        >>> _assignment(torch.tensor([[1.0, 5.0], [4.0, 1.0]], dtype=torch.float64))
        tensor([1, 0])
    """
    try:
        from scipy.optimize import linear_sum_assignment
    except ImportError:
        raise LandscapeError(
            "align: permutation needs scipy, which is not installed; valid is pip install 'mpi_landscape[connect]', or no align"
        ) from None
    _, columns = linear_sum_assignment(gains.numpy(), maximize=True)
    return torch.from_numpy(np.asarray(columns, dtype=np.int64))


def _real(tensor: Tensor) -> Tensor:
    """Float64 numbers on the CPU, a complex one as two along a new axis."""
    tensor = tensor.detach().cpu()
    return torch.view_as_real(tensor.to(torch.complex128)) if tensor.is_complex() else tensor.double()
