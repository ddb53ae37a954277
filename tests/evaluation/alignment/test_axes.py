"""The algebra of unknown permutations: whatever the units do, axes that were tied are in one order.

The oracle puts numbers along an axis in the order that permutations of its sets make, by plain loops.
"""

import itertools
import math
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from mpi_landscape.evaluation.alignment.axes import (
    fixed,
    free,
    freeze,
    joined,
    length,
    moving,
    part,
    product,
    resolved,
    unify,
)

SEEDS = st.integers(0, 2**32)


def random_axis(draw, size):
    """A random structure of some positions, and of sets some of which stand in several places."""
    shared = {}

    def of(size, depth):
        how = draw.random()
        if size < 2 or depth == 0 or how < 0.25:
            if draw.random() < 0.25:
                return fixed(size, "test")
            return shared.setdefault(size, free(size)) if draw.random() < 0.3 else free(size)
        divisors = [each for each in range(2, size) if size % each == 0]
        if divisors and how < 0.6:
            outer = draw.choice(divisors)
            return product(of(outer, depth - 1), of(size // outer, depth - 1))
        cut = draw.randrange(1, size)
        return joined(of(cut, depth - 1), of(size - cut, depth - 1))

    return of(size, 3)


def random_permutations(draw, *axes):
    """A permutation of every set that may move."""
    free = moving(axes)
    every = (units for axis in axes for block in resolved(axis) for units in block)
    found = {units: list(range(units.size)) for units in every if units in free}
    for order in found.values():
        draw.shuffle(order)
    return found


def order_of(axis, permutations):
    """Which position comes to each place, by plain loops."""
    found, start = [], 0
    for block in resolved(axis):
        for places in itertools.product(*(permutations.get(units, range(units.size)) for units in block)):
            at = 0
            for units, place in zip(block, places, strict=True):
                at = at * units.size + place
            found.append(start + at)
        start += math.prod(units.size for units in block)
    return found


@given(seed=SEEDS)
def test_axes_that_were_tied_are_in_one_order_whatever_their_units_do(seed):
    draw = Random(seed)
    size = draw.choice([4, 6, 8, 12, 24, 30])
    one, other = random_axis(draw, size), random_axis(draw, size)
    unify(one, other, "test")
    permutations = random_permutations(draw, one, other)
    assert order_of(one, permutations) == order_of(other, permutations)
    assert sorted(order_of(one, permutations)) == list(range(size))


@given(seed=SEEDS)
def test_many_axes_that_were_tied_are_in_one_order(seed):
    draw = Random(seed)
    size = draw.choice([6, 12, 24])
    every = [random_axis(draw, size) for _ in range(5)]
    for one, other in itertools.pairwise(draw.sample(every, 5)):
        unify(one, other, "test")
    permutations = random_permutations(draw, *every)
    assert len({tuple(order_of(axis, permutations)) for axis in every}) == 1


@given(seed=SEEDS)
def test_a_product_a_concatenation_and_a_part_are_in_the_order_of_their_axes(seed):
    draw = Random(seed)
    one, other = random_axis(draw, 6), random_axis(draw, 4)
    flat, chain, middle = product(one, other), joined(one, other), part(one, 2, 5, "test")
    permutations = random_permutations(draw, one, other, flat, chain, middle)
    first, second = order_of(one, permutations), order_of(other, permutations)
    assert order_of(flat, permutations) == [4 * a + b for a in first for b in second]
    assert order_of(chain, permutations) == [*first, *(6 + b for b in second)]
    assert order_of(middle, permutations) == [a - 2 for a in first[2:5]]


def sizes(axis):
    return [[units.size if units.reason is None else 0 for units in block] for block in resolved(axis)]


def test_two_free_axes_stay_free():
    one, other = free(6), free(6)
    unify(one, other, "test")
    assert resolved(one) == resolved(other)
    assert sizes(one) == [[6]]


def test_a_free_axis_takes_any_structure():
    structure = joined(free(3), product(fixed(2, "test"), free(3)), product(free(3), fixed(5, "test")))
    one = free(length(structure))
    unify(one, structure, "test")
    assert resolved(one) == resolved(structure)
    assert sizes(one) == [[3], [0, 3], [3, 0]]


def test_blocks_are_cut_where_the_other_axis_is():
    one, other = joined(free(4), free(8)), joined(free(6), free(6))
    unify(one, other, "test")
    assert sizes(one) == sizes(other) == [[4], [2], [6]]


def test_a_block_whose_units_are_wider_than_a_cut_stays_in_order():
    one, other = product(free(2), fixed(3, "pixels")), joined(free(2), free(4))
    unify(one, other, "a sum")
    assert {units.reason for block in resolved(one) for units in block} <= {"a sum", "pixels"}


def test_what_is_left_in_order_says_why_and_stays_so():
    one = free(4)
    freeze(one, "the first reason")
    freeze(one, "another")
    other = free(4)
    unify(other, one, "a sum")
    assert resolved(other)[0][0].reason == "the first reason"


def test_axes_of_two_lengths_stay_in_order():
    one, other = free(3), free(4)
    unify(one, other, "test")
    assert sizes(one) == sizes(other) == [[0]]
