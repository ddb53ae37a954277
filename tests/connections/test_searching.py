"""One step of each search against a plain loop in torch, and where pivots are inserted."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from mpi_landscape.configuration.sections.connect import Cycle
from mpi_landscape.connections.searching.band import Band, Insertion, insertions, tangent
from mpi_landscape.connections.searching.string import String
from mpi_landscape.connections.searching.trained import TrainedCurve, rate_at
from tests.connections.conftest import passes_of
from tests.connections.test_curve import plain_redistribution

RATE, DECAY, MOMENTUM = 0.1, 0.01, 0.9
X, Y = torch.randn(12, 4, generator=torch.Generator().manual_seed(1)), torch.arange(12) % 3


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))


def loss(model, batch):
    return nn.functional.cross_entropy(model(batch[0]), batch[1], reduction="none")


@pytest.fixture
def passes():
    start, end = network(1), network(2)
    return passes_of(start, loss, start.state_dict(), end.state_dict(), X, Y, batch_size=6, piece_size=3)


def mean_loss(vector, examples):
    """Of a flat vector, by a network into which it is put with its graph."""
    model = network()
    tensors, place = {}, 0
    for name, each in model.named_parameters():
        tensors[name] = vector[place : place + each.numel()].view(each.shape)
        place += each.numel()
    hidden = torch.tanh(X[examples] @ tensors["0.weight"].T + tensors["0.bias"])
    outputs = hidden @ tensors["2.weight"].T + tensors["2.bias"]
    return nn.functional.cross_entropy(outputs, Y[examples])


def ends(passes):
    return passes.space.vector(passes.space.start), passes.space.vector(passes.space.end)


def examples_of(passes, step):
    """Whose numbers are in the batches of the feed, in its own order: found by their values."""
    rows = torch.cat([batch[0] for batch in passes.batches.read(step)])
    return [int((row == X).all(dim=1).nonzero()) for row in rows]


@pytest.mark.parametrize("kind", ["bezier", "chain"])
def test_steps_of_a_curve_are_those_of_sgd_through_its_formula(kind, passes):
    a, b = ends(passes)
    search = TrainedCurve(
        a, b, kind=kind, epochs=4, steps_per_epoch=2, pieces=[2, 2], learning_rate=RATE, momentum=MOMENTUM,
        weight_decay=DECAY, seed=5,
    )  # fmt: skip
    bend = nn.Parameter((a + b) / 2)
    optimizer = torch.optim.SGD([bend], RATE, MOMENTUM)
    for step in range(3):
        tasks = search.next_round().tasks
        assert 0 <= tasks[0].t < 0.5 <= tasks[1].t < 1
        examples = examples_of(passes, step)
        optimizer.zero_grad()
        total = torch.zeros(())
        for task, own in zip(tasks, (examples[:3], examples[3:]), strict=True):
            t = task.t
            if kind == "bezier":
                point = (1 - t) ** 2 * a + 2 * t * (1 - t) * bend + t**2 * b
            else:
                point = a + (bend - a) * 2 * t if t < 0.5 else bend + (b - bend) * (2 * t - 1)
            total = total + (mean_loss(point, own) + DECAY / 2 * point.square().sum()) / 2
        total.backward()
        optimizer.step()
        search.take(passes.answers(search.curve, search.next_round()))
        torch.testing.assert_close(search.curve.controls[1], bend.detach(), rtol=1e-5, atol=1e-6)
    assert torch.equal(search.curve.controls[0], a)
    assert torch.equal(search.curve.controls[2], b)


def test_the_points_of_a_curve_are_uniform_over_it():
    search = TrainedCurve(
        torch.zeros(1), torch.ones(1), kind="bezier", epochs=1, steps_per_epoch=4000, pieces=[1] * 4000,
        learning_rate=1.0, momentum=0.0, weight_decay=0.0, seed=3,
    )  # fmt: skip
    found = []
    for step in range(4000):
        search.step = step
        found.append(search.next_round().tasks[0].t)
    # Of 4000 uniform numbers, tenths hold 400 ± 19.
    counts, _ = np.histogram(found, bins=10, range=(0, 1))
    assert abs(counts - 400).max() < 5 * 19
    assert len(set(found)) == 4000


def test_the_learning_rate_of_a_curve_falls_as_garipovs_does():
    # Their train.py: constant until a half, linearly to a hundredth until 0.9.
    assert [rate_at(0.05, each) for each in (0, 0.25, 0.5)] == [0.05] * 3
    np.testing.assert_allclose(rate_at(0.05, 0.7), 0.05 * (1 - 0.5 * 0.99))
    np.testing.assert_allclose([rate_at(0.05, each) for each in (0.9, 0.95)], 0.0005)


def gradient_at(vector, examples):
    point = vector.clone().requires_grad_()
    mean_loss(point, examples).backward()
    return point.grad


def test_a_step_of_a_string_is_descent_of_every_pivot_and_equal_distances(passes):
    a, b = ends(passes)
    search = String(a, b, pivots=3, steps=5, learning_rate=RATE, momentum=MOMENTUM, weight_decay=DECAY)
    plain, velocity = search.curve.controls.clone(), torch.zeros(3, len(a))
    for step in range(2):
        examples = examples_of(passes, step)
        for index in (1, 2, 3):
            velocity[index - 1] = (
                MOMENTUM * velocity[index - 1] + gradient_at(plain[index], examples) + DECAY * plain[index]
            )
        plain[1:4] -= RATE * velocity
        plain = torch.from_numpy(plain_redistribution(plain, [0.25] * 4))
        search.take(passes.answers(search.curve, search.next_round()))
        torch.testing.assert_close(search.curve.controls, plain.float(), rtol=1e-5, atol=1e-6)


def test_a_step_of_a_band_is_descent_across_the_path(passes):
    a, b = ends(passes)
    search = Band(
        a, b, pivots=2, cycles=[Cycle(steps=3, learning_rate=RATE)],
        insertion=Insertion(threshold=0.1, between=3, most_pivots=9), momentum=0.0, weight_decay=0.0,
        spring_constant=None,
    )  # fmt: skip
    plain, examples = search.curve.controls.clone(), examples_of(passes, 0)
    losses = [mean_loss(each, examples).item() for each in plain]
    moved = plain.clone()
    for index in (1, 2):
        direction = tangent(plain[index - 1 : index + 2], losses[index - 1 : index + 2])
        gradient = gradient_at(plain[index], examples)
        across = gradient - direction * (gradient @ direction)
        assert abs(across @ direction) < 1e-5
        moved[index] -= RATE * across
    search.take(passes.answers(search.curve, search.next_round()))
    wanted = plain_redistribution(moved, [1 / 3] * 3)
    torch.testing.assert_close(search.curve.controls, torch.from_numpy(wanted).float(), rtol=1e-5, atol=1e-6)


THREE = torch.tensor([[0.0, 0.0], [2.0, 0.0], [2.0, 4.0]])
BACK, FORTH = torch.tensor([2.0, 0.0]), torch.tensor([0.0, 4.0])
# Henkelman and Jónsson 2000, equations 8 to 11.
TANGENTS = {
    "uphill": ([0.0, 1.0, 2.0], FORTH),
    "downhill": ([2.0, 1.0, 0.0], BACK),
    "a maximum, the end higher": ([0.0, 3.0, 1.0], 3 * FORTH + 2 * BACK),
    "a maximum, the start higher": ([1.0, 3.0, 0.0], 2 * FORTH + 3 * BACK),
    "a minimum, the end higher": ([1.0, 0.0, 4.0], 4 * FORTH + 1 * BACK),
    "flat": ([1.0, 1.0, 1.0], FORTH + BACK),
}


@pytest.mark.parametrize(("losses", "wanted"), TANGENTS.values(), ids=TANGENTS)
def test_the_tangent_points_uphill(losses, wanted):
    torch.testing.assert_close(tangent(THREE, losses), wanted / wanted.norm())


# Two gaps, three points between; the range of losses is 10.
INSERTIONS = {
    "on the straight line": ([0, 1, 2, 3, 4, 5.5, 7, 8.5, 10], 2, {}),
    "one above": ([0, 1, 5, 3, 4, 5.5, 7, 8.5, 10], 2, {0: 2}),
    "below does not count": ([0, 1, -5, 3, 4, 5.5, 5, 8.5, 10], 2, {}),
    "both": ([0, 4, 5, 3, 4, 5.5, 7, 10, 10], 2, {0: 1, 1: 3}),
    "the higher one, where one may be": ([0, 4, 3, 3, 4, 5.5, 7, 9.9, 10], 1, {0: 1}),
    "none may be": ([0, 4, 3, 3, 4, 5.5, 7, 9.9, 10], 0, {}),
    "too little": ([0, 1.9, 2, 3, 4, 5.5, 7, 8.5, 10], 2, {}),
}


@pytest.mark.parametrize(("losses", "most", "wanted"), INSERTIONS.values(), ids=INSERTIONS)
def test_pivots_go_where_the_loss_lies_above_the_straight_line(losses, most, wanted):
    assert insertions([float(each) for each in losses], 3, threshold=0.1, most=most) == wanted


def test_an_inserted_pivot_changes_no_point_of_the_path_and_keeps_its_place(passes):
    a, b = ends(passes)
    search = Band(
        a, b, pivots=1, cycles=[Cycle(steps=2, learning_rate=0.5)] * 2,
        insertion=Insertion(threshold=1e-9, between=3, most_pivots=2), momentum=0.9, weight_decay=0.0,
        spring_constant=None,
    )  # fmt: skip
    for _ in range(2):
        search.take(passes.answers(search.curve, search.next_round()))
    before, asked = search.curve, search.next_round()
    assert asked.step is None
    assert [task.t for task in asked.tasks] == [0, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1]
    search.take(passes.answers(before, asked))
    after = search.curve
    assert len(after.controls) == 4
    for t in np.linspace(0, 1, 9):
        torch.testing.assert_close(after.point(float(t)), before.point(float(t)))
    (new,) = set(after.places) - set(before.places)
    search.take(passes.answers(search.curve, search.next_round()))
    assert search.curve.places == pytest.approx(after.places)
    assert new in search.curve.places or np.isclose(search.curve.places, new).any()
