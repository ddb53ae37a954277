"""Sums in fixed point: against math.fsum, for terms of any size, and the same bits on any number of ranks."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from mpi_landscape.errors import AgreedError, LandscapeError
from mpi_landscape.parallel.fixed_point import Held, fits, summed
from mpi_landscape.parallel.ranks import Ranks
from mpi_landscape.parallel.stopping import Stopped
from tests.parallel.fixed_point_job import terms_of

CPU = torch.device("cpu")
JOB = Path(__file__).parent / "fixed_point_job.py"


def sum_of(terms, *, exponent=0):
    return summed(
        lambda: iter(terms),
        Ranks(),
        shape=tuple(terms[0].shape),
        num_terms=len(terms),
        exponent=exponent,
        device=CPU,
    )


@pytest.mark.parametrize("size", [1e30, 1.0, 1e-30, 1e-300, 1e300, 1e-310])
@pytest.mark.parametrize("exponent", [-900, 0, 900])
def test_a_sum_is_that_of_real_numbers_whatever_the_unit_was_thought_to_be(size, exponent):
    terms = [term * size for term in terms_of(7, 50)]
    found = sum_of(terms, exponent=exponent)
    exact = [math.fsum(float(term[place]) for term in terms) for place in range(50)]
    largest = max(float(term.abs().max()) for term in terms)
    # 61 bits below the largest term, of which 3 count the terms; numbers beyond the smallest normal one have fewer.
    assert np.abs(found.total.numpy() - exact).max() <= max(largest * 2.0**-52, 2.0**-1000)
    assert found.rounds <= 2
    assert sum_of(terms, exponent=found.exponent).rounds == 1


def test_the_bits_do_not_depend_on_the_order():
    terms = terms_of(9, 40)
    assert torch.equal(sum_of(terms).total, sum_of(terms[::-1]).total)


def test_small_numbers_beside_large_ones_are_lost_and_nothing_else():
    terms = [torch.tensor([1e30, 1e-30, 0.0]), torch.tensor([-1e30, 1e-30, 1e15])]
    # The unit of two terms below 2^100 is 2^40.
    np.testing.assert_allclose(sum_of(terms).total.numpy(), [0.0, 0.0, 1e15], rtol=0, atol=2.0**40)


def test_zeros_are_zero_and_say_nothing_of_the_next_sum():
    found = sum_of([torch.zeros(3), torch.zeros(3)], exponent=-17)
    assert (found.total.tolist(), found.exponent, found.rounds) == ([0.0] * 3, -17, 1)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_makes_the_whole_sum_none(bad):
    found = sum_of([torch.ones(3), torch.tensor([1.0, bad, 2.0])])
    assert found.total.isnan().all()


def test_no_sum_of_terms_that_fit_is_beyond_the_whole_numbers():
    for number in (1, 2, 3, 1000):
        held = Held((1,), num_terms=number, exponent=0, device=CPU)
        just_below = torch.tensor([1 - 2.0**-53], dtype=torch.float64)
        for _ in range(number):
            held.add(just_below)
        assert held.whole.item() > 0
        assert held.value(held.whole.numpy()).item() == pytest.approx(number)
    assert fits(1 - 2.0**-53, 0)
    assert not fits(1.0, 0)


def test_terms_that_grow_every_time_are_refused():
    size = iter(range(1, 100))

    def terms():
        yield torch.tensor([2.0 ** (100 * next(size))], dtype=torch.float64)

    with pytest.raises(AgreedError, match="another size every time"):
        summed(terms, Ranks(), shape=(1,), num_terms=1, exponent=0, device=CPU)


def test_a_refusal_and_a_stop_pass_through():
    def refusing():
        yield torch.ones(1)
        raise LandscapeError("no")

    def stopping():
        raise Stopped("SIGTERM")
        yield

    options = {"shape": (1,), "num_terms": 1, "exponent": 0, "device": CPU}
    with pytest.raises(LandscapeError, match="no"):
        summed(refusing, Ranks(), **options)
    with pytest.raises(Stopped, match="SIGTERM"):
        summed(stopping, Ranks(), **options)


@pytest.mark.parametrize("size", [2, 3, 5])
def test_any_number_of_ranks_has_the_same_bits(standing, size, tmp_path):
    done = standing(size, JOB, tmp_path / "sum.npy")
    assert done.returncode == 0, done.stderr
    # Seven terms: some ranks have more than others.
    alone = sum_of(terms_of(7, 1000))
    assert np.load(tmp_path / "sum.npy").tobytes() == alone.total.numpy().tobytes()
    assert f"rounds {alone.rounds} exponent {alone.exponent}" in done.stdout
    assert "refused rank" not in done.stdout
    assert done.stdout.count("all refuse: rank 1") == 1
    assert done.stdout.count("all stop: SIGUSR1 on rank 1") == 1
