"""Networks that the engine's steps must leave alone, or rewrite rightly."""

import torch
import torch.nn.functional as F
from torch import nn

from tests.relatives.case import Asked, right
from tests.relatives.small import CLASSES, cnn, images, mlp, net_of, stirred, vectors

KIND, TITLE = 11, "steps of the engine"
FAR = {"alpha": (-2, 2.2, 7), "beta": (-1.6, 2, 5)}


def parts(**more):
    return [
        ("first", nn.Conv2d(1, 4, 3, padding=1, bias=False)), ("norm", nn.BatchNorm2d(4)),
        ("second", nn.Conv2d(4, 4, 3, padding=1)), ("after", nn.BatchNorm2d(4)),
        ("head", nn.Linear(4, CLASSES)), *more.items(),
    ]  # fmt: skip


def asked(forward, **more):
    return Asked(net=stirred(net_of(parts(**more), forward)), data=images(), options=FAR)


def plain(self, x):
    return F.relu(self.norm(self.first(x)))


@right("a branch on the sum of a parameter")
def branch_on_parameter(folder):
    def forward(self, x):
        hidden = plain(self, x)
        hidden = self.after(self.second(hidden)) if self.second.weight.sum() > 0.5 else self.second(hidden)
        return self.head(hidden.mean((2, 3)))

    return asked(forward)


@right("a number taken out of a parameter")
def item_of_parameter(folder):
    def forward(self, x):
        scale = self.second.bias.abs().max().item()
        return self.head(self.after(self.second(plain(self, x) * scale)).mean((2, 3)))

    return asked(forward)


@right("an in-place sum whose operand is used again")
def in_place_sum(folder):
    def forward(self, x):
        hidden = plain(self, x)
        kept = hidden
        hidden += self.after(self.second(hidden))
        return self.head((F.relu(hidden) + kept).mean((2, 3)))

    return asked(forward)


@right("an in-place sum onto the output of a convolution")
def in_place_onto_convolution(folder):
    def forward(self, x):
        hidden = self.first(x)
        kept = hidden
        hidden += self.second(F.relu(self.norm(hidden)))
        return self.head((self.after(hidden) + kept).mean((2, 3)))

    return asked(forward)


@right("a normalization used twice")
def norm_twice(folder):
    return asked(lambda self, x: self.head(self.norm(self.second(plain(self, x))).mean((2, 3))))


@right("a convolution used twice, once before a normalization")
def convolution_twice(folder):
    def forward(self, x):
        hidden = F.relu(self.after(self.second(plain(self, x))))
        return self.head(self.second(hidden).mean((2, 3)))

    return asked(forward)


@right("a convolution's output that goes past its normalization")
def past_the_norm(folder):
    def forward(self, x):
        before = self.first(x)
        return self.head((F.relu(self.norm(before)) + before).mean((2, 3)))

    return asked(forward)


@right("a convolution before a normalization, parametrized")
def parametrized_convolution(folder):
    more = {"second": nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 4, 3, padding=1))}
    return asked(lambda self, x: self.head(self.after(self.second(plain(self, x))).mean((2, 3))), **more)


@right("an argmax of a parameter chooses a layer")
def argmax_of_parameter(folder):
    def forward(self, x):
        hidden = plain(self, x)
        hidden = [self.after, nn.Identity()][int(self.choice.argmax())](self.second(hidden))
        return self.head(hidden.mean((2, 3)))

    return asked(forward, choice=nn.Parameter(torch.tensor([[0.3, 0.2]])))


@right("routing per example")
def routed(folder):
    def forward(self, x):
        hidden = self.first(x)
        inner = torch.where((x.mean((1, 2, 3)) > 0.2)[:, None, None, None], hidden, self.norm(hidden))
        return self.head(F.relu(inner).mean((2, 3)))

    return asked(forward)


@right("torch.where on a parameter")
def where_on_parameter(folder):
    def forward(self, x):
        return self.head(
            torch.where(self.second.weight.sum() > 0, plain(self, x), self.first(x)).mean((2, 3))
        )

    return asked(forward)


@right("learned positions are added to the input")
def positions_added(folder):
    return asked(
        lambda self, x: self.head(plain(self, x + self.positions).mean((2, 3))),
        positions=nn.Parameter(torch.randn(1, 1, 8, 8)),
    )


@right("an input that a parameter changes for some examples alone")
def prompted_sometimes(folder):
    def forward(self, x):
        bright = x.amax((1, 2, 3)) > 3.2
        if bright.any():
            x = torch.where(bright[:, None, None, None], x + self.prompt, x)
        return self.head(plain(self, x).mean((2, 3)))

    return asked(forward, prompt=nn.Parameter(torch.randn(1, 1, 8, 8)))


@right("functional batch normalization on a layer's own statistics")
def functional_norm(folder):
    def forward(self, x):
        hidden = self.first(x)
        hidden = F.batch_norm(
            hidden, self.norm.running_mean, self.norm.running_var, self.norm.weight, self.norm.bias
        )
        return self.head(F.relu(hidden).mean((2, 3)))

    return asked(forward)


@right("depthwise and pointwise convolutions")
def separable(folder):
    net = nn.Sequential(
        nn.Conv2d(1, 4, 1), nn.BatchNorm2d(4), nn.Hardswish(inplace=True),
        nn.Conv2d(4, 4, 3, groups=4, bias=False), nn.BatchNorm2d(4), nn.ReLU6(inplace=True),
        nn.Conv2d(4, 8, 1, bias=False), nn.BatchNorm2d(8, affine=False), nn.Flatten(), nn.Linear(288, CLASSES),
    )  # fmt: skip
    return Asked(net=stirred(net), data=images(), options=FAR)


@right("weights that are normalized by their own sum")
def normalized_weights(folder):
    def forward(self, x):
        weight = self.second.weight
        hidden = F.conv2d(plain(self, x), weight / (1 + weight.abs().sum((1, 2, 3), keepdim=True)), padding=1)
        return self.head(self.after(hidden).mean((2, 3)))

    return asked(forward)


@right("a view that needs the order of rows")
def viewed(folder):
    def forward(self, x):
        return self.head(plain(self, x).view(len(x), 4, 64).mean(2))

    return asked(forward)


@right("the largest entries of a weight alone")
def top_of_weight(folder):
    def forward(self, x):
        weight = self.first.weight
        return F.linear(
            x, torch.where(weight.abs() >= weight.abs().flatten().topk(16).values[-1], weight, 0.0)
        )

    layer = net_of([("first", nn.Linear(4, 8))], forward)
    return Asked(
        net=nn.Sequential(layer, nn.Tanh(), *mlp(4)[2:], nn.Linear(3, 3))[:1].append(nn.Linear(8, 3)),
        data=vectors(),
        options=FAR,
    )


@right("a ResNet's stem without surprises")
def ordinary(folder):
    return Asked(net=cnn(), data=images(), options=FAR)
