"""Which units of small networks may be permuted, an operation each, and that the network computes what it did.

The oracle is the network itself in float64, with another order of units written into it; sizes of sets are by hand.
"""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations

from mpi_landscape.errors import LandscapeError
from mpi_landscape.evaluation.alignment.aligning import symmetries_of
from tests.evaluation.random_blocks import Block

CLASSES = 3


def rows(middle, *, width=8, after=None, **parts):
    """(5, 6) inputs, a linear layer, something in the middle, a linear layer."""
    return (
        Block(
            lambda s, x: s.last(middle(s, s.first(x))),
            first=nn.Linear(6, width),
            last=nn.Linear(after or width, CLASSES),
            **parts,
        ),
        (5, 6),
    )


def images(middle, *, width=8, after=None, size=6, **parts):
    """(5, 2, 6, 6) images, a convolution, something in the middle, the mean of pixels, a linear layer."""
    return (
        Block(
            lambda s, x: s.last(middle(s, s.first(x)).mean((2, 3))),
            first=nn.Conv2d(2, width, 3, padding=1),
            last=nn.Linear(after or width, CLASSES),
            **parts,
        ),
        (5, 2, size, size),
    )


def tokens(middle, **parts):
    """(5, 4) numbers of tokens, an embedding of 8, something in the middle, a linear layer."""
    return (
        Block(
            lambda s, x: s.last(middle(s, s.first(x)).mean(1)),
            first=nn.Embedding(10, 8),
            last=nn.Linear(8, CLASSES),
            **parts,
        ),
        (5, 4),
    )


def parameter(*shape):
    return nn.Parameter(torch.randn(shape))


class Centered(nn.Module):
    """A normalization of somebody's own, with statistics of its own."""

    def __init__(self):
        super().__init__()
        self.register_buffer("running_level", torch.randn(8))
        self.scale = parameter(8)

    def forward(self, x):
        return (x - self.running_level) * self.scale


def activation(module):
    return lambda: rows(lambda s, x: s.act(x), act=module)


def _filled(s, x):
    out = torch.zeros(len(x), 16, dtype=x.dtype)
    out[:, :8] = x
    out[:, 8:] = x.relu()
    return out


def _shuffled(s, x):
    n, c, h, w = x.shape
    return s.second(x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w))


def _by_hand(s, x):
    q, k, v = (s.qkv(x).unflatten(-1, (3, 2, 4))).permute(2, 0, 3, 1, 4)
    attended = F.scaled_dot_product_attention(q, k, v)
    return s.out(attended.transpose(1, 2).flatten(2))


def _heads_of_one(s, x):
    weights = torch.softmax(torch.einsum("btd,bsd->bts", s.q(x), s.k(x)) / 2, -1)
    return torch.einsum("bts,bsd->btd", weights, s.v(x)) @ s.o


def _tied_autoencoder():
    return (
        Block(
            lambda s, x: F.linear(torch.tanh(F.linear(x, s.weight, s.bias)), s.weight.t()),
            weight=parameter(8, 6),
            bias=parameter(8),
        ),
        (5, 6),
    )


def _shared():
    block, shape = rows(lambda s, x: s.second(torch.relu(s.second(x))), second=nn.Linear(8, 8))
    return block, shape


def _two_names():
    block, shape = rows(
        lambda s, x: s.third(torch.relu(s.second(x))), second=nn.Linear(8, 8), third=nn.Linear(8, 8)
    )
    block.third.weight = block.second.weight
    return block, shape


def _one_memory():
    """All parameters are views of one vector, as in the programs that shard a network."""
    block, shape = rows(lambda s, x: torch.relu(x))
    flat = torch.cat([each.detach().reshape(-1) for each in block.parameters()])
    start = 0
    for each in block.parameters():
        each.data = flat[start : start + each.numel()].view(each.shape)
        start += each.numel()
    return block, shape


def conv(given, made, size=3, **options):
    return nn.Conv2d(given, made, size, padding=size // 2, **options)


# By name: a network with the shape of its inputs, and the sizes of the sets that may be permuted.
NETWORKS = {
    # ---- products
    "linear": (lambda: rows(lambda s, x: torch.relu(x)), [8]),
    "no activation": (lambda: rows(lambda s, x: x), [8]),
    "a matrix by @": (
        lambda: rows(lambda s, x: torch.relu(x) @ s.weight, after=7, weight=parameter(8, 7)),
        [8, 7],
    ),
    "einsum": (
        lambda: rows(
            lambda s, x: torch.einsum("oi,ni->no", s.weight, x.tanh()), after=7, weight=parameter(7, 8)
        ),
        [8, 7],
    ),
    "F.linear": (
        lambda: rows(lambda s, x: F.linear(x.sin(), s.weight), after=7, weight=parameter(7, 8)),
        [8, 7],
    ),
    "addmm": (
        lambda: rows(
            lambda s, x: torch.addmm(s.bias, x, s.weight), after=7, weight=parameter(8, 7), bias=parameter(7)
        ),
        [8, 7],
    ),
    "bmm": (
        lambda: rows(
            lambda s, x: torch.bmm(s.weight.expand(5, 7, 8), x.tanh()[..., None])[..., 0],
            after=7,
            weight=parameter(7, 8),
        ),
        [8, 7],
    ),
    "mv": (
        lambda: rows(
            lambda s, x: x * torch.mv(s.weight, s.vector), weight=parameter(8, 7), vector=parameter(7)
        ),
        [8, 7],
    ),
    "addbmm": (
        lambda: rows(
            lambda s, x: torch.addbmm(x, s.one, s.two), one=parameter(4, 5, 7), two=parameter(4, 7, 8)
        ),
        [8, 7, 4],
    ),
    "gram": (lambda: rows(lambda s, x: x @ (s.weight @ s.weight.t()), weight=parameter(8, 7)), [8, 7]),
    "complex": (
        lambda: rows(
            lambda s, x: (x.to(s.weight.dtype) @ s.weight).abs(),
            after=7,
            weight=nn.Parameter(torch.randn(8, 7, dtype=torch.complex64)),
        ),
        [8, 7],
    ),
    # ---- element by element
    "relu": (activation(nn.ReLU(inplace=True)), [8]),
    "gelu": (activation(nn.GELU()), [8]),
    "silu": (activation(nn.SiLU()), [8]),
    "hardswish": (activation(nn.Hardswish(inplace=True)), [8]),
    "prelu": (activation(nn.PReLU(8)), [8]),
    "prelu of one number": (activation(nn.PReLU()), [8]),
    "softplus": (activation(nn.Softplus()), [8]),
    "log-sigmoid": (activation(nn.LogSigmoid()), [8]),
    "elu": (activation(nn.ELU()), [8]),
    "dropout": (activation(nn.Dropout(0.5)), [8]),
    "glu": (lambda: rows(lambda s, x: F.glu(x), after=4), [4]),
    "gate": (
        lambda: rows(
            lambda s, x: s.one(x).sigmoid() * s.two(x), after=7, one=nn.Linear(8, 7), two=nn.Linear(8, 7)
        ),
        [8, 7],
    ),
    "sum": (lambda: rows(lambda s, x: x + s.second(x).relu(), second=nn.Linear(8, 8)), [8]),
    "a sum in place": (lambda: rows(lambda s, x: x.add_(s.second(x)).relu_(), second=nn.Linear(8, 8)), [8]),
    "where": (lambda: rows(lambda s, x: torch.where(x > 0, x, s.slope * x), slope=parameter(8)), [8]),
    "masked_fill": (lambda: rows(lambda s, x: x.masked_fill(x < 0, 0.5)), [8]),
    # ---- normalizations
    "batch normalization": (lambda: rows(lambda s, x: s.norm(x), norm=nn.BatchNorm1d(8)), [8]),
    "batch normalization of the batch": (
        lambda: rows(lambda s, x: s.norm(x), norm=nn.BatchNorm1d(8, track_running_stats=False)),
        [8],
    ),
    "layer normalization": (lambda: rows(lambda s, x: s.norm(x), norm=nn.LayerNorm(8)), [8]),
    "root mean square": (lambda: rows(lambda s, x: s.norm(x), norm=nn.RMSNorm(8)), [8]),
    "group normalization": (lambda: images(lambda s, x: s.norm(x).relu(), norm=nn.GroupNorm(2, 8)), [4, 4]),
    "one group": (lambda: images(lambda s, x: s.norm(x).relu(), norm=nn.GroupNorm(1, 8)), [8]),
    "a group each": (lambda: images(lambda s, x: s.norm(x).relu(), norm=nn.GroupNorm(8, 8)), [8]),
    "instance normalization": (
        lambda: images(lambda s, x: s.norm(x).relu(), norm=nn.InstanceNorm2d(8, affine=True)),
        [8],
    ),
    "statistics of one's own": (lambda: rows(lambda s, x: s.norm(x), norm=Centered()), [8]),
    "a norm by hand": (
        lambda: rows(
            lambda s, x: (x - x.mean(1, keepdim=True)) / x.var(1, keepdim=True).sqrt() * s.scale,
            scale=parameter(8),
        ),
        [8],
    ),
    "softmax over units": (lambda: rows(lambda s, x: x.softmax(1)), [8]),
    "length": (lambda: rows(lambda s, x: F.normalize(x)), [8]),
    "the largest": (lambda: rows(lambda s, x: x / x.amax(1, keepdim=True)), [8]),
    "weight normalization": (
        lambda: rows(
            lambda s, x: s.second(x).relu(), after=7, second=parametrizations.weight_norm(nn.Linear(8, 7))
        ),
        [8, 7],
    ),
    "spectral normalization": (
        lambda: rows(
            lambda s, x: s.third(s.second(x)).relu(),
            after=7,
            second=parametrizations.spectral_norm(nn.Linear(8, 9)),
            third=nn.Linear(9, 7),
        ),
        [7],
    ),
    # ---- convolutions
    "convolution": (lambda: images(lambda s, x: s.second(x.relu()), after=7, second=conv(8, 7)), [8, 7]),
    "transposed": (
        lambda: images(
            lambda s, x: s.second(x.relu()), after=7, second=nn.ConvTranspose2d(8, 7, 2, stride=2)
        ),
        [8, 7],
    ),
    "depthwise": (lambda: images(lambda s, x: s.second(x.relu()), second=conv(8, 8, groups=8)), [8]),
    "depthwise, two each": (
        lambda: images(lambda s, x: s.second(x.relu()), after=16, second=conv(8, 16, groups=8)),
        [8, 2],
    ),
    "groups": (
        lambda: images(lambda s, x: s.second(x.relu()), after=12, second=conv(8, 12, groups=4)),
        [4, 2, 3],
    ),
    "groups, transposed": (
        lambda: images(
            lambda s, x: s.second(x.relu()), after=12, second=nn.ConvTranspose2d(8, 12, 3, groups=4)
        ),
        [4, 2, 3],
    ),
    "groups and their shuffle": (lambda: images(_shuffled, second=conv(8, 8, groups=2)), [2, 2, 2, 4]),
    "one dimension": (
        lambda: (
            Block(
                lambda s, x: s.last(s.first(x).relu().flatten(1)),
                first=nn.Conv1d(2, 8, 3),
                last=nn.Linear(32, CLASSES),
            ),
            (5, 2, 6),
        ),
        [8],
    ),
    "three dimensions": (
        lambda: (
            Block(
                lambda s, x: s.last(F.max_pool3d(s.first(x), 2).flatten(1)),
                first=nn.Conv3d(2, 8, 3),
                last=nn.Linear(8, CLASSES),
            ),
            (5, 2, 4, 4, 4),
        ),
        [8],
    ),
    "pooling": (lambda: images(lambda s, x: F.avg_pool2d(F.max_pool2d(x, 2, ceil_mode=True), 2)), [8]),
    "adaptive pooling": (
        lambda: images(lambda s, x: F.adaptive_avg_pool2d(F.adaptive_max_pool2d(x, 3), 2)),
        [8],
    ),
    "mean of channels last": (
        lambda: images(lambda s, x: F.adaptive_avg_pool2d(x.to(memory_format=torch.channels_last), 1)),
        [8],
    ),
    "by strides": (lambda: rows(lambda s, x: torch.as_strided(x, (8, 5), (1, 8)).t().relu()), [8]),
    "resizing": (
        lambda: images(lambda s, x: F.interpolate(F.interpolate(x, scale_factor=2), size=5, mode="bilinear")),
        [8],
    ),
    "reflection": (lambda: images(lambda s, x: F.pad(x, (1, 1, 1, 1), mode="reflect")), [8]),
    # ---- shapes
    "flatten": (
        lambda: (
            Block(
                lambda s, x: s.last(F.max_pool2d(s.first(x), 2).flatten(1)),
                first=conv(2, 8),
                last=nn.Linear(72, CLASSES),
            ),
            (5, 2, 6, 6),
        ),
        [8],
    ),
    "flatten, channels last": (
        lambda: (
            Block(
                lambda s, x: s.last(s.first(x).permute(0, 2, 3, 1).flatten(1)),
                first=conv(2, 8),
                last=nn.Linear(288, CLASSES),
            ),
            (5, 2, 6, 6),
        ),
        [8],
    ),
    "flatten after concatenation": (
        lambda: (
            Block(
                lambda s, x: s.last(torch.cat([s.first(x), s.second(x)], 1).flatten(1)),
                first=conv(2, 8),
                second=conv(2, 7),
                last=nn.Linear(540, CLASSES),
            ),
            (5, 2, 6, 6),
        ),
        [8, 7],
    ),
    "concatenation": (
        lambda: images(lambda s, x: torch.cat([s.second(x.relu()), x], 1), after=15, second=conv(8, 7)),
        [7, 8],
    ),
    "zeros around channels": (
        lambda: images(
            lambda s, x: s.second(F.pad(x, (0, 0, 0, 0, 2, 3)).relu()), after=7, second=conv(13, 7)
        ),
        [8, 2, 3, 7],
    ),
    "padded shortcut": (
        lambda: images(
            lambda s, x: s.second(x).relu() + F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 4, 4)),
            after=16,
            second=conv(8, 16, stride=2),
        ),
        [4, 8, 4],
    ),
    "halves": (
        lambda: rows(lambda s, x: s.second(x[:, :4]) * s.second(x[:, 4:]), after=7, second=nn.Linear(4, 7)),
        [4, 7],
    ),
    "chunks": (
        lambda: rows(lambda s, x: torch.cat([each.relu() for each in x.chunk(3, 1)][::-1], 1), width=9),
        [3, 3, 3],
    ),
    "a unit by itself": (lambda: rows(lambda s, x: x * x[:, :1]), [7]),
    "two units by themselves": (lambda: rows(lambda s, x: x + x[:, 2, None] * x[:, 5, None]), [2, 2, 2]),
    "every second": (lambda: rows(lambda s, x: s.second(x)[:, ::2], after=4, second=nn.Linear(8, 8)), [8]),
    "filled in": (lambda: rows(_filled, after=16), [8]),
    "stack": (lambda: rows(lambda s, x: torch.stack([x.relu(), x.tanh()], 1).sum(1)), [8]),
    "repeat": (lambda: rows(lambda s, x: x.repeat(1, 2), after=16), [8]),
    "repeat_interleave": (lambda: rows(lambda s, x: x.repeat_interleave(2, 1), after=16), [8, 2]),
    "expand": (lambda: rows(lambda s, x: x * s.scale.expand(5, 8), scale=parameter(1)), [8]),
    "maxout": (lambda: rows(lambda s, x: x.view(5, 4, 2).max(2)[0], after=4), [4]),
    "in place of its shape": (lambda: rows(lambda s, x: x.clone().t_().relu_().t_()), [8]),
    "unbind": (
        lambda: rows(lambda s, x: sum(each.relu() for each in x.view(5, 2, 4).unbind(1)), after=4),
        [4],
    ),
    "squeeze": (lambda: rows(lambda s, x: x[:, None, :, None].relu().squeeze(3).squeeze(1)), [8]),
    # ---- sequences
    "embedding": (lambda: tokens(lambda s, x: s.second(x.relu()), second=nn.Linear(8, 8)), [8, 8]),
    "positions": (lambda: tokens(lambda s, x: x + s.positions[: x.shape[1]], positions=parameter(6, 8)), [8]),
    "attention": (
        lambda: tokens(
            lambda s, x: s.second(x, x, x, need_weights=False)[0],
            second=nn.MultiheadAttention(8, 2, batch_first=True),
        ),
        [8, 2, 4, 8],
    ),
    "attention by hand": (lambda: tokens(_by_hand, qkv=nn.Linear(8, 24), out=nn.Linear(8, 8)), [8, 2, 4, 8]),
    "attention by einsum": (
        lambda: tokens(
            _heads_of_one, q=nn.Linear(8, 5), k=nn.Linear(8, 5), v=nn.Linear(8, 6), o=parameter(6, 8)
        ),
        [8, 5, 6, 8],
    ),
    "transformer": (
        lambda: tokens(lambda s, x: s.block(x), block=nn.TransformerEncoderLayer(8, 2, 12, batch_first=True)),
        [8, 2, 4, 12],
    ),
    "LSTM": (lambda: tokens(lambda s, x: s.cell(x)[0], cell=nn.LSTM(8, 8, batch_first=True)), [8, 8]),
    "GRU": (lambda: tokens(lambda s, x: s.cell(x)[0], cell=nn.GRU(8, 8, batch_first=True)), [8, 8]),
    # ---- one tensor in two places
    "tied autoencoder": (_tied_autoencoder, [8]),
    "a layer twice": (_shared, [8]),
    "two names": (_two_names, [8]),
    "one memory": (_one_memory, [8]),
    "past its attribute": (
        lambda: rows(
            lambda s, x: x.relu() + s.first.bias.data,
        ),
        [8],
    ),
    # ---- what stays in order
    "a mask": (
        lambda: rows(lambda s, x: s.second(x * s.mask), after=7, second=nn.Linear(8, 7), mask=torch.rand(8)),
        [7],
    ),
    "cumsum": (lambda: rows(lambda s, x: s.second(x.cumsum(1)), after=7, second=nn.Linear(8, 7)), [7]),
    "flip": (lambda: rows(lambda s, x: s.second(x.flip(1)), after=7, second=nn.Linear(8, 7)), [7]),
    "windows": (
        lambda: rows(
            lambda s, x: s.second(torch.as_strided(x, (5, 7, 2), (8, 1, 1)).sum(2)),
            after=6,
            second=nn.Linear(7, 6),
        ),
        [6],
    ),
    "sort": (lambda: rows(lambda s, x: s.second(x.sort(1)[0]), after=7, second=nn.Linear(8, 7)), [7]),
    "positions of units": (
        lambda: rows(lambda s, x: s.second(x * torch.arange(8)), after=7, second=nn.Linear(8, 7)),
        [7],
    ),
    "the largest of all": (
        lambda: rows(lambda s, x: s.second(x) + x.argmax(1, keepdim=True), after=7, second=nn.Linear(8, 7)),
        [7],
    ),
    "an index": (
        lambda: rows(lambda s, x: s.second(x[:, [1, 0, 2, 3, 4, 5, 6, 7]]), after=7, second=nn.Linear(8, 7)),
        [7],
    ),
    "no rule": (
        lambda: rows(
            lambda s, x: s.second(
                torch.special.zeta(x.exp() + 1, torch.ones(8)) + x.diff(dim=1, append=x[:, :1])
            ),
            after=7,
            second=nn.Linear(8, 7),
        ),
        [7],
    ),
    "a convolution over units": (
        lambda: rows(
            lambda s, x: s.second(F.conv1d(x[:, None], s.kernel, padding=1)[:, 0]),
            after=7,
            second=nn.Linear(8, 7),
            kernel=parameter(1, 1, 3),
        ),
        [7],
    ),
}


def settled(network):
    """In float64, with scales, shifts and statistics of which no two are alike."""
    for name, tensor in (*network.named_parameters(), *network.named_buffers()):
        if tensor.is_floating_point() and tensor.ndim < 2 and not name.endswith("weight_u"):
            tensor.data.uniform_(0.5, 1.5)
    return network.eval()


def made(name):
    torch.manual_seed(3)
    build, sizes = NETWORKS[name]
    network, shape = build()
    integers = isinstance(getattr(network, "first", None), nn.Embedding)
    inputs = torch.randint(10, shape) if integers else torch.randn(shape)
    return settled(network), inputs, sizes


def loss(network, inputs):
    return network(inputs).square().sum(-1)


@pytest.mark.parametrize("name", NETWORKS)
def test_units_that_may_be_permuted_are_found_and_no_others(name):
    network, inputs, sizes = made(name)
    before = copy.deepcopy(network.state_dict())
    symmetries = symmetries_of(network, loss, inputs)
    assert sorted(each.size for each in symmetries.sets) == sorted(sizes)
    assert all(torch.equal(tensor, before[key]) for key, tensor in network.state_dict().items())


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_with_permuted_units_computes_what_it_did(name):
    network, inputs, _ = made(name)
    symmetries = symmetries_of(network, loss, inputs)
    state = copy.deepcopy(network.state_dict())
    others = (
        torch.randint(10, (7, 4)) if not inputs.is_floating_point() else torch.randn(5, *inputs.shape[1:])
    )
    generator = torch.Generator().manual_seed(1)
    order = [torch.randperm(each.size, generator=generator).roll(1) for each in symmetries.sets]
    moved = symmetries.permuted(state, order)
    assert any(not torch.equal(state[key], moved[key]) for key in state)
    with torch.no_grad():
        wanted = network(others)
        network.load_state_dict(moved)
        # Sums of float32 numbers in another order.
        torch.testing.assert_close(network(others), wanted, rtol=1e-4, atol=1e-5)


def test_a_rule_that_is_wrong_is_not_borne_out(monkeypatch):
    from mpi_landscape.evaluation.alignment import rules

    network, inputs, _ = made("cumsum")
    monkeypatch.setitem(rules.RULES, "cumsum", rules.like_the_first)
    symmetries = symmetries_of(network, loss, inputs)
    assert [each.size for each in symmetries.sets] == [7]
    assert symmetries.in_order["first.bias", 0] == "a pass that does not bear it out"
    alone, inputs = rows(lambda s, x: x.cumsum(1))[0], torch.randn(5, 6)
    with pytest.raises(LandscapeError, match=r"permuting the units of first.weight\[0\] changes its losses"):
        symmetries_of(alone, loss, inputs)


REFUSED = {
    "a linear model": (nn.Linear(6, 2), "it has no units between its inputs and outputs"),
    "a mask": (
        rows(lambda s, x: x * s.mask, mask=torch.rand(8))[0],
        "the order of its units counts for the buffer mask",
    ),
    "a sum along units": (
        rows(lambda s, x: x.cumsum(1))[0],
        r"the order of its units counts for cumsum at test_rules.py:\d+",
    ),
    "numbers that are read": (
        rows(lambda s, x: x.relu() if s.first.weight.sum() > 0 else x)[0],
        r"item of the parameters is read at test_rules.py:\d+, so other parameters or batches may go another way",
    ),
    "chance": (
        rows(lambda s, x: F.dropout(x))[0],
        r"it draws random numbers by bernoulli_ at test_rules.py:\d+",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_network_without_units_that_may_be_permuted_is_refused_with_the_place(name):
    network, text = REFUSED[name]
    with pytest.raises(LandscapeError, match=f"align: permutation is not known for this network: {text}"):
        symmetries_of(network, loss, torch.randn(5, 6))
