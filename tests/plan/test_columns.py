"""Blocks of columns: each column once, whoever reads; and sums whose bits do not depend on who has which terms."""

import math
from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mpi_landscape.plan.columns import Columns
from mpi_landscape.plan.pairwise import Pairwise


@given(st.integers(1, 40_000_000), st.integers(1, 3000), st.integers(1, 40))
def test_every_column_is_read_once_by_one_rank(size, num_rows, ranks):
    columns = Columns(size=size, num_rows=num_rows)
    place = 0
    for rank in range(ranks):
        leaves = columns.of_rank(rank, ranks)
        assert columns.extent(leaves) == ((place, columns.extent(leaves)[1]) if leaves else (0, 0))
        for leaf in leaves:
            for start, stop in columns.leaf(leaf):
                assert start == place < stop <= start + columns.block
                place = stop
    assert place == size


@given(st.integers(1, 10_000), st.integers(1, 64))
def test_a_block_of_all_rows_is_small_and_what_a_file_is_asked_for_is_not(num_rows, ranks):
    columns = Columns(size=100_000_000, num_rows=num_rows)
    assert columns.block * num_rows * 4 <= 2**26 or columns.block == 2**12
    assert columns.block >= 2**12
    assert columns.num_leaves <= 256
    counts = [len(columns.of_rank(rank, ranks)) for rank in range(ranks)]
    assert max(counts) - min(counts) <= 1


@given(st.integers(1, 70), st.lists(st.integers(0, 70), max_size=6), st.randoms(use_true_random=False))
def test_sums_have_the_same_bits_however_the_terms_are_spread(num_terms, cuts, random):
    terms = [np.array([random.uniform(-1, 1) * 10 ** random.randint(-12, 12)]) for _ in range(num_terms)]
    alone = Pairwise(num_terms)
    for number, term in enumerate(terms):
        alone.add(number, term)
    ends = sorted({0, num_terms, *(min(cut, num_terms) for cut in cuts)})
    together = Pairwise(num_terms)
    for start, stop in pairwise(ends):
        one = Pairwise(num_terms)
        for number in range(start, stop):
            one.add(number, terms[number])
        one.take(together.held)
        together = one
    assert together.total.tobytes() == alone.total.tobytes()
    assert len(alone.held) == 1
    numbers = [float(term[0]) for term in terms]
    assert abs(alone.total[0] - math.fsum(numbers)) <= 1e-14 * math.fsum(map(abs, numbers))
