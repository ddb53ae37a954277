"""What random networks begin with, from data of several kinds, and what their losses look like."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from tests.evaluation.random_blocks import CHANNELS, SIZE, Block, scale

CLASSES, INPUTS = 3, 72


@dataclass(frozen=True)
class Beginning:
    """How inputs become images (N, 4, 6, 6).

    Attributes:
        module: What makes the images of a batch's inputs.
        example: (generator) -> the inputs of one example.
    """

    module: nn.Module
    example: Callable[[torch.Generator], Any]


def images(draw: Random) -> Beginning:
    """The data as they are, or through a first convolution."""
    module = draw.choice(
        [
            nn.Identity(),
            nn.Conv2d(CHANNELS, CHANNELS, 1),
            nn.Sequential(nn.Conv2d(CHANNELS, CHANNELS, 1), nn.BatchNorm2d(CHANNELS)),
        ]
    )
    return Beginning(module, lambda g: torch.randn(CHANNELS, SIZE, SIZE, generator=g))


def rows(draw: Random) -> Beginning:
    """A linear layer that may be computed once, if its input is what it seems."""
    how = draw.choice(list(PREPARATIONS))
    module = Block(
        lambda s, x: spread(s.norm(s.first(PREPARATIONS[how](s, x)))),
        first=nn.Linear(INPUTS, 8),
        norm=draw.choice([nn.Identity(), nn.BatchNorm1d(8), nn.ReLU(), nn.LayerNorm(8)]),
        mean=torch.randn(INPUTS),
        edge=torch.tensor(draw.choice([-0.1, 0.0, 6.0])),
        shift=nn.Parameter(torch.randn(INPUTS)),
        order=torch.randperm(INPUTS),
        again=how == "twice",
    )
    if how == "shared":
        module.second = nn.Linear(8, INPUTS)
        module.second.weight = nn.Parameter(module.first.weight.data.t().clone())
    return Beginning(module, lambda g: torch.randn(INPUTS, generator=g))


# What is done to the data before the first layer; the shift is a parameter.
PREPARATIONS: dict[str, Callable[[Any, torch.Tensor], torch.Tensor]] = {
    "nothing": lambda s, x: x,
    "standardized": lambda s, x: (x - s.mean) / 2,
    "permuted": lambda s, x: x[:, s.order],
    "shifted": lambda s, x: x + s.shift,
    "shifted for some": lambda s, x: torch.where(x.mean(1, keepdim=True) > 0.1 + s.edge, x + s.shift, x),
    "routed": lambda s, x: torch.stack([e + s.shift if e.mean() > 0.1 + s.edge else e for e in x]),
    "rolled by a parameter": lambda s, x: x.gather(
        1, (s.shift.argmax() + s.order).remainder(INPUTS).expand_as(x)
    ),
    "decided by a parameter": lambda s, x: x * 2 if s.shift.sum() > 10 * s.edge else x,
    "decided past torch": lambda s, x: x * float(s.shift.detach().numpy().sum() > 0),
    "written": lambda s, x: _written(x, s.shift),
    "weighted": lambda s, x: x + s.first.weight[0],
    "twice": lambda s, x: x + spread(s.first(x)).mean((1, 2, 3))[:, None],
    "detached": lambda s, x: x + s.shift.detach().clone() * 0.5,
    "shared": lambda s, x: x + s.second.weight[:, 0],
}


def _written(x: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
    made = torch.zeros_like(x)
    made[:, ::2] = x[:, ::2]
    made[:, 1::2] += shift[1::2]
    return made


def spread(x: torch.Tensor) -> torch.Tensor:
    """(N, 8) to (N, 4, 6, 6)."""
    return x.repeat(1, CHANNELS * SIZE * SIZE // 8).view(-1, CHANNELS, SIZE, SIZE)


def sequences(draw: Random) -> Beginning:
    """Convolutions and recurrences over one axis."""
    kinds = {
        "convolution": nn.Sequential(
            nn.Conv1d(3, CHANNELS, 3, padding=1, bias=False), nn.BatchNorm1d(CHANNELS), nn.ReLU(True)
        ),
        "recurrence": Block(
            lambda s, x: s.cell(x.transpose(1, 2))[0].transpose(1, 2),
            cell=nn.GRU(3, CHANNELS, batch_first=True),
        ),
    }
    module = kinds[draw.choice(list(kinds))]
    return Beginning(
        Block(lambda s, x: s.inner(x)[..., None].expand(-1, -1, -1, SIZE) * 1.0, inner=module),
        lambda g: torch.randn(3, SIZE, generator=g),
    )


def tokens(draw: Random) -> Beginning:
    """An embedding, whose tensor may be tied to what follows, and layers over the tokens of each example."""
    tied = draw.random() < 0.5
    mixed = draw.choice(list(MIXTURES))

    def forward(s, x):
        found = s.embedding(x)
        if tied:
            found = found + F.linear(found, s.embedding.weight[:CHANNELS])
        found = MIXTURES[mixed](s, found)
        return found.transpose(1, 2)[..., None].expand(-1, -1, -1, SIZE) * 1.0

    return Beginning(
        Block(
            forward,
            embedding=nn.Embedding(11, CHANNELS),
            first=nn.Linear(CHANNELS, 8),
            second=nn.Linear(8, CHANNELS, bias=draw.random() < 0.5),
        ),
        lambda g: torch.randint(11, (SIZE,), generator=g),
    )


# What two linear layers do with tokens (N, 6, 4).
MIXTURES: dict[str, Callable[[Any, torch.Tensor], torch.Tensor]] = {
    "not at all": lambda s, x: x,
    "as in a transformer": lambda s, x: x + s.second(F.gelu(s.first(x))),
    "twice": lambda s, x: s.second(s.first(x) + s.first(x.flip(1)).sigmoid()),
    "and one example at once": lambda s, x: x + torch.stack([s.second(s.first(each)) for each in x]),
    "and their mean": lambda s, x: x + s.second(s.first(x)) + s.second(s.first(x.mean(1)))[:, None],
    "past the layer": lambda s, x: s.second(s.first(x)) + F.linear(s.first(x), s.second.weight),
    "if a parameter says so": lambda s, x: s.second(s.first(x)) if s.first.bias.sum() > 0 else x,
    "scaled by the weight": lambda s, x: s.second(s.first(x)) * s.first.weight.norm(),
}


def nested(draw: Random) -> Beginning:
    """A dictionary with a tuple in it."""

    def forward(s, x):
        image, (row, number) = x["image"], x["rest"]
        return s.conv(image) + spread(s.linear(row)) * number.view(-1, 1, 1, 1)

    return Beginning(
        Block(forward, conv=nn.Conv2d(CHANNELS, CHANNELS, 1), linear=nn.Linear(INPUTS, 8)),
        lambda g: {
            "image": torch.randn(CHANNELS, SIZE, SIZE, generator=g),
            "rest": (torch.randn(INPUTS, generator=g), torch.rand((), generator=g)),
        },
    )


BEGINNINGS = {each.__name__: each for each in (images, rows, sequences, tokens, nested)}


# ---- losses, one value per example; a batch is (inputs, label)


def cross_entropy(model, batch):
    return F.cross_entropy(model(batch[0]), batch[1], reduction="none")


def with_correct(model, batch):
    outputs = model(batch[0])
    losses = F.cross_entropy(outputs, batch[1], reduction="none")
    return {"loss": losses, "correct": outputs.argmax(1) == batch[1]}


def squares(model, batch):
    return (model(batch[0]) - F.one_hot(batch[1], CLASSES)).square().mean(1)


def with_penalty(model, batch):
    """Weight decay: the loss looks at the parameters past the modules."""
    return cross_entropy(model, batch) + 0.01 * sum(p.square().sum() for p in model.parameters())


def twice(model, batch):
    """A consistency loss, which calls the network on two things."""
    return cross_entropy(model, batch) + (model(batch[0]) - model(_halved(batch[0]))).square().mean(1)


def decided(model, batch):
    losses = cross_entropy(model, batch)
    return losses * 2 if next(iter(model.parameters())).sum().item() > 0.5 else losses


def _halved(inputs):
    if isinstance(inputs, dict):
        return {"image": inputs["image"] / 2, "rest": inputs["rest"]}
    return inputs / 2 if inputs.is_floating_point() else inputs // 2


LOSSES = {
    each.__name__: each for each in (cross_entropy, with_correct, squares, with_penalty, twice, decided)
}


class Head(nn.Module):
    """Images to scores."""

    def __init__(self, draw: Random) -> None:
        super().__init__()
        self.linear = nn.Linear(CHANNELS, CLASSES)
        self.temperature = scale(1) if draw.random() < 0.5 else None

    def forward(self, x):
        scores = self.linear(x.mean((2, 3)))
        return scores if self.temperature is None else scores * self.temperature.exp()
