"""train() and eval() that change something, and modes around the call."""

import torch
import torch.nn.functional as F
from torch import nn

from tests.relatives.case import Asked, either, refused, right
from tests.relatives.small import cnn, images, mlp, net_of, vectors

KIND, TITLE = 3, "train() and eval() that change or cache"


class Merging(nn.Module):
    """A low-rank adapter that merges itself into the weight in eval(), as LoRA's first implementation does."""

    def __init__(self, rows, columns):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(columns, rows) / 2)
        self.up, self.down = nn.Parameter(torch.randn(columns, 2) / 2), nn.Parameter(torch.randn(2, rows) / 2)
        self.merged = False

    def train(self, mode=True):
        super().train(mode)
        if mode == self.merged:
            sign = -1 if mode else 1
            self.weight.data += sign * (self.up.data @ self.down.data)
            self.merged = not mode
        return self

    def forward(self, x):
        out = F.linear(x, self.weight)
        return out if self.merged else out + F.linear(F.linear(x, self.down), self.up)


def adapted():
    return nn.Sequential(Merging(4, 8), nn.Tanh(), nn.Linear(8, 3))


@right("an adapter that merges in eval(), given in training")
def merging_in_training(folder):
    return Asked(net=adapted(), data=vectors())


@right("an adapter that is merged already")
def merged_already(folder):
    return Asked(net=adapted().eval(), data=vectors())


@right("an adapter with a flag that toggles at every eval()")
def merging_without_flag(folder):
    class Careless(Merging):
        def eval(self):
            self.weight.data += self.up.data @ self.down.data
            self.merged = True
            return super().train(False)

        def train(self, mode=True):
            return nn.Module.train(self, mode)

    net = nn.Sequential(Careless(4, 8), nn.Tanh(), nn.Linear(8, 3))
    return Asked(net=net, data=vectors())


def caching(forget):
    def forward(self, x):
        if self.cached is None or forget(self):
            self.cached = self.weight.softmax(1)
            self.version = self.weight._version
        return F.linear(x, self.cached)

    layer = net_of([("weight", nn.Parameter(torch.randn(8, 4)))], forward)
    layer.cached = layer.version = None
    return nn.Sequential(layer, nn.Tanh(), nn.Linear(8, 3))


@either(
    "a layer that keeps what it derives from its weight at the first pass",
    "what it gives depends on what came before",
)
def cached_for_ever(folder):
    return Asked(net=caching(lambda self: self.training).eval(), data=vectors())


@either("likewise, emptied by train()", "what it gives depends on what came before")
def cached_until_train(folder):
    net = caching(lambda self: False)
    layer = net[0]

    class Emptied(type(layer)):
        def train(self, mode=True):
            self.cached = None
            return super().train(mode)

    layer.__class__ = Emptied
    return Asked(net=net, data=vectors())


@right("a cache that asks for the version of the weight")
def cached_by_version(folder):
    return Asked(net=caching(lambda self: self.version != self.weight._version).eval(), data=vectors())


@either(
    "a cache by data_ptr()",
    "written in place, the weight lies where it lay: what it gives depends on what came before",
)
def cached_by_pointer(folder):
    def forget(self):
        was, self.place = getattr(self, "place", None), self.weight.data_ptr()
        return was != self.place

    return Asked(net=caching(forget).eval(), data=vectors())


@right("called inside autocast")
def inside_autocast(folder):
    return Asked(net=mlp(), data=vectors(), around=lambda: torch.autocast("cpu", dtype=torch.bfloat16))


@right("called inside inference_mode")
def inside_inference(folder):
    return Asked(net=mlp(), data=vectors(), around=torch.inference_mode)


@right("called inside no_grad, with a loss that differentiates")
def inside_no_grad(folder):
    def loss(model, batch):
        x = batch[0].clone().requires_grad_(True)
        (slope,) = torch.autograd.grad(model(x).sum(), x, create_graph=True)
        return slope.square().sum(1)

    return Asked(net=mlp(), loss=loss, data=vectors(), around=torch.no_grad)


@right("a network in training, with dropout and batch normalization")
def in_training(folder):
    return Asked(net=nn.Sequential(nn.Dropout(0.5), *cnn(), nn.Dropout(0.1)).train(), data=images())


@right("batch normalization frozen by a train() of its own")
def frozen_norm(folder):
    class Frozen(nn.BatchNorm2d):
        def train(self, mode=True):
            return super().train(False)

    return Asked(net=cnn(norm=Frozen), data=images())


@right("functional dropout by self.training")
def functional_dropout(folder):
    net = net_of(
        [("first", nn.Linear(4, 8)), ("second", nn.Linear(8, 3))],
        lambda self, x: self.second(F.dropout(torch.tanh(self.first(x)), 0.3, training=self.training)),
    )
    return Asked(net=net.train(), data=vectors())


@refused("functional dropout that is always on", "it is random")
def dropout_always(folder):
    net = net_of(
        [("first", nn.Linear(4, 8)), ("second", nn.Linear(8, 3))],
        lambda self, x: self.second(F.dropout(torch.tanh(self.first(x)), 0.3)),
    )
    return Asked(net=net, data=vectors())


@refused("batch normalization without running statistics", "an example's loss depends on its batch")
def no_statistics(folder):
    return Asked(net=cnn(norm=lambda width: nn.BatchNorm2d(width, track_running_stats=False)), data=images())


@either("parameters made in inference_mode", "nothing can be written into them")
def inference_parameters(folder):
    with torch.inference_mode():
        return Asked(net=mlp(), data=vectors())


@right("an eval() that returns nothing")
def eval_returns_nothing(folder):
    class Quiet(nn.Sequential):
        def eval(self):
            super().eval()

        def train(self, mode=True):
            super().train(mode)

    return Asked(net=Quiet(*mlp()), data=vectors())
