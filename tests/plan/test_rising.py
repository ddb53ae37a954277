"""The distance at which a loss has risen: against closed forms, with few evaluations."""

from __future__ import annotations

import math

import pytest

from mpi_landscape.plan.rising import FARTHEST, NEAREST, risen


@pytest.mark.parametrize("steepness", [1e-6, 0.03, 0.9, 1.0, 1.1, 7.0, 4e5])
@pytest.mark.parametrize("power", [1, 2, 4])
def test_of_a_power_it_is_just_beyond_the_root(steepness, power):
    seen = []

    def loss(x):
        seen.append(x)
        return (steepness * x) ** power

    found, root = risen(loss, 10.0), 10 ** (1 / power) / steepness
    if root > FARTHEST:
        assert found is None
    else:
        assert root <= found * (1 + 1e-9)
        assert found <= root * 2**0.25 * 1.1
    assert len(seen) <= 4 + abs(math.log2(root))


def test_what_is_no_number_is_above_every_level():
    assert risen(lambda x: math.nan if x > 5 else x, 1e9) == pytest.approx(5, rel=0.3)
    assert risen(lambda x: math.inf if x > 0.01 else 0.0, 1.0) == pytest.approx(0.01, rel=0.3)


def test_a_loss_that_is_above_at_once_and_one_that_is_so_nowhere_end():
    assert risen(lambda x: 2.0, 1.0) <= 2.5 * NEAREST
    assert risen(lambda x: 0.0, 1.0) is None
