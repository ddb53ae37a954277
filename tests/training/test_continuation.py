"""Interrupted after any step and gone on with == never interrupted."""

import copy
import dataclasses
import io

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mpi_landscape.configuration.sections.training import Augmentation, Phase, Schedule
from mpi_landscape.training.feed import make_feed
from mpi_landscape.training.loop import Training
from mpi_landscape.training.recipe import Recipe

DEVICES = [
    "cpu",
    pytest.param(
        "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU with CUDA")
    ),
]
# 11 examples: steps 1 to 6 in two epochs, then 7 to 10 in two more.
PHASES = (
    Phase(
        epochs=2,
        optimizer="sgd",
        batch_size=4,
        learning_rate=0.1,
        momentum=0.9,
        nesterov=True,
        weight_decay=1e-3,
        schedule=Schedule(milestones=(1,)),
        augmentation=Augmentation(shift=1, flip=True),
    ),
    Phase(
        epochs=2,
        optimizer="adam",
        batch_size=6,
        learning_rate=0.01,
        weight_decay=1e-3,
        augmentation=Augmentation(shift=2),
    ),
)
NUM_STEPS = 10


class StopError(BaseException):
    """What stops a program, such as a signal."""


class Drawing(torch.utils.data.Dataset):
    """Pictures that the data set itself changes at random."""

    def __init__(self, pictures):
        self.pictures = pictures

    def __len__(self):
        return len(self.pictures)

    def __getitem__(self, index):
        image, label = self.pictures[index]
        return image + torch.rand(1) + np.random.rand(), label


class Noise(nn.Module):
    """Draws from numpy in training mode."""

    def forward(self, hidden):
        return hidden * (1 + 0.1 * np.random.rand()) if self.training else hidden


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Dropout(0.3),
        Noise(),
        nn.Flatten(),
        nn.Linear(48, 3),
    )


def cross_entropy(model, batch):
    outputs = model(batch[0])
    return {
        "loss": F.cross_entropy(outputs, batch[1], reduction="none"),
        "correct": outputs.argmax(dim=1) == batch[1],
    }


class Case:
    def __init__(self, dataset, *, mode="resident", workers=0, piece_size=None, channels_last=False):
        self.dataset, self.mode, self.workers = dataset, mode, workers
        self.recipe = Recipe(phases=PHASES, seed=5, piece_size=piece_size)
        self.channels_last = channels_last

    def training(self, device="cpu", *, seed=0):
        device = torch.device(device)
        examples = {
            name: make_feed(
                name, dataset, device=device, dtype=torch.float32, mode=self.mode, workers=self.workers
            )
            for name, dataset in self.dataset.items()
        }
        model = network(seed).to(device)
        return Training(
            model,
            cross_entropy,
            examples,
            self.recipe,
            device=device,
            channels_last=self.channels_last,
        )


def stop_after(number):
    left = iter(range(number - 1))

    def between():
        if next(left, None) is None:
            raise StopError

    return between


def saved(state):
    """As a file would keep it, in another process's memory."""
    stream = io.BytesIO()
    torch.save(state, stream)
    stream.seek(0)
    return torch.load(stream, weights_only=True)


def facts(epochs):
    """All but the time it took."""
    return [dataclasses.asdict(dataclasses.replace(epoch, seconds=0.0)) for epoch in epochs]


def assert_same(first, second):
    for part in ("model", "optimizer"):
        left, right = (list(torch_leaves(state[part])) for state in (first, second))
        assert len(left) == len(right)
        for one, other in zip(left, right, strict=True):
            assert torch.equal(one, other)
    assert (first["epoch"], first["step"]) == (second["epoch"], second["step"])


def torch_leaves(nest):
    if isinstance(nest, torch.Tensor):
        yield nest
    elif isinstance(nest, dict):
        for value in nest.values():
            yield from torch_leaves(value)
    elif isinstance(nest, list | tuple):
        for value in nest:
            yield from torch_leaves(value)


def whole(case, device="cpu"):
    run = case.training(device)
    return facts(run.epochs()), run.state()


def interrupted(case, stops, device="cpu"):
    """The same in several goes, each stopped after some steps."""
    run, epochs = case.training(device), []
    for count in stops:
        with pytest.raises(StopError):
            epochs.extend(run.epochs(stop_after(count)))
        state = saved(run.state())
        torch.manual_seed(count)
        run = case.training(device, seed=17)  # another network: nothing of it must be left
        run.restore(state)
    epochs.extend(run.epochs())
    return facts(epochs), run.state()


@pytest.fixture
def data(pictures):
    return {"train": pictures(11), "test": pictures(4, seed=1)}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("stop", range(1, NUM_STEPS + 1))
def test_a_training_stopped_after_any_step_goes_on_to_the_same_bits(stop, device, data):
    case = Case(data)
    epochs, state = whole(case, device)
    again, restored = interrupted(case, [stop], device)
    assert again == epochs
    assert [epoch["number"] for epoch in again] == [0, 1, 2, 3, 4]
    assert_same(restored, state)


def test_a_training_may_be_stopped_after_every_step(data):
    case = Case(data)
    epochs, state = whole(case)
    again, restored = interrupted(case, [1] * NUM_STEPS)
    assert again == epochs
    assert_same(restored, state)


CASES = {
    "pieces": {"piece_size": 3},
    "channels last": {"channels_last": True},
    "streamed": {"mode": "streamed"},
    "streamed by others": {"mode": "streamed", "workers": 2},
    "drawn by the data set": {"drawing": True},
    "drawn by the data set, read by others": {"drawing": True, "workers": 2},
}


@pytest.mark.parametrize("stops", [[2], [5, 3]])
@pytest.mark.parametrize("name", CASES)
def test_so_it_does_however_the_examples_come(name, stops, data):
    options = dict(CASES[name])
    if options.pop("drawing", False):
        data["train"] = Drawing(data["train"])
    case = Case(data, **options)
    epochs, state = whole(case)
    again, restored = interrupted(case, stops)
    assert again == epochs
    assert_same(restored, state)


def test_epochs_that_were_yielded_are_not_yielded_again(data):
    case = Case(data)
    run = case.training()
    first = []
    for epoch in run.epochs():
        first.append(epoch)
        if epoch.number == 2:
            break
    state = saved(run.state())
    assert (state["epoch"], state["step"]) == (2, 0)
    assert state["optimizer"] is None  # the next phase begins with a new one
    other = case.training(seed=3)
    other.restore(state)
    assert facts([other.look()]) == facts(first[-1:])
    assert facts([*first, *other.epochs()]) == whole(case)[0]


def test_the_same_object_can_go_on_too(data):
    case = Case(data)
    run, epochs = case.training(), []
    with pytest.raises(StopError):
        epochs.extend(run.epochs(stop_after(4)))
    epochs.extend(run.epochs())
    assert facts(epochs) == whole(case)[0]


def test_asking_for_the_state_or_looking_changes_nothing(data):
    case = Case(data)
    run = case.training()

    def between():
        run.state()
        torch.rand(100)
        np.random.rand(100)

    epochs = []
    for epoch in run.epochs(between):
        run.look()
        epochs.append(epoch)
    wanted, state = whole(case)
    assert facts(epochs) == wanted
    assert_same(run.state(), state)


def test_a_state_of_a_finished_training_has_no_epochs_left(data):
    case = Case(data)
    _, state = whole(case)
    other = case.training(seed=3)
    other.restore(saved(state))
    assert list(other.epochs()) == []
    assert_same(other.state(), state)


def test_seconds_are_those_of_all_goes(data):
    case = Case(data)
    run = case.training()
    with pytest.raises(StopError):
        list(run.epochs(stop_after(2)))
    state = copy.deepcopy(run.state())
    assert state["seconds"] > 0
    state["seconds"] = 1000.0
    other = case.training()
    other.restore(state)
    epochs = list(other.epochs())
    assert epochs[0].seconds > 1000
    assert 0 < epochs[1].seconds < 1000


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("workers", [0, 2])
def test_kept_and_streamed_examples_train_to_the_same_bits(workers, device, data):
    first = whole(Case(data), device)
    second = whole(Case(data, mode="streamed", workers=workers), device)
    assert second[0] == first[0]
    assert_same(second[1], first[1])
