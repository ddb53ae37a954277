"""State outside of the modules that a copy copies, shared by all threads of a rank."""

import collections
import functools
import random

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from tests.relatives.case import Asked, refused, right
from tests.relatives.small import cnn, cross_entropy, images, mlp, net_of, vectors

KIND, TITLE = 1, "state outside of the modules, and several threads"
CALLS = 0
KEPT = None
SCRATCH = torch.zeros(64, 8)


def seen_by_a_hook(net, layer):
    features = {}
    layer.register_forward_hook(lambda module, inputs, output: features.__setitem__("last", output))
    return features


@right("a hook fills a dict that the loss reads")
def hook_fills_dict(folder):
    net = cnn()
    features = seen_by_a_hook(net, net[2])

    def loss(model, batch):
        return cross_entropy(model, batch) + features["last"].abs().flatten(1).mean(1)

    return Asked(net=net, loss=loss, data=images(200))


@right("a criterion keeps its batch in itself")
def criterion_keeps_batch(folder):
    class Criterion:
        def __call__(self, model, batch):
            self.targets = batch[1]
            return self.finish(model(batch[0]))

        def finish(self, outputs):
            return F.cross_entropy(outputs, self.targets, reduction="none")

    return Asked(net=mlp(64), loss=Criterion(), data=vectors(400))


@right("a teacher whose features come by a hook")
def teacher_with_hook(folder):
    net, teacher = mlp(), mlp(16).eval()
    features = seen_by_a_hook(teacher, teacher[1])

    def loss(model, batch):
        with torch.no_grad():
            soft = teacher(batch[0]).softmax(1)
        return -(soft * model(batch[0]).log_softmax(1)).sum(1) + features["last"].mean(1)

    return Asked(net=net, loss=loss, data=vectors(400))


@right("a global counter in forward")
def global_counter(folder):
    def forward(self, x):
        global CALLS
        CALLS += 1
        return self.body(x)

    return Asked(net=net_of([("body", mlp())], forward), data=vectors(300))


@right("the global generator is seeded inside forward")
def seeded_in_forward(folder):
    def forward(self, x):
        torch.manual_seed(3)
        return self.body(x + torch.randn(1, 4))

    return Asked(net=net_of([("body", mlp())], forward), data=vectors(400))


@right("numpy's generator is seeded inside the loss")
def numpy_seeded_in_loss(folder):
    def loss(model, batch):
        np.random.seed(5)
        noise = torch.from_numpy(np.random.randn(1, 3)).float()
        return F.cross_entropy(model(batch[0]) + noise, batch[1], reduction="none")

    return Asked(net=mlp(), loss=loss, data=vectors(400))


@right("a generator in a closure, seeded at every call")
def generator_in_closure(folder):
    generator = torch.Generator()

    def loss(model, batch):
        generator.manual_seed(7)
        return cross_entropy(model, [batch[0] + 0.1 * torch.randn(1, 4, generator=generator), batch[1]])

    return Asked(net=mlp(), loss=loss, data=vectors(400))


@right("a cache that belongs to the class")
def class_cache(folder):
    class Cached(nn.Module):
        cache: dict = {}  # noqa: RUF012 - as people write it

        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(4, 32), nn.Linear(32, 3)

        def forward(self, x):
            self.cache["hidden"] = torch.tanh(self.first(x))
            return self.head()

        def head(self):
            return self.second(self.cache["hidden"])

    return Asked(net=Cached(), data=vectors(400))


@right("the losses are logged into a deque")
def deque_of_losses(folder):
    log = collections.deque(maxlen=10)

    def loss(model, batch):
        found = cross_entropy(model, batch)
        log.append(found.mean().item())
        return found

    return Asked(net=mlp(), loss=loss, data=vectors(300))


@right("a hook logs norms into a list")
def list_of_norms(folder):
    net, log = cnn(), []
    net[3].register_forward_hook(lambda module, inputs, output: log.append(output.norm().item()))
    return Asked(net=net, data=images(120))


@refused("a moving average of past losses in the loss", "the value depends on what was evaluated before")
def average_in_loss(folder):
    past = [1.0]

    def loss(model, batch):
        found = cross_entropy(model, batch)
        past[0] = 0.9 * past[0] + 0.1 * found.mean().item()
        return found / past[0]

    return Asked(net=mlp(), loss=loss, data=vectors(200))


@right("a scratch tensor that all calls write to")
def scratch(folder):
    def forward(self, x):
        hidden = torch.mul(self.first(x), 1.0).detach()
        out = SCRATCH[: len(x)]
        torch.tanh(hidden, out=out)
        return self.second(out.clone())

    return Asked(
        net=net_of([("first", nn.Linear(4, 8)), ("second", nn.Linear(8, 3))], forward), data=vectors(400)
    )


@right("a mask in functools.lru_cache")
def cached_mask(folder):
    @functools.lru_cache
    def mask(size):
        return torch.tril(torch.ones(size, size))

    def forward(self, x):
        return self.body(x @ mask(x.shape[1]))

    return Asked(net=net_of([("body", mlp())], forward), data=vectors(300))


@right("an object of the network that refuses to be copied and gives itself")
def store_gives_itself(folder):
    class Store:
        def __deepcopy__(self, memo):
            return self

    def forward(self, x):
        self.store.hidden = torch.tanh(self.first(x))
        return self.finish()

    net = net_of([("first", nn.Linear(4, 64)), ("second", nn.Linear(64, 3))], forward)
    net.store = Store()
    type(net).finish = lambda self: self.second(self.store.hidden)
    return Asked(net=net, data=vectors(400))


@right("the learnt features are kept in a default argument")
def default_argument(folder):
    def forward(self, x, memory={}):  # noqa: B006 - as people write it
        memory["x"] = torch.tanh(self.first(x))
        return self.second(memory["x"])

    return Asked(
        net=net_of([("first", nn.Linear(4, 64)), ("second", nn.Linear(64, 3))], forward), data=vectors(400)
    )


@right("a variable of the enclosing function between two parts of the loss")
def nonlocal_variable(folder):
    targets = None

    def loss(model, batch):
        nonlocal targets
        targets = batch[1]
        return finish(model(batch[0]))

    def finish(outputs):
        return F.cross_entropy(outputs, targets, reduction="none")

    return Asked(net=mlp(64), loss=loss, data=vectors(400))


@right("a deque of one place between two parts of the loss")
def deque_between(folder):
    place = collections.deque(maxlen=1)

    def loss(model, batch):
        place.append(batch[1])
        outputs = model(batch[0])
        return F.cross_entropy(outputs, place[0], reduction="none")

    return Asked(net=mlp(64), loss=loss, data=vectors(400))


@right("an attribute of the class, written through type(self)")
def through_type(folder):
    class Remembering(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(4, 64), nn.Linear(64, 3)

        def forward(self, x):
            type(self).hidden = torch.tanh(self.first(x))
            return self.second(self.hidden)

    return Asked(net=Remembering(), data=vectors(400))


@right("a helper on the network whose method writes a global")
def helper_writes_global(folder):
    class Helper:
        def keep(self, value):
            global KEPT
            KEPT = value

        def kept(self):
            return KEPT

    def forward(self, x):
        self.helper.keep(torch.tanh(self.first(x)))
        return self.second(self.helper.kept())

    net = net_of([("first", nn.Linear(4, 64)), ("second", nn.Linear(64, 3))], forward)
    net.helper = Helper()
    return Asked(net=net, data=vectors(400))


@right("Python's generator is seeded inside the loss")
def random_seeded_in_loss(folder):
    def loss(model, batch):
        random.seed(5)
        return cross_entropy(model, batch) * (1 + random.random())

    return Asked(net=mlp(64), loss=loss, data=vectors(400))


@right("a global written through globals()")
def through_globals(folder):
    def loss(model, batch):
        globals()["KEPT"] = batch[1]
        return F.cross_entropy(model(batch[0]), globals()["KEPT"], reduction="none")

    return Asked(net=mlp(64), loss=loss, data=vectors(400))
