"""What people hand over, and what once crashed."""

import collections

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations, prune, rnn
from torch.utils.checkpoint import checkpoint
from torch.utils.data import TensorDataset

from tests.relatives.case import Asked, either, refused, right
from tests.relatives.small import Items, cnn, cross_entropy, images, mlp, net_of, stirred, tokens, vectors

KIND, TITLE = 9, "what ought to work"


@right("a parameter without axes: CLIP's logit_scale")
def logit_scale(folder):
    parts = [("body", mlp()), ("logit_scale", nn.Parameter(torch.tensor(2.6593)))]
    return Asked(net=net_of(parts, lambda self, x: self.body(x) * self.logit_scale.exp()), data=vectors())


@right("a physics-informed loss")
def physics_informed(folder):
    def loss(model, batch):
        t = batch[0].clone().requires_grad_(True)
        u = model(t)
        (du,) = torch.autograd.grad(u.sum(), t, create_graph=True)
        (ddu,) = torch.autograd.grad(du.sum(), t, create_graph=True)
        return (ddu + u).square()[:, 0]

    net = nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 1))
    return Asked(net=net, loss=loss, data=TensorDataset(torch.linspace(0, 3, 90)[:, None]))


@right("a loss of torch.func, per example")
def functional(folder):
    def loss(model, batch):
        named = dict(model.named_parameters())

        def one(x):
            return torch.func.functional_call(model, named, (x[None],))[0]

        return torch.func.vmap(torch.func.jacrev(one))(batch[0]).square().flatten(1).sum(1)

    return Asked(net=mlp(), loss=loss, data=vectors())


@right("TorchScript")
def scripted(folder):
    return Asked(net=torch.jit.script(mlp()), data=vectors())


@right("a trace of torch.jit")
def traced(folder):
    return Asked(net=torch.jit.trace(mlp(), torch.randn(2, 4)), data=vectors())


@right("torch.fx")
def fx_module(folder):
    return Asked(net=torch.fx.symbolic_trace(mlp()), data=vectors())


@right("the old weight_norm")
def old_weight_norm(folder):
    net = mlp()
    nn.utils.weight_norm(net[0])
    return Asked(net=net, data=vectors())


@right("the old spectral_norm")
def old_spectral_norm(folder):
    net = mlp()
    nn.utils.spectral_norm(net[0])
    net(torch.randn(2, 4))
    return Asked(net=net.eval(), data=vectors())


@right("weight_norm as a parametrization")
def weight_norm(folder):
    net = mlp()
    parametrizations.weight_norm(net[0])
    return Asked(net=net, data=vectors())


@right("orthogonal weights as a parametrization")
def orthogonal(folder):
    net = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 3))
    parametrizations.orthogonal(net[0])
    return Asked(net=net, data=vectors())


@right("a pruned network")
def pruned(folder):
    net = mlp()
    prune.l1_unstructured(net[0], "weight", 0.5)
    return Asked(net=net, data=vectors())


@right("complex parameters")
def complex_parameters(folder):
    parts = [("filter", nn.Parameter(torch.randn(3, dtype=torch.complex64))), ("head", nn.Linear(4, 3))]
    net = net_of(parts, lambda self, x: self.head(torch.fft.irfft(torch.fft.rfft(x) * self.filter, n=4)))
    return Asked(net=net, data=vectors())


@right("a parameter of integers")
def integer_parameter(folder):
    parts = [("order", nn.Parameter(torch.tensor([2, 0, 1, 3]), requires_grad=False)), ("body", mlp())]
    return Asked(net=net_of(parts, lambda self, x: self.body(x[:, self.order])), data=vectors())


@refused(
    "one layer quantized dynamically, the others not", "its inputs are rounded on a scale of the whole batch"
)
def quantized_layer(folder):
    import warnings

    class Head(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(8, 8)

        def forward(self, x):
            return self.inner(x)

    net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), Head(), nn.Linear(8, 3))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net[2] = torch.ao.quantization.quantize_dynamic(net[2], {nn.Linear}, dtype=torch.qint8)
    return Asked(net=net.eval(), data=vectors())


@right("batch.pop in the loss")
def popped(folder):
    x, y = torch.randn(90, 4), torch.randint(0, 3, (90,))

    def loss(model, batch):
        labels = batch.pop("labels")
        return F.cross_entropy(model(**batch), labels, reduction="none")

    return Asked(net=mlp_named(), loss=loss, data=Items(lambda i: {"x": x[i], "labels": y[i]}, 90))


def mlp_named():
    return net_of([("body", mlp())], lambda self, x: self.body(x))


@right("nested mappings")
def nested(folder):
    x, y = torch.randn(90, 4), torch.randint(0, 3, (90,))

    def loss(model, batch):
        return F.cross_entropy(model(batch["in"]["features"][0]), batch["out"]["y"], reduction="none")

    item = lambda i: {"in": {"features": (x[i], i)}, "out": {"y": y[i]}}  # noqa: E731
    return Asked(net=mlp(), loss=loss, data=Items(item, 90))


Pair = collections.namedtuple("Pair", "features label")


@right("named tuples")
def named_tuples(folder):
    x, y = torch.randn(90, 4), torch.randint(0, 3, (90,))

    def loss(model, batch):
        return F.cross_entropy(model(batch.features), batch.label, reduction="none")

    return Asked(net=mlp(), loss=loss, data=Items(lambda i: Pair(x[i], y[i]), 90))


@right("strings in the batches")
def strings(folder):
    x = torch.randn(90, 4)
    names = ["cat", "dog", "owl"]

    def loss(model, batch):
        labels = torch.tensor([names.index(each) for each in batch["name"]])
        return F.cross_entropy(model(batch["x"]), labels, reduction="none")

    return Asked(net=mlp(), loss=loss, data=Items(lambda i: {"x": x[i], "name": names[i % 3]}, 90))


@right("lazy layers that a batch has passed")
def lazy(folder):
    net = nn.Sequential(nn.LazyLinear(8), nn.Tanh(), nn.LazyLinear(3))
    net(torch.randn(2, 4))
    return Asked(net=net, data=vectors())


@refused("lazy layers that nothing has passed", "they have no parameters yet", says="lazy layers")
def lazy_still(folder):
    return Asked(net=nn.Sequential(nn.LazyLinear(8), nn.Tanh(), nn.LazyLinear(3)), data=vectors())


@right("a ModuleDict with odd names")
def odd_names(folder):
    parts = nn.ModuleDict({"a b/c": nn.Linear(4, 8), "größe,1": nn.Linear(8, 3)})
    net = net_of(
        [("parts", parts)], lambda self, x: self.parts["größe,1"](torch.tanh(self.parts["a b/c"](x)))
    )
    return Asked(net=net, data=vectors())


@right("nn.Transformer")
def transformer(folder):
    parts = [
        ("embed", nn.Embedding(20, 8)),
        ("body", nn.Transformer(8, 2, 1, 1, 16, batch_first=True)),
        ("head", nn.Linear(8, 3)),
    ]
    net = net_of(parts, lambda self, x: self.head(self.body(self.embed(x), self.embed(x[:, :2])).mean(1)))
    return Asked(net=net, data=tokens())


@right("a Transformer's encoder with a mask of padding")
def masked_encoder(folder):
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    parts = [
        ("embed", nn.Embedding(20, 8)),
        ("body", nn.TransformerEncoder(layer, 2)),
        ("head", nn.Linear(8, 3)),
    ]

    def forward(self, x):
        padding = (x < 5).clone()
        padding[:, 0] = False
        return self.head(self.body(self.embed(x), src_key_padding_mask=padding)[:, 0])

    return Asked(net=net_of(parts, forward), data=tokens())


@right("LSTM")
def lstm(folder):
    parts = [
        ("embed", nn.Embedding(20, 8)),
        ("body", nn.LSTM(8, 6, 2, batch_first=True)),
        ("head", nn.Linear(6, 3)),
    ]
    return Asked(
        net=net_of(parts, lambda self, x: self.head(self.body(self.embed(x))[0][:, -1])), data=tokens()
    )


@right("GRU on packed sequences")
def packed(folder):
    parts = [
        ("embed", nn.Embedding(20, 8)),
        ("body", nn.GRU(8, 6, batch_first=True, bidirectional=True)),
        ("head", nn.Linear(12, 3)),
    ]

    def forward(self, x):
        lengths = (x > 3).sum(1).clamp(min=1).cpu()
        _, last = self.body(
            rnn.pack_padded_sequence(self.embed(x), lengths, batch_first=True, enforce_sorted=False)
        )
        return self.head(last.transpose(0, 1).flatten(1))

    return Asked(net=net_of(parts, forward), data=tokens())


@right("one module in two places")
def shared_module(folder):
    layer = nn.Linear(4, 4)
    return Asked(net=nn.Sequential(layer, nn.Tanh(), layer, nn.Tanh(), nn.Linear(4, 3)), data=vectors())


@right("ParameterList, ParameterDict, and an empty parameter")
def parameter_lists(folder):
    parts = [
        ("weights", nn.ParameterList([torch.randn(4, 8), torch.randn(8, 3)])),
        ("more", nn.ParameterDict({"shift": torch.randn(3)})),
        ("none", nn.Parameter(torch.empty(0, 4))),
    ]
    net = net_of(
        parts, lambda self, x: torch.tanh(x @ self.weights[0]) @ self.weights[1] + self.more["shift"]
    )
    return Asked(net=net, data=vectors())


@right("an EmbeddingBag with offsets")
def embedding_bag(folder):
    parts = [("bag", nn.EmbeddingBag(20, 8, mode="sum")), ("head", nn.Linear(8, 3))]

    def forward(self, x):
        return self.head(self.bag(x.flatten(), torch.arange(0, x.numel(), x.shape[1])))

    return Asked(net=net_of(parts, forward), data=tokens())


@right("a fixed point by iteration")
def equilibrium(folder):
    def forward(self, x):
        z = torch.zeros(len(x), 8)
        for _ in range(30):
            z = torch.tanh(0.2 * self.inner(z) + self.outer(x))
        return self.head(z)

    parts = [("inner", nn.Linear(8, 8)), ("outer", nn.Linear(4, 8)), ("head", nn.Linear(8, 3))]
    return Asked(net=net_of(parts, forward), data=vectors())


@right("a network that makes another one's weights")
def hypernetwork(folder):
    def forward(self, x):
        weights = self.maker(x).reshape(-1, 3, 4)
        return torch.bmm(weights, x[:, :, None])[:, :, 0]

    return Asked(net=net_of([("maker", nn.Linear(4, 12))], forward), data=vectors())


@right("activation checkpointing")
def checkpointed(folder):
    def forward(self, x):
        return self.second(checkpoint(lambda y: torch.tanh(self.first(y)), x, use_reentrant=False))

    return Asked(
        net=net_of([("first", nn.Linear(4, 8)), ("second", nn.Linear(8, 3))], forward), data=vectors()
    )


@right("torch.compile, not yet called")
def compiled(folder):
    return Asked(net=torch.compile(mlp(), backend="eager"), data=vectors())


@right("a custom autograd function")
def autograd_function(folder):
    class Sign(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.sign()

        @staticmethod
        def backward(ctx, gradient):
            return gradient

    net = net_of(
        [("first", nn.Linear(4, 8)), ("second", nn.Linear(8, 3))],
        lambda self, x: self.second(Sign.apply(self.first(x) + 2)),
    )
    return Asked(net=net, data=vectors())


@right("a loss that answers with further numbers")
def further_numbers(folder):
    def loss(model, batch):
        out = model(batch[0])
        return {
            "loss": F.cross_entropy(out, batch[1], reduction="none"),
            "correct": out.argmax(1) == batch[1],
            "margin": out.amax(1),
        }

    return Asked(net=mlp(), loss=loss, data=vectors())


@right("two splits, of which one is smaller than a batch")
def two_splits(folder):
    return Asked(net=cnn(), data={"train": images(60), "test": images(5)})


@right("losses that become infinite or NaN away from the center")
def infinite(folder):
    def loss(model, batch):
        return cross_entropy(model, batch) * torch.where(model[0].weight.norm() > 3.5, torch.inf, 1.0)

    return Asked(net=mlp(), loss=loss, data=vectors())


@either("a generator of its own kept in the network", "random in evaluation, though the same at every call")
def own_generator(folder):
    def forward(self, x):
        noise = torch.randn(1, 4, generator=self.generator.manual_seed(0))
        return self.body(x + 0.1 * noise)

    net = net_of([("body", mlp())], forward)
    net.generator = torch.Generator()
    return Asked(net=net, data=vectors())


@right("group and local response normalization in a U-net")
def unet(folder):
    def forward(self, x):
        down = F.relu(self.norm(self.first(x)))
        low = self.response(self.second(F.max_pool2d(down, 2)))
        up = F.interpolate(low, scale_factor=2, mode="bilinear", align_corners=False)
        return self.head(torch.cat([down, up], 1).mean((2, 3)))

    parts = [
        ("first", nn.Conv2d(1, 4, 3, padding=1)), ("norm", nn.GroupNorm(2, 4)), ("second", nn.Conv2d(4, 4, 3, padding=1)),
        ("response", nn.LocalResponseNorm(2)), ("head", nn.Linear(8, 3)),
    ]  # fmt: skip
    return Asked(net=stirred(net_of(parts, forward)), data=images())
