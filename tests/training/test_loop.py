import copy
import math
from collections import namedtuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import default_collate

from mpi_landscape.configuration.sections.training import Augmentation, Phase, Schedule
from mpi_landscape.errors import LandscapeError
from mpi_landscape.loading.form import form_of_items
from mpi_landscape.training.divergence import DivergedError
from mpi_landscape.training.feed import FeedFromLoader, make_feed
from mpi_landscape.training.loop import Training
from mpi_landscape.training.recipe import Recipe

CPU = torch.device("cpu")
NUM_EXAMPLES = 7


def squared_error(model, batch):
    return (model(batch[0]).squeeze(1) - batch[1]) ** 2


def cross_entropy(model, batch):
    outputs = model(batch[0])
    return {
        "loss": F.cross_entropy(outputs, batch[1], reduction="none"),
        "correct": outputs.argmax(dim=1) == batch[1],
    }


def affine(outputs=1, dtype=torch.float64):
    torch.manual_seed(4)
    return nn.Linear(3, outputs, dtype=dtype)


def recipe(*, seed=0, piece_size=None, **changes):
    phase = Phase(**{"epochs": 2, "optimizer": "sgd", "batch_size": 3, "learning_rate": 0.1, **changes})
    return Recipe(phases=(phase,), seed=seed, piece_size=piece_size)


def training(model, loss, splits, how, *, device=CPU, **options):
    """Of data sets that are read whenever an example is needed, so that they know in which order."""
    dtype = next(model.parameters()).dtype
    examples = {
        name: FeedFromLoader(form_of_items(name, dataset, dtype), device=CPU)
        for name, dataset in splits.items()
    }
    return Training(model, loss, examples, how, device=device, **options)


def run(model, loss, data, how, **others):
    return list(training(model, loss, {"train": data, **others}, how).epochs())


def by_hand(weights, data, orders, how):
    """Stochastic gradient descent in numpy; yields (rate, weights) after each epoch.

    Momentum as in Sutskever et al. 2013 and torch.optim.SGD's documentation: v = mu v + g; w = w - rate v,
    or, with Nesterov, w = w - rate (g + mu v); weight decay is part of g.
    """
    how = how.phases[0]
    size = len(data) if how.batch_size == "all" else how.batch_size
    inputs = np.array([np.append(x, 1.0) for x, _ in data.items])  # the bias is the last weight
    targets = np.array([y for _, y in data.items])
    velocity, rate = np.zeros(4), how.learning_rate
    for number, order in enumerate(orders, start=1):
        for start in range(0, len(order), size):
            chosen = order[start : start + size]
            x, y = inputs[chosen], targets[chosen]
            gradient = 2 * x.T @ (x @ weights - y) / len(chosen) + how.weight_decay * weights
            velocity = how.momentum * velocity + gradient
            step = gradient + how.momentum * velocity if how.nesterov else velocity
            weights = weights - rate * step
        yield rate, weights
        rate *= how.schedule.factor if number in how.schedule.milestones else 1


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"momentum": 0.9},
        {"momentum": 0.9, "nesterov": True},
        {"weight_decay": 0.05},
        {"momentum": 0.7, "nesterov": True, "weight_decay": 0.02, "batch_size": 2},
        {"schedule": Schedule(milestones=(1, 3), factor=0.25), "momentum": 0.5},
        {"batch_size": 100},
        {"batch_size": "all", "momentum": 0.9},
        {"batch_size": 5, "piece_size": 2},
        {"batch_size": "all", "piece_size": 3, "momentum": 0.9, "weight_decay": 0.05},
    ],
)
def test_training_is_gradient_descent_written_out_by_hand(changes, regression):
    how = recipe(**{"epochs": 4, "learning_rate": 0.03, **changes})
    data, other = regression(), regression(5, seed=9)
    model = affine()
    weights = np.append(model.weight.detach().numpy(), model.bias.detach().numpy())
    seen = []
    for epoch in training(model, squared_error, {"train": data, "test": other}, how).epochs():
        seen.append((epoch, torch.cat([model.weight.flatten(), model.bias]).detach().numpy().copy()))
    # The set is looked at once, then alternately trained on and looked at.
    turns = [data.asked[start : start + NUM_EXAMPLES] for start in range(0, len(data.asked), NUM_EXAMPLES)]
    assert turns[0::2] == [list(range(NUM_EXAMPLES))] * 5
    expected = [(0.0, weights), *by_hand(weights, data, turns[1::2], how)]
    assert [epoch.number for epoch, _ in seen] == [0, 1, 2, 3, 4]
    assert [epoch.phase for epoch, _ in seen] == [0] * 5
    assert all(epoch.seconds > 0 for epoch, _ in seen[1:])
    for (epoch, found), (rate, wanted) in zip(seen, expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-12)
        assert epoch.learning_rate == pytest.approx(rate, rel=1e-12)
        assert epoch.weight_norm == pytest.approx(np.sqrt((wanted**2).sum()), rel=1e-12)
        for split, items in (("train", data.items), ("test", other.items)):
            losses = [(x @ wanted[:3] + wanted[3] - y) ** 2 for x, y in items]
            assert epoch.values[f"{split}_loss"] == pytest.approx(np.mean(losses), rel=1e-12)
            assert math.isnan(epoch.values[f"{split}_accuracy"])


def orders(data, *, seed, epochs=3):
    data.asked.clear()
    run(affine(), squared_error, data, recipe(seed=seed, epochs=epochs))
    turns = [data.asked[start : start + NUM_EXAMPLES] for start in range(0, len(data.asked), NUM_EXAMPLES)]
    return turns[1::2]


def test_every_example_comes_once_an_epoch_in_an_order_of_the_seed_alone(regression):
    torch.manual_seed(100)
    first = orders(regression(), seed=5)
    torch.manual_seed(200)
    assert orders(regression(seed=3), seed=5) == first
    assert orders(regression(), seed=6) != first
    assert len({tuple(order) for order in first}) == 3
    assert all(sorted(order) == list(range(NUM_EXAMPLES)) for order in first)


def test_every_order_is_equally_likely(regression):
    data = regression(3)
    run(affine(), squared_error, data, recipe(epochs=600))
    turns = [tuple(data.asked[start : start + 3]) for start in range(0, len(data.asked), 3)][1::2]
    counts = [turns.count(order) for order in set(turns)]
    # Six orders, 100 each: five standard deviations.
    assert len(counts) == 6
    assert max(abs(count - 100) for count in counts) < 5 * np.sqrt(600 * 5 / 36)


def dropout():
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(3, 5), nn.Dropout(0.5), nn.Linear(5, 2))


def weights_after(model, data, how, **others):
    run(model, cross_entropy, data, how, **others)
    return [parameter.tolist() for parameter in model.parameters()]


def test_the_same_training_gives_the_same_bits(classification):
    first = weights_after(dropout(), classification(), recipe())
    model = dropout()
    torch.manual_seed(8)  # whatever was drawn before
    assert weights_after(model, classification(), recipe()) == first


def test_what_a_network_draws_follows_from_the_seed(classification):
    # One example: it has no order that could follow from the seed.
    first, second, third = (
        weights_after(dropout(), classification(1), recipe(seed=seed, epochs=10)) for seed in (0, 1, 0)
    )
    assert first != second
    assert first == third


def test_looking_at_another_split_does_not_change_the_training(classification):
    others = {"test": classification(4), "validation": classification(3)}
    first = weights_after(dropout(), classification(), recipe())
    assert weights_after(dropout(), classification(), recipe(), **others) == first


class Modes(nn.Module):
    """Remembers how it was called."""

    def __init__(self):
        super().__init__()
        self.inner, self.seen = nn.Linear(3, 2), []

    def forward(self, inputs):
        self.seen.append((self.training, torch.is_grad_enabled(), len(inputs)))
        return self.inner(inputs)


@pytest.mark.parametrize(
    ("changes", "sizes"),
    [
        ({}, [3, 3, 1]),
        ({"batch_size": "all"}, [7]),
        ({"batch_size": 5, "piece_size": 3}, [3, 2, 2]),
        ({"batch_size": "all", "piece_size": 3}, [3, 2, 2]),
        ({"piece_size": 100}, [3, 3, 1]),
    ],
)
def test_steps_are_in_training_mode_and_looks_in_evaluation_mode_without_gradients(
    changes, sizes, classification
):
    model = Modes().eval()
    run(model, cross_entropy, classification(), recipe(epochs=1, **changes), test=classification(2))
    look = [(False, False, 7), (False, False, 2)]
    assert model.seen == [*look, *((True, True, size) for size in sizes), *look]


@pytest.mark.parametrize("piece_size", [1, 2, 3, 5])
def test_pieces_of_a_batch_give_the_step_of_the_whole(piece_size, classification):
    def weights(size):
        torch.manual_seed(3)
        model = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2)).double()
        how = recipe(batch_size=5, momentum=0.9, epochs=5, piece_size=size)
        run(model, cross_entropy, classification(11), how)
        return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])

    torch.testing.assert_close(weights(piece_size), weights(None), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("piece_size", [1, 2, 3, None])
def test_a_batch_that_counts_in_parts_is_divided_by_all_that_counts_in_it(piece_size, classification):
    def counted(model, batch):
        weights = torch.tensor([0.0, 3.0], dtype=torch.float64)[batch[1]] + 0.5
        return {"loss": weights * cross_entropy(model, batch)["loss"], "count": weights}

    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2)).double()
    mine = copy.deepcopy(model)
    data = classification(7)
    run(model, counted, data, recipe(batch_size="all", epochs=3, learning_rate=0.3, piece_size=piece_size))
    inputs, labels = default_collate([data[i] for i in range(7)])
    inputs = inputs.double()
    criterion = nn.CrossEntropyLoss(weight=torch.tensor([0.5, 3.5], dtype=torch.float64))
    optimizer = torch.optim.SGD(mine.parameters(), 0.3)
    for _ in range(3):
        optimizer.zero_grad()
        criterion(mine(inputs), labels).backward()
        optimizer.step()
    for found, wanted in zip(model.parameters(), mine.parameters(), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-14)


class Parabola(nn.Module):
    def __init__(self, weights):
        super().__init__()
        self.weights = nn.Parameter(torch.tensor(weights, dtype=torch.float64))

    def forward(self, curvatures):
        return 0.5 * (curvatures * self.weights**2).sum(1)


def test_gradient_descent_on_all_examples_is_the_closed_form(recorded):
    # The mean loss is a parabola: w_k = (1 - rate * h)^k w_0, and the loss 0.5 h w^2.
    curvatures = np.random.default_rng(0).uniform(0.1, 3.0, size=(5, 3))
    mean, start, rate = curvatures.mean(axis=0), np.array([1.0, -2.0, 0.5]), 0.3
    model = Parabola(start)
    data = recorded([(row,) for row in curvatures])
    how = recipe(epochs=20, batch_size="all", learning_rate=rate)
    epochs = training(model, lambda network, batch: network(batch[0]), {"train": data}, how).epochs()
    for count, epoch in enumerate(epochs):
        wanted = (1 - rate * mean) ** count * start
        np.testing.assert_allclose(model.weights.detach().numpy(), wanted, rtol=1e-12)
        assert epoch.values["train_loss"] == pytest.approx(0.5 * (mean * wanted**2).sum(), rel=1e-12)
    assert count == 20


FIRST = Phase(epochs=2, optimizer="sgd", batch_size=3, learning_rate=0.1, momentum=0.9, nesterov=True)
SECOND = Phase(
    epochs=3,
    optimizer="adam",
    batch_size=5,
    learning_rate=0.01,
    schedule=Schedule(milestones=(1,)),
    weight_decay=0.1,
)
REST = Phase(epochs=2, optimizer="sgd", batch_size=4, learning_rate=0.0)


def test_a_phase_begins_with_a_new_optimizer_and_the_network_of_the_one_before(classification):
    def train(model, *phases):
        return run(model, cross_entropy, classification(), Recipe(phases=phases))

    together, apart = dropout(), dropout()
    epochs = train(together, FIRST, SECOND)
    train(apart, FIRST)
    # Epochs that do not move the network: so that those of the second phase have the numbers that they draw from.
    alone = train(apart, REST, SECOND)
    assert [epoch.phase for epoch in epochs] == [0, 0, 0, 1, 1, 1]
    assert [epoch.learning_rate for epoch in epochs] == [0.0, 0.1, 0.1, 0.01, 0.001, 0.001]
    assert [epoch.number for epoch in epochs] == list(range(6))
    assert [epoch.values for epoch in epochs[3:]] == [epoch.values for epoch in alone[3:]]
    for first, second in zip(together.parameters(), apart.parameters(), strict=True):
        assert torch.equal(first, second)


def test_images_are_augmented_in_training_as_the_phase_says_and_never_when_looked_at(pictures):
    seen = []

    def loss(model, batch):
        seen.append((model.training, batch[0].clone()))
        return model(batch[0].flatten(1)).square().sum(1)

    data = pictures(7)
    examples = {"train": make_feed("train", data, device=CPU, dtype=torch.float32)}
    phases = (
        Phase(epochs=1, optimizer="sgd", batch_size="all", learning_rate=0.0),
        Phase(
            epochs=2,
            optimizer="sgd",
            batch_size="all",
            learning_rate=0.0,
            augmentation=Augmentation(shift=2, flip=True),
        ),
    )
    list(Training(nn.Linear(60, 1), loss, examples, Recipe(phases=phases), device=CPU).epochs())
    assert [trained for trained, _ in seen] == [False, True, False, True, False, True, False]
    given = {str(data[index][0].tolist()) for index in range(7)}
    kept = [sum(str(image.tolist()) in given for image in images) for _, images in seen]
    # One in fifty stays where it was.
    assert kept[0::2] == [7, 7, 7, 7]
    assert kept[1] == 7
    assert max(kept[3], kept[5]) < 3
    assert not torch.equal(seen[3][1].sort(0).values, seen[5][1].sort(0).values)


def test_channels_last_changes_where_numbers_lie_and_not_what_they_are(pictures):
    layouts = []

    def loss(model, batch):
        layouts.append(batch[0].is_contiguous(memory_format=torch.channels_last))
        outputs = model(batch[0]).flatten(1)
        return F.cross_entropy(outputs, batch[1], reduction="none")

    def train(channels_last):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Conv2d(4, 3, (3, 4))).double()
        examples = {"train": make_feed("train", pictures(), device=CPU, dtype=torch.float64)}
        how = recipe(batch_size=4, augmentation=Augmentation(shift=1))
        epochs = list(Training(model, loss, examples, how, device=CPU, channels_last=channels_last).epochs())
        return model, epochs

    (plain, first), (other, second) = train(False), train(True)
    half = len(layouts) // 2
    assert layouts == [False] * half + [True] * half
    assert other[2].weight.is_contiguous(memory_format=torch.channels_last)
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(
            other.state_dict()[name], value, rtol=1e-10, atol=1e-12, check_stride=False
        )
    assert [epoch.weight_norm for epoch in first] == pytest.approx([epoch.weight_norm for epoch in second])


def test_each_epoch_is_yielded_before_the_next_one_begins(regression):
    model = affine()
    kept = [
        model.weight.tolist()
        for _ in training(model, squared_error, {"train": regression()}, recipe(epochs=2)).epochs()
    ]
    assert len({str(weights) for weights in kept}) == 3


def test_every_step_is_followed_by_what_goes_in_between(regression):
    model, seen = affine(), []
    run_it = training(model, squared_error, {"train": regression()}, recipe(epochs=2))
    list(run_it.epochs(lambda: seen.append((run_it.state()["epoch"], run_it.state()["step"]))))
    assert seen == [(0, 1), (0, 2), (0, 3), (1, 1), (1, 2), (1, 3)]


Pair = namedtuple("Pair", ["image", "label"])


@pytest.mark.parametrize(
    ("pack", "unpack"),
    [
        (lambda x, y: (x, y), lambda batch: batch),
        (lambda x, y: {"image": x, "label": y, "name": "text"}, lambda b: [b["image"], b["label"]]),
        (Pair, lambda batch: [batch.image, batch.label]),
        (lambda x, y: {"pair": Pair(x, y)}, lambda batch: [batch["pair"].image, batch["pair"].label]),
        (lambda x, y: ((x, "text"), y), lambda batch: [batch[0][0], batch[1]]),
    ],
)
def test_batches_may_be_of_every_form_that_the_default_collation_makes(
    pack, unpack, classification, recorded
):
    data = recorded([pack(x, y) for x, y in classification().items])
    torch.manual_seed(0)
    ours = nn.Linear(3, 2)
    other = copy.deepcopy(ours)
    run(ours, lambda model, batch: cross_entropy(model, unpack(batch)), data, recipe())
    run(other, cross_entropy, classification(), recipe())
    assert torch.equal(ours.weight, other.weight)


def test_data_in_float64_trains_a_float32_network(regression):
    # numpy's default, and what the default collation makes of Python's floats.
    model = affine(dtype=torch.float32)
    exact = affine()
    exact.load_state_dict({name: value.double() for name, value in model.state_dict().items()})
    run(model, squared_error, regression(), recipe())
    run(exact, squared_error, regression(), recipe())
    assert model.weight.dtype == torch.float32
    torch.testing.assert_close(model.weight.double(), exact.weight, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("piece_size", [None, 1])
def test_a_loss_that_is_not_finite_ends_the_training_and_says_where(piece_size, regression):
    data = regression()
    data.items[2] = (np.zeros(3), np.inf)
    model, kept = affine(), []
    how = recipe(batch_size=2, piece_size=piece_size)
    steps = training(model, squared_error, {"train": data}, how).epochs(
        lambda: kept.append(model.weight.tolist())
    )
    assert next(steps).values["train_loss"] == np.inf  # as it is: nothing was trained yet
    with pytest.raises(DivergedError) as caught:
        next(steps)
    step = data.asked[NUM_EXAMPLES:].index(2) // 2 + 1
    assert str(caught.value) == f"the loss is inf at step {step} of epoch 1"
    assert isinstance(caught.value, LandscapeError)
    assert len(kept) == step - 1
    assert model.weight.tolist() == (kept[-1] if kept else affine().weight.tolist())  # the step was not made


# The device says how often losses are read; the network may lie anywhere.
READ_SELDOM = torch.device("cuda")


class StopError(Exception):
    """What a program raises to stop."""


def test_where_losses_are_read_seldom_the_same_step_is_named(regression):
    data = regression()
    data.items[2] = (np.zeros(3), np.inf)
    steps = training(
        affine(), squared_error, {"train": data}, recipe(batch_size=1), device=READ_SELDOM
    ).epochs()
    next(steps)
    with pytest.raises(DivergedError) as caught:
        next(steps)
    step = data.asked[NUM_EXAMPLES : 2 * NUM_EXAMPLES].index(2) + 1
    assert str(caught.value) == f"the loss is inf at step {step} of epoch 1"


def test_where_losses_are_read_seldom_a_network_that_has_diverged_is_not_handed_out(regression):
    data = regression()
    data.items[:] = [(np.zeros(3), np.inf)] * NUM_EXAMPLES
    kept = []

    def keep():
        kept.append(run_it.state())

    def stop():
        raise StopError

    for between in (keep, stop):
        run_it = training(affine(), squared_error, {"train": data}, recipe(), device=READ_SELDOM)
        with pytest.raises(DivergedError, match="step 1 of epoch 1"):
            list(run_it.epochs(between))
    assert kept == []


def test_an_epoch_whose_last_step_went_too_far_is_not_yielded(regression):
    # One step an epoch: its own loss is finite, that after it is not.
    model = affine(dtype=torch.float32)
    how = recipe(batch_size="all", learning_rate=1e30)
    steps = training(model, squared_error, {"train": regression()}, how).epochs()
    assert math.isfinite(next(steps).values["train_loss"])
    with pytest.raises(DivergedError, match=r"^the training loss is (inf|nan) after epoch 1$"):
        next(steps)


def test_frozen_parameters_stay(classification):
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    model[0].weight.requires_grad_(False)
    before = copy.deepcopy(model.state_dict())
    run(model, cross_entropy, classification(), recipe(weight_decay=0.1))
    changed = [not torch.equal(model.state_dict()[name], value) for name, value in before.items()]
    assert changed == [False, True, True, True]
