"""Premises that hold at the center: that an example's loss is its own, and the same at every pass."""

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import TensorDataset

from tests.relatives.case import Asked, either, refused, right
from tests.relatives.small import Items, cross_entropy, mlp, net_of, numbers, squared, vectors

KIND, TITLE = 5, "premises that hold at the center alone"
OF_ITS_BATCH = "an example's loss depends on its batch"


@refused("a loss of the whole batch that is zero at the solution", OF_ITS_BATCH)
def zero_at_solution(folder):
    net = nn.Linear(4, 1, bias=False)
    x = torch.randn(90, 4)

    def loss(model, batch):
        residual = (model(batch[0]) - batch[1])[:, 0]
        return residual.square().mean().expand(len(residual))

    return Asked(net=net, loss=loss, data=TensorDataset(x, net(x).detach()))


@refused("batch-wise normalization in evaluation", OF_ITS_BATCH)
def batch_wise(folder):
    net = net_of([("body", mlp())], lambda self, x: self.body((x - x.mean(0)) / x.std(0)))
    return Asked(net=net, data=vectors())


@refused("a penalty on the batch's mean output", OF_ITS_BATCH)
def mean_penalty(folder):
    def loss(model, batch):
        out = model(batch[0])
        return F.cross_entropy(out, batch[1], reduction="none") + out.softmax(1).mean(0).log().sum().neg()

    return Asked(net=mlp(), loss=loss, data=vectors())


@refused("state that a pass advances slowly", "the value depends on what was evaluated before")
def slow_state(folder):
    def forward(self, x):
        self.steps += 1
        return self.body(x) * (1 + 1e-3 * self.steps)

    return Asked(net=net_of([("body", mlp()), ("steps", torch.zeros(()))], forward), data=vectors())


@refused("an annealing that begins after a hundred calls", "the value depends on what was evaluated before")
def annealing(folder):
    def forward(self, x):
        self.calls += 1
        return self.body(x) * (1 if self.calls < 100 else 2)

    net = net_of([("body", mlp())], forward)
    net.calls = 0
    return Asked(net=net, data=vectors())


@either(
    "an augmentation of one item in a hundred",
    "an item is another one at every reading; read once, all points see the same",
)
def rare_augmentation(folder):
    x, y = torch.randn(200, 4), torch.randint(0, 3, (200,))
    state = {"reads": 0}

    def item(index):
        state["reads"] += 1
        noise = 0.5 if index == 117 and state["reads"] > 200 else 0.0
        return x[index] + noise, y[index]

    return Asked(net=mlp(), data=Items(item, 200))


@refused("an augmentation of every item", "an item is another one at every reading")
def augmentation(folder):
    x, y = torch.randn(60, 4), torch.randint(0, 3, (60,))
    return Asked(net=mlp(), data=Items(lambda index: (x[index] + 0.1 * torch.randn(4), y[index])))


@refused("a contrastive loss with negatives from the batch", OF_ITS_BATCH)
def contrastive(folder):
    def loss(model, batch):
        first, second = F.normalize(model(batch[0]), dim=1), F.normalize(model(batch[0] + 0.1), dim=1)
        return F.cross_entropy(first @ second.t() / 0.1, torch.arange(len(first)), reduction="none")

    return Asked(net=mlp(), loss=loss, data=vectors())


@refused("a triplet loss with the hardest of the batch", OF_ITS_BATCH)
def triplets(folder):
    def loss(model, batch):
        far = torch.cdist(model(batch[0]), model(batch[0]))
        same = batch[1][:, None] == batch[1]
        return (far.masked_fill(~same, 0).amax(1) - far.masked_fill(same, 1e3).amin(1) + 1).relu()

    return Asked(net=mlp(), loss=loss, data=vectors())


@refused("attention over the batch", OF_ITS_BATCH)
def attention_over_batch(folder):
    def forward(self, x):
        hidden = self.first(x)
        return self.head(F.scaled_dot_product_attention(hidden, hidden, hidden))

    return Asked(net=net_of([("first", nn.Linear(4, 8)), ("head", nn.Linear(8, 3))], forward), data=vectors())


@refused("a sum over the batch, divided by a fixed batch size", OF_ITS_BATCH)
def fixed_batch_size(folder):
    def loss(model, batch):
        return (cross_entropy(model, batch).sum() / 64).expand(len(batch[1]))

    return Asked(net=mlp(), loss=loss, data=vectors())


@refused("mixup with a seeded permutation", OF_ITS_BATCH)
def mixup(folder):
    def loss(model, batch):
        order = torch.randperm(len(batch[0]), generator=torch.Generator().manual_seed(0))
        return cross_entropy(model, [0.7 * batch[0] + 0.3 * batch[0][order], batch[1]])

    return Asked(net=mlp(), loss=loss, data=vectors())


@refused("weights by the position in the batch", OF_ITS_BATCH)
def by_position(folder):
    def loss(model, batch):
        return cross_entropy(model, batch) * (1 + torch.arange(len(batch[1])) % 2)

    return Asked(net=mlp(), loss=loss, data=vectors())


@refused("a codebook that is updated in evaluation", "the value depends on what was evaluated before")
def codebook(folder):
    def forward(self, x):
        hidden = self.first(x)
        chosen = torch.cdist(hidden, self.codes).argmin(1)
        quantized = self.codes[chosen]
        with torch.no_grad():
            self.codes[chosen] = 0.99 * self.codes[chosen] + 0.01 * hidden
        return self.head(quantized)

    parts = [("first", nn.Linear(4, 8)), ("codes", torch.randn(16, 8)), ("head", nn.Linear(8, 3))]
    return Asked(net=net_of(parts, forward), data=vectors())


@refused("a batch-wise share that counts only for wrong examples", OF_ITS_BATCH)
def focal_by_batch(folder):
    def loss(model, batch):
        found = squared(model, batch)
        return found * (found > found.mean())

    return Asked(net=mlp()[:1].append(nn.Linear(8, 1)), loss=loss, data=numbers())


@right("classes weighted by their share of the whole data")
def class_weights(folder):
    weights = torch.tensor([0.2, 1.0, 3.0])

    def loss(model, batch):
        return F.cross_entropy(model(batch[0]), batch[1], weight=weights, reduction="none")

    return Asked(net=mlp(), loss=loss, data=vectors())
