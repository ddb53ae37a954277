"""A fault that is planted in a step of the engine is seen before the step is used, though at the center all is right."""

import inspect

import pytest
import torch

from mpi_landscape.evaluation.arithmetic import exact_arithmetic
from mpi_landscape.evaluation.engine import channels_last, first_layer, folding, fusing, packing
from mpi_landscape.evaluation.engine.steps import STEPS
from tests.evaluation.test_engines import chosen, setting_of
from tests.evaluation.zoo import network_of


@pytest.fixture(autouse=True)
def exact():
    with exact_arithmetic():
        yield


def scale_of_a_direction(monkeypatch):
    """A direction is folded with the scale of another pair."""
    right = folding.fold_vectors

    def wrong(pairs, network, center, directions, layout):
        kept = directions[1].clone()
        right(pairs, network, center, directions, layout)
        views, before = layout.views(directions[1]), layout.views(kept)
        views[f"{pairs[-1][0]}.weight"].copy_(before[f"{pairs[-1][0]}.weight"])

    monkeypatch.setattr(folding, "fold_vectors", wrong)


def mean_of_the_statistics(monkeypatch):
    """The mean is subtracted from the directions, too."""
    right = folding.fold_vectors

    def wrong(pairs, network, center, directions, layout):
        right(pairs, network, center, directions, layout)
        for layer, norm in pairs[:1]:
            views = layout.views(directions[0])
            place = views.get(f"{layer}.bias", views.get(f"{norm}.bias"))
            place -= network.get_submodule(norm).running_mean

    monkeypatch.setattr(folding, "fold_vectors", wrong)


def constant_bias(monkeypatch):
    """A layer's new bias stays where it is at the center."""
    right = folding.rewire

    def wrong(pairs, network, views):
        right(pairs, network, views)
        layer = network.get_submodule(pairs[0][0])
        layer.bias.data = 1.5 * layer.bias.data.clone()

    monkeypatch.setattr(folding, "rewire", wrong)


def order_of_a_direction(monkeypatch):
    """A direction keeps its order, while the center is brought into another."""
    right = channels_last.reorder

    def wrong(vectors, layout, names):
        right(vectors[:-1], layout, names)

    monkeypatch.setattr(channels_last, "reorder", wrong)


def height_for_width(monkeypatch):
    """The axes of an image are exchanged."""

    def wrong(vectors, layout, names):
        for vector in vectors:
            for name in names:
                view = layout.views(vector)[name]
                view.view(-1).copy_(view.permute(0, 3, 2, 1).reshape(-1))

    monkeypatch.setattr(channels_last, "reorder", wrong)


def missing_activation(monkeypatch):
    """One convolution of all forgets what follows it."""
    right = fusing.FusedConvolution.__init__

    def wrong(self, convolution, activation, scalars, *, onto):
        first = convolution.in_channels == 3
        right(self, convolution, "none" if first else activation, [] if first else scalars, onto=onto)

    monkeypatch.setattr(fusing.FusedConvolution, "__init__", wrong)


def weights_of_the_center(monkeypatch):
    """Fused convolutions keep the weights that they were made with."""
    right = fusing.FusedConvolution.forward

    def wrong(self, images, other=None):
        if not hasattr(self, "kept"):
            self.kept = self.convolution.weight.clone()
            self.convolution._parameters["weight"] = torch.nn.Parameter(self.kept)
        return right(self, images, other)

    monkeypatch.setattr(fusing.FusedConvolution, "forward", wrong)


def overwritten_summand(monkeypatch):
    """Sums are written over what others are still to read."""
    monkeypatch.setattr(fusing._Order, "is_last_use", lambda *_: True)


def stale_point(monkeypatch):
    """A first layer stays at the first point to which it goes."""
    right = first_layer.FirstLayer.move

    def wrong(self, coordinates):
        self.seen = getattr(self, "seen", None) or coordinates
        right(self, self.seen)

    monkeypatch.setattr(first_layer.FirstLayer, "move", wrong)


def forgotten_direction(monkeypatch):
    """A first layer moves along the first direction alone."""
    right = first_layer.FirstLayer.move
    monkeypatch.setattr(first_layer.FirstLayer, "move", lambda self, c: right(self, tuple(c)[:1]))


def shifted_bias(monkeypatch):
    """A first layer forgets how its bias moves."""
    right = first_layer.FirstLayer.__init__

    def wrong(self, weights, biases, lower=None, name=""):
        right(self, weights, [biases[0], *(torch.zeros_like(each) for each in biases[1:])], lower, name)

    monkeypatch.setattr(first_layer.FirstLayer, "__init__", wrong)


def weights_of_one_point(monkeypatch):
    """Weights are packed once and for all."""
    right = packing.PackedWeights.move
    monkeypatch.setattr(packing.PackedWeights, "move", lambda self, c: self.packed or right(self, c))


PLANTED = [
    ("folded", "residual", scale_of_a_direction),
    ("folded", "residual", mean_of_the_statistics),
    ("folded", "mobile", constant_bias),
    ("channels_last", "residual", order_of_a_direction),
    ("channels_last", "residual", height_for_width),
    ("fused", "unfolded", missing_activation),
    ("fused", "unfolded", weights_of_the_center),
    ("fused", "branches", overwritten_summand),
    ("first_layer", "perceptron", stale_point),
    ("first_layer", "perceptron", forgotten_direction),
    ("first_layer", "perceptron", shifted_bias),
    ("packed", "rows", weights_of_one_point),
]


class Branches(torch.nn.Module):
    """A result that is a summand of one sum and goes into a convolution that waits for another."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.late = (torch.nn.Conv2d(size, 4, 3, padding=1) for size in (3, 4, 4))
        self.head = torch.nn.Linear(4, 5)

    def forward(self, images):
        start = torch.relu(self.first(images))
        late = self.late(start)
        total = torch.relu(start + self.second(start))
        return self.head(torch.relu(total + late).mean((2, 3)))


class Unfolded(torch.nn.Sequential):
    """Two convolutions with activations, and no normalization."""

    def __init__(self):
        super().__init__(
            torch.nn.Conv2d(3, 6, 3),
            torch.nn.ReLU(),
            torch.nn.Conv2d(6, 5, 3),
            torch.nn.ReLU(),
            torch.nn.AdaptiveAvgPool2d(1),
            torch.nn.Flatten(),
        )


class Rows(torch.nn.Module):
    """A linear layer on every row of an image."""

    def __init__(self):
        super().__init__()
        self.first, self.second = torch.nn.LazyLinear(256), torch.nn.Linear(256, 200)
        self(torch.zeros(1, 3, 8, 8))

    def forward(self, images):
        return self.second(torch.relu(self.first(images.flatten(1, 2)))).mean(1)


OWN = {"branches": Branches, "rows": Rows, "unfolded": Unfolded}


def engine_of(step, name):
    torch.manual_seed(1)
    network = OWN[name]().eval() if name in OWN else network_of(name)
    steps = ("channels_last", "fused") if step == "fused" else (step,)
    return chosen(setting_of(network), name, steps)


@pytest.mark.parametrize(
    ("step", "name", "plant"), PLANTED, ids=lambda value: getattr(value, "__name__", value)
)
def test_a_planted_fault_is_seen_before_a_step_is_used(monkeypatch, step, name, plant):
    engine, dropped = engine_of(step, name)
    assert engine.value(STEPS[step]), (dropped, "without the fault it is used")
    plant(monkeypatch)
    engine, dropped = engine_of(step, name)
    assert not engine.value(STEPS[step]), inspect.getdoc(plant)
    assert dropped[-1].startswith(f"{step.replace('_', '-')} dropped: ")


def test_a_first_layer_that_is_called_in_another_way_than_in_its_trial_refuses():
    from mpi_landscape import LandscapeError

    layer = first_layer.FirstLayer([torch.ones(2, 3), torch.ones(2, 3)], [None, None], name="input")
    layer.begin()
    layer.move((0.5,))
    layer(torch.ones(4, 3))
    with pytest.raises(LandscapeError, match="input, which is computed once per tile"):
        layer(torch.zeros(4, 3))
    layer.move((1.0,))
    with pytest.raises(LandscapeError, match="in another way"):
        layer(torch.ones(3, 3))
    layer.begin()
    layer.move((1.0,))
    assert layer(torch.ones(3, 3)).tolist() == [[6.0, 6.0]] * 3
