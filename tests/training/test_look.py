import copy
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mpi_landscape.configuration.sections.training import Phase
from mpi_landscape.training.feed import make_feed
from mpi_landscape.training.loop import Training
from mpi_landscape.training.recipe import Recipe

CPU = torch.device("cpu")


def cross_entropy(model, batch):
    outputs = model(batch[0])
    return {
        "loss": F.cross_entropy(outputs, batch[1], reduction="none"),
        "correct": outputs.argmax(dim=1) == batch[1],
    }


def training(model, splits, *, loss=cross_entropy, epochs=0, **options):
    examples = {
        name: make_feed(name, dataset, device=CPU, dtype=torch.float32) for name, dataset in splits.items()
    }
    phase = Phase(epochs=epochs, optimizer="sgd", batch_size=3, learning_rate=0.1)
    return Training(model, loss, examples, Recipe(phases=(phase,)), device=CPU, **options)


@pytest.mark.parametrize("look_size", [256, 7, 1000])
def test_loss_and_accuracy_are_means_over_the_examples_of_each_split(look_size, classification):
    model = nn.Linear(3, 2)
    splits = {"train": classification(7), "test": classification(600)}  # more than one batch to look at
    (epoch,) = training(model, splits, look_size=look_size).epochs()
    assert (epoch.number, epoch.phase, epoch.learning_rate, epoch.seconds) == (0, 0, 0.0, 0.0)
    assert list(epoch.values) == ["train_loss", "train_accuracy", "test_loss", "test_accuracy"]
    for split, dataset in splits.items():
        with torch.no_grad():
            outputs = [model(x).double() for x, _ in dataset.items]
        right = [z.argmax().item() == y for z, (_, y) in zip(outputs, dataset.items, strict=True)]
        losses = [(z.logsumexp(0) - z[y]).item() for z, (_, y) in zip(outputs, dataset.items, strict=True)]
        assert epoch.values[f"{split}_accuracy"] == sum(right) / len(right)
        assert epoch.values[f"{split}_loss"] == pytest.approx(np.mean(losses), rel=1e-6)


@pytest.mark.parametrize("form", ["tensor", "mapping", "None"])
def test_a_loss_without_correct_answers_gives_no_accuracy(form, classification):
    def loss(model, batch):
        value = cross_entropy(model, batch)["loss"]
        return {"tensor": value, "mapping": {"loss": value}, "None": {"loss": value, "correct": None}}[form]

    epochs = list(training(nn.Linear(3, 2), {"train": classification()}, loss=loss, epochs=1).epochs())
    assert len(epochs) == 2
    assert all(math.isnan(epoch.values["train_accuracy"]) for epoch in epochs)
    assert all(math.isfinite(epoch.values["train_loss"]) for epoch in epochs)


def test_a_test_loss_may_be_infinite(classification):
    other = classification(3)
    other.items[0] = (torch.full((3,), math.inf), 0)
    splits = {"train": classification(), "test": other}
    epochs = list(training(nn.Linear(3, 2), splits, epochs=2).epochs())
    assert [math.isfinite(epoch.values["test_loss"]) for epoch in epochs] == [False] * 3


def test_looking_leaves_running_statistics_alone(classification):
    model = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 2))
    before = copy.deepcopy(model.state_dict())
    (initial,) = training(model, {"train": classification()}).epochs()
    assert initial.number == 0
    assert all(torch.equal(model.state_dict()[name], value) for name, value in before.items())


def test_a_look_between_epochs_is_the_look_of_the_epoch(classification):
    here = training(nn.Linear(3, 2), {"train": classification(), "test": classification(5)}, epochs=2)
    for epoch in here.epochs():
        look = here.look()
        assert (look.number, look.phase, look.learning_rate) == (epoch.number, 0, epoch.learning_rate)
        assert (look.values, look.weight_norm) == (epoch.values, epoch.weight_norm)


def test_tied_weights_count_once_in_the_norm(classification):
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False)
            self.second.weight = self.first.weight

        def forward(self, inputs):
            return self.second(self.first(inputs))

    model = Tied()
    (epoch,) = training(model, {"train": classification()}).epochs()
    assert epoch.weight_norm == pytest.approx(model.first.weight.double().norm().item(), rel=1e-12)
