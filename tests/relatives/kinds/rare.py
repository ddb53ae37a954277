"""Examples in the middle of the data that take a path of their own."""

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import TensorDataset

from tests.relatives.case import Asked, right
from tests.relatives.small import CLASSES, Items, cross_entropy, mlp, net_of, stirred

KIND, TITLE = 15, "the first batch is taken for all"
COUNT = 600
RARE = (301, 305, 417)


def vectors(mark=9.0):
    """Vectors, of which three in the middle have a mark in their first number."""
    x = torch.randn(COUNT, 4)
    x[:, 0].clamp_(-3, 3)
    x[list(RARE), 0] = mark
    return TensorDataset(x, torch.randint(0, CLASSES, (COUNT,)))


def images():
    x = torch.randn(COUNT, 1, 6, 6).clamp_(-3, 3)
    x[list(RARE), 0, 0, 0] = 9.0
    return TensorDataset(x, torch.randint(0, CLASSES, (COUNT,)))


def convolutional(forward, **more):
    parts = [
        ("first", nn.Conv2d(1, 4, 3, bias=False)), ("norm", nn.BatchNorm2d(4)), ("head", nn.Linear(4, CLASSES)), *more.items()
    ]  # fmt: skip
    return Asked(net=stirred(net_of(parts, forward)), data=images(), options={"alpha": (-1, 1.2, 3)})


def rare(x):
    return x[:, 0, 0, 0] > 5


@right("an early exit")
def early_exit(folder):
    def forward(self, x):
        hidden = torch.tanh(self.first(x))
        out = self.second(hidden)
        leaves = x[:, 0] > 5
        if leaves.any():
            out = torch.where(leaves[:, None], self.exit(hidden), out)
        return out

    parts = [("first", nn.Linear(4, 8)), ("second", nn.Linear(8, 3)), ("exit", nn.Linear(8, 3))]
    return Asked(net=net_of(parts, forward), data=vectors())


@right("an input that a parameter replaces")
def replaced_input(folder):
    def forward(self, x):
        marked = rare(x)
        if marked.any():
            x = torch.where(marked[:, None, None, None], self.prompt, x)
        return self.head(F.relu(self.norm(self.first(x))).mean((2, 3)))

    return convolutional(forward, prompt=nn.Parameter(10 * torch.randn(1, 1, 6, 6)))


@right("a normalization that is left out")
def norm_left_out(folder):
    def forward(self, x):
        hidden = self.first(x)
        marked = rare(x)
        normed = self.norm(hidden)
        if marked.any():
            normed = torch.where(marked[:, None, None, None], 50 * hidden, normed)
        return self.head(F.relu(normed).mean((2, 3)))

    return convolutional(forward)


@right("an expert for few")
def expert(folder):
    def forward(self, x):
        out = self.common(x)
        chosen = (x[:, 0] > 5).nonzero()[:, 0]
        return out.index_copy(0, chosen, self.expert(x[chosen])) if len(chosen) else out

    return Asked(net=net_of([("common", mlp()), ("expert", mlp())], forward), data=vectors())


@right("a mask for missing values")
def missing(folder):
    def forward(self, x):
        return self.body(torch.where(x.isnan(), self.fill, x))

    net = net_of([("body", mlp()), ("fill", nn.Parameter(torch.randn(4)))], forward)
    return Asked(net=net, data=vectors(float("nan")))


@right("a second head for one class")
def second_head(folder):
    data = vectors()

    def loss(model, batch):
        hidden = torch.tanh(model.first(batch[0]))
        marked = batch[0][:, 0] > 5
        out = torch.where(marked[:, None], model.other(hidden) * 5, model.second(hidden))
        return F.cross_entropy(out, batch[1], reduction="none")

    parts = [("first", nn.Linear(4, 8)), ("second", nn.Linear(8, 3)), ("other", nn.Linear(8, 3))]
    return Asked(net=net_of(parts, lambda self, x: self.second(self.first(x))), loss=loss, data=data)


@right("a longer unrolling")
def unrolled(folder):
    def forward(self, x):
        hidden = torch.tanh(self.first(x))
        further = (x[:, 0] > 5)[:, None]
        for _ in range(5 if further.any() else 0):
            hidden = torch.where(further, torch.tanh(self.again(hidden)), hidden)
        return self.second(hidden)

    parts = [("first", nn.Linear(4, 8)), ("again", nn.Linear(8, 8)), ("second", nn.Linear(8, 3))]
    return Asked(net=net_of(parts, forward), data=vectors())


@right("another buffer for few")
def other_buffer(folder):
    def forward(self, x):
        shift = self.shifts[(x[:, 0] > 5).long()]
        return self.body(x + shift)

    return Asked(net=net_of([("body", mlp()), ("shifts", torch.randn(2, 4))], forward), data=vectors())


@right("an example with a huge loss")
def huge_loss(folder):
    data = vectors(1e4)
    return Asked(net=mlp(), data=data)


@right("a channel that is zero but for few")
def rare_channel(folder):
    x, y = torch.randn(COUNT, 4), torch.randint(0, CLASSES, (COUNT,))
    x[:, 0] = 0
    x[list(RARE), 0] = 3.0
    return Asked(net=mlp(), data=TensorDataset(x, y))


@right("few examples read a function outside of the network")
def rare_function(folder):
    net = mlp()

    def loss(model, batch):
        found = cross_entropy(model, batch)
        marked = batch[0][:, 0] > 5
        if marked.any():
            found = found + marked * net[0].weight.square().sum()
        return found

    return Asked(net=net, loss=loss, data=vectors())


@right("a rare kind of item that a mapping marks")
def marked_items(folder):
    x, y = torch.randn(COUNT, 4), torch.randint(0, CLASSES, (COUNT,))

    def loss(model, batch):
        weight = torch.tensor([5.0 if kind == "rare" else 1.0 for kind in batch["kind"]])
        return weight * F.cross_entropy(model(batch["x"]), batch["y"], reduction="none")

    def item(index):
        return {"x": x[index], "y": y[index], "kind": "rare" if index in RARE else "common"}

    return Asked(net=mlp(), loss=loss, data=Items(item, COUNT))
