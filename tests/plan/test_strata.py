"""Strata: every example once, whole batches, and fewer examples for the same standard error."""

import doctest

import numpy as np
import pytest

from mpi_landscape.plan import samples, strata
from mpi_landscape.plan.strata import stratify

RNG = np.random.default_rng(5)
HEAVY = RNG.lognormal(0, 2, (2, 1030))
TABLE = [
    (HEAVY, 6, 10, 40, 6, "heavy tails on two trial points"),
    (HEAVY[:1], 4, 16, 64, 4, "one trial point, a last batch that is not whole"),
    (HEAVY, 30, 10, 200, 5, "no more strata than have room for the least"),
    (np.ones((2, 1030)), 6, 10, 40, 1, "all alike: nothing to cut"),
    (np.zeros((1, 50)), 3, 10, 10, 1, "no loss at all: a mean of zero"),
    (np.where(HEAVY > 20, np.inf, HEAVY), 6, 10, 40, 6, "infinite losses count as the largest finite one"),
    (np.where(HEAVY > 20, np.nan, HEAVY), 6, 10, 40, 6, "so do losses that are NaN"),
]


@pytest.mark.parametrize("module", [samples, strata])
def test_examples_in_docstrings_are_true(module):
    assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize(("losses", "num", "step", "least", "expected", "reason"), TABLE)
def test_every_example_is_in_one_stratum_of_whole_batches(losses, num, step, least, expected, reason):
    strata = stratify(losses, num=num, step=step, least=least)
    assert len(strata) == expected, reason
    assert sorted(np.concatenate(strata).tolist()) == list(range(losses.shape[1])), reason
    assert all(members.size % step == 0 for members in strata[:-1]), reason
    assert all(members.size >= least for members in strata), reason


def test_strata_lower_the_standard_error_at_every_trial_point():
    strata = stratify(HEAVY, num=8, step=10, least=40)
    spread = sum(members.size * HEAVY[:, members].std(axis=1) for members in strata)
    assert (spread < 0.5 * HEAVY.shape[1] * HEAVY.std(axis=1)).all()


def test_the_examples_that_carry_the_loss_are_by_themselves():
    losses = np.full((1, 1000), 0.01)
    losses[0, 200:240] = 100 + np.arange(40)
    strata = stratify(losses, num=2, step=20, least=40)
    assert sorted(members.tolist() for members in strata) == [
        [*range(200), *range(240, 1000)],
        list(range(200, 240)),
    ]
