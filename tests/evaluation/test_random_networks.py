"""Random networks of every kind, against the networks themselves, moved in place."""

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mpi_landscape.evaluation.engine.description import PLAIN
from mpi_landscape.evaluation.engine.steps import USUAL
from tests.evaluation import random_networks
from tests.evaluation.random_blocks import IMAGES, ODD_IMAGES
from tests.evaluation.random_heads import BEGINNINGS, LOSSES
from tests.evaluation.random_networks import TOLERANCE, difference, evaluated, oracle, problem_of, tried

SEEDS = st.integers(0, 2**20)


def check(seed):
    problem = problem_of(seed)
    finding = tried(problem, seed)
    assert finding.worst <= TOLERANCE[problem.dtype], (problem.name, finding)
    return finding


@settings(max_examples=12)
@given(seed=SEEDS)
def test_the_engine_of_a_random_network_gives_every_example_the_loss_of_the_network_moved_in_place(seed):
    check(seed)


@pytest.mark.exhaustive
@pytest.mark.slow
@settings(max_examples=300)
@given(seed=SEEDS)
def test_the_engines_of_hundreds_of_random_networks_do(seed):
    check(seed)


def test_random_networks_are_small_and_of_every_kind():
    found = Counter()
    for seed in range(300):
        problem = problem_of(seed)
        found.update(problem.name.split())
        assert problem.setting.layout.size < 2000
    assert set(found) == {*BEGINNINGS, *IMAGES, *ODD_IMAGES, *LOSSES}


def test_random_networks_get_engines_of_every_usual_step():
    taken = Counter(step.name for seed in range(13) for step, _ in check(seed).engine.taken)
    assert set(taken) == set(USUAL)


def test_the_oracle_leaves_the_network_at_its_center_and_moves_every_parameter():
    problem = problem_of(3)
    before = {name: value.clone() for name, value in problem.setting.model.state_dict().items()}
    points = problem.points(3)
    losses = oracle(problem, points, torch.float32)
    after = problem.setting.model.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert len({tuple(row) for row in losses}) == len(points), "no two points have the same losses"


def test_a_wrong_loss_of_one_example_is_seen():
    problem = problem_of(3)
    points = problem.points(3)
    wanted = oracle(problem, points, problem.dtype)
    exact = oracle(problem, points, torch.float64)
    losses, _ = evaluated(problem, PLAIN, points)
    assert difference(losses, wanted, exact) <= TOLERANCE[problem.dtype]
    losses[7, 2] += 1e-3 * np.abs(wanted[7]).max()
    assert difference(losses, wanted, exact) > TOLERANCE[problem.dtype]


def test_the_program_prints_how_many_were_right(capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["random_networks", "--networks", "3"])
    random_networks.main()
    printed = capsys.readouterr().out
    assert "networks         3" in printed
    assert "wrong            0" in printed
