import copy
import math
from collections import namedtuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mpi_landscape.errors import LandscapeError
from mpi_landscape.training.loop import DivergedError, Recipe, moved, train

CPU = torch.device("cpu")
NUM_EXAMPLES = 7


class Recorded:
    """Items that remember in which order they were asked for."""

    def __init__(self, items):
        self.items, self.asked = items, []

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        self.asked.append(index)
        return self.items[index]


def regression(count=NUM_EXAMPLES, seed=0):
    generator = np.random.default_rng(seed)
    return Recorded([(generator.normal(size=3), generator.normal()) for _ in range(count)])


def classification(count=NUM_EXAMPLES):
    generator = torch.Generator().manual_seed(1)
    return Recorded([(torch.randn(3, generator=generator), index % 2) for index in range(count)])


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


def recipe(**changes):
    return Recipe(**{"epochs": 2, "batch_size": 3, "learning_rate": 0.1, **changes})


def run(model, loss, data, how, **others):
    return list(train(model, loss, {"train": data, **others}, how, CPU))


def by_hand(weights, data, orders, how):
    """Stochastic gradient descent in numpy; yields (rate, weights) after each epoch.

    Momentum as in Sutskever et al. 2013 and torch.optim.SGD's documentation: v = mu v + g; w = w - rate v,
    or, with Nesterov, w = w - rate (g + mu v); weight decay is part of g.
    """
    inputs = np.array([np.append(x, 1.0) for x, _ in data.items])  # the bias is the last weight
    targets = np.array([y for _, y in data.items])
    velocity, rate = np.zeros(4), how.learning_rate
    for number, order in enumerate(orders, start=1):
        for start in range(0, len(order), how.batch_size):
            chosen = order[start : start + how.batch_size]
            x, y = inputs[chosen], targets[chosen]
            gradient = 2 * x.T @ (x @ weights - y) / len(chosen) + how.weight_decay * weights
            velocity = how.momentum * velocity + gradient
            step = gradient + how.momentum * velocity if how.nesterov else velocity
            weights = weights - rate * step
        yield rate, weights
        rate *= how.factor if number in how.milestones else 1


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"momentum": 0.9},
        {"momentum": 0.9, "nesterov": True},
        {"weight_decay": 0.05},
        {"momentum": 0.7, "nesterov": True, "weight_decay": 0.02, "batch_size": 2},
        {"milestones": (1, 3), "factor": 0.25, "momentum": 0.5},
        {"batch_size": 100},
    ],
)
def test_training_is_gradient_descent_written_out_by_hand(changes):
    how = recipe(**{"epochs": 4, "learning_rate": 0.03, **changes})
    data, other = regression(), regression(5, seed=9)
    model = affine()
    weights = np.append(model.weight.detach().numpy(), model.bias.detach().numpy())
    seen = []
    for epoch in train(model, squared_error, {"train": data, "test": other}, how, CPU):
        seen.append((epoch, torch.cat([model.weight.flatten(), model.bias]).detach().numpy().copy()))
    # The set is looked at once, then alternately trained on and looked at.
    turns = [data.asked[start : start + NUM_EXAMPLES] for start in range(0, len(data.asked), NUM_EXAMPLES)]
    assert turns[0::2] == [list(range(NUM_EXAMPLES))] * 5
    expected = [(0.0, weights), *by_hand(weights, data, turns[1::2], how)]
    assert [epoch.number for epoch, _ in seen] == [0, 1, 2, 3, 4]
    for (epoch, found), (rate, wanted) in zip(seen, expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-12)
        assert epoch.learning_rate == pytest.approx(rate, rel=1e-12)
        assert epoch.weight_norm == pytest.approx(np.sqrt((wanted**2).sum()), rel=1e-12)
        for split, items in (("train", data.items), ("test", other.items)):
            losses = [(x @ wanted[:3] + wanted[3] - y) ** 2 for x, y in items]
            assert epoch.values[f"{split}_loss"] == pytest.approx(np.mean(losses), rel=1e-12)
            assert math.isnan(epoch.values[f"{split}_accuracy"])


def orders(seed, epochs=3):
    data = regression()
    run(affine(), squared_error, data, recipe(seed=seed, epochs=epochs))
    turns = [data.asked[start : start + NUM_EXAMPLES] for start in range(0, len(data.asked), NUM_EXAMPLES)]
    return turns[1::2]


def test_every_example_comes_once_an_epoch_in_an_order_of_the_seed_alone():
    torch.manual_seed(100)
    first = orders(5)
    torch.manual_seed(200)
    assert orders(5) == first
    assert orders(6) != first
    assert len({tuple(order) for order in first}) == 3
    assert all(sorted(order) == list(range(NUM_EXAMPLES)) for order in first)


def test_the_same_training_gives_the_same_bits():
    def weights():
        torch.manual_seed(3)
        model = nn.Sequential(nn.Linear(3, 5), nn.Dropout(0.5), nn.Linear(5, 2))
        run(model, cross_entropy, classification(), recipe())
        return [parameter.tolist() for parameter in model.parameters()]

    assert weights() == weights()


def test_looking_at_another_split_does_not_change_the_training():
    def weights(**others):
        torch.manual_seed(3)
        model = nn.Sequential(nn.Linear(3, 5), nn.Dropout(0.5), nn.Linear(5, 2))
        run(model, cross_entropy, classification(), recipe(), **others)
        return [parameter.tolist() for parameter in model.parameters()]

    assert weights() == weights(test=classification(4), validation=classification(3))


class Modes(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner, self.seen = nn.Linear(3, 2), []

    def forward(self, inputs):
        self.seen.append((self.training, torch.is_grad_enabled(), len(inputs)))
        return self.inner(inputs)


def test_steps_are_in_training_mode_and_looks_in_evaluation_mode_without_gradients():
    model = Modes().eval()
    run(model, cross_entropy, classification(), recipe(epochs=1), test=classification(2))
    look = [(False, False, 7), (False, False, 2)]
    assert model.seen == [*look, (True, True, 3), (True, True, 3), (True, True, 1), *look]


def test_looking_leaves_running_statistics_alone():
    model = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 2))
    before = copy.deepcopy(model.state_dict())
    (initial,) = run(model, cross_entropy, classification(), recipe(epochs=0))
    assert initial.number == 0
    assert all(torch.equal(model.state_dict()[name], value) for name, value in before.items())


def test_each_epoch_is_yielded_before_the_next_one_begins():
    model = affine()
    steps = train(model, squared_error, {"train": regression()}, recipe(epochs=2), CPU)
    kept = []
    for _ in steps:
        kept.append(model.weight.tolist())
    assert len({str(weights) for weights in kept}) == 3


def test_accuracy_is_the_fraction_of_correct_examples_of_each_split():
    model = nn.Linear(3, 2)
    data, other = classification(7), classification(600)  # more than one batch to look at
    (epoch,) = run(model, cross_entropy, data, recipe(epochs=0), test=other)
    for split, items in (("train", data.items), ("test", other.items)):
        with torch.no_grad():
            right = [model(x).argmax().item() == y for x, y in items]
        assert epoch.values[f"{split}_accuracy"] == sum(right) / len(right)


@pytest.mark.parametrize("form", ["tensor", "mapping", "None"])
def test_a_loss_without_correct_answers_gives_no_accuracy(form):
    def loss(model, batch):
        value = cross_entropy(model, batch)["loss"]
        return {"tensor": value, "mapping": {"loss": value}, "None": {"loss": value, "correct": None}}[form]

    epochs = run(nn.Linear(3, 2), loss, classification(), recipe(epochs=1))
    assert all(math.isnan(epoch.values["train_accuracy"]) for epoch in epochs)
    assert all(math.isfinite(epoch.values["train_loss"]) for epoch in epochs)


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
def test_batches_may_be_of_every_form_that_the_default_collation_makes(pack, unpack):
    data = Recorded([pack(x, y) for x, y in classification().items])
    torch.manual_seed(0)
    ours = nn.Linear(3, 2)
    other = copy.deepcopy(ours)
    run(ours, lambda model, batch: cross_entropy(model, unpack(batch)), data, recipe())
    run(other, cross_entropy, classification(), recipe())
    assert torch.equal(ours.weight, other.weight)


def test_data_in_float64_trains_a_float32_network():
    # numpy's default, and what the default collation makes of Python's floats.
    model = affine(dtype=torch.float32)
    exact = affine()
    exact.load_state_dict({name: value.double() for name, value in model.state_dict().items()})
    run(model, squared_error, regression(), recipe())
    run(exact, squared_error, regression(), recipe())
    assert model.weight.dtype == torch.float32
    torch.testing.assert_close(model.weight.double(), exact.weight, rtol=1e-5, atol=1e-6)


def test_a_loss_that_is_not_finite_ends_the_training_and_says_where():
    data = regression()
    data.items[2] = (np.zeros(3), np.inf)
    model = affine()
    steps = train(model, squared_error, {"train": data}, recipe(batch_size=1), CPU)
    assert next(steps).values["train_loss"] == np.inf  # as it is: nothing was trained yet
    with pytest.raises(DivergedError) as caught:
        next(steps)
    step = data.asked[NUM_EXAMPLES:].index(2) + 1
    assert str(caught.value) == f"the loss is inf at step {step} of epoch 1"
    assert isinstance(caught.value, LandscapeError)
    assert torch.isfinite(model.weight).all()  # the step was not made


def test_an_epoch_whose_last_step_went_too_far_is_not_yielded():
    # One step an epoch: its own loss is finite, that after it is not.
    model = affine(dtype=torch.float32)
    steps = train(
        model, squared_error, {"train": regression()}, recipe(batch_size=7, learning_rate=1e30), CPU
    )
    assert math.isfinite(next(steps).values["train_loss"])
    with pytest.raises(DivergedError, match=r"^the training loss is (inf|nan) after epoch 1$"):
        next(steps)


def test_a_test_loss_may_be_infinite():
    other = regression(3)
    other.items[0] = (np.zeros(3), np.inf)
    epochs = run(affine(), squared_error, regression(), recipe(), test=other)
    assert [epoch.values["test_loss"] for epoch in epochs] == [np.inf] * 3


def test_frozen_parameters_stay():
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    model[0].weight.requires_grad_(False)
    before = copy.deepcopy(model.state_dict())
    run(model, cross_entropy, classification(), recipe(weight_decay=0.1))
    changed = [not torch.equal(model.state_dict()[name], value) for name, value in before.items()]
    assert changed == [False, True, True, True]


def test_tied_weights_count_once_in_the_norm():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False)
            self.second.weight = self.first.weight

        def forward(self, inputs):
            return self.second(self.first(inputs))

    model = Tied()
    (epoch,) = run(model, cross_entropy, classification(), recipe(epochs=0))
    assert epoch.weight_norm == pytest.approx(model.first.weight.double().norm().item(), rel=1e-12)


def test_moving_a_batch_changes_the_precision_of_real_numbers_only():
    batch = {
        "image": torch.ones(2, 3, dtype=torch.float64),
        "label": torch.tensor([1, 2]),
        "pixels": torch.tensor([3, 4], dtype=torch.uint8),
        "names": ["a", "b"],
        "pair": Pair(torch.ones(2, dtype=torch.float16), "c"),
        "list": [torch.ones(2), 5],
    }
    result = moved(batch, CPU)
    kinds = {name: result[name].dtype for name in ("image", "label", "pixels")}
    assert kinds == {"image": torch.float32, "label": torch.int64, "pixels": torch.uint8}
    assert result["names"] == ["a", "b"]
    assert type(result["pair"]) is Pair
    assert (result["pair"].image.dtype, result["pair"].label) == (torch.float32, "c")
    assert result["list"][1] == 5
    assert moved(batch, CPU, torch.float64)["image"].dtype == torch.float64
