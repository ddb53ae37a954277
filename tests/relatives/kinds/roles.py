"""What a tensor is, and which of its axes are outputs."""

import copy

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from tests.relatives.case import Asked, right
from tests.relatives.small import images, mlp, net_of, tokens, vectors

KIND, TITLE = 7, "roles of tensors"


def rows_of(file, net):
    """Center and first direction of every tensor, by name, from the file."""
    names = [
        each.decode() if isinstance(each, bytes) else each for each in file["directions/tensor_name"][...]
    ]
    shapes = {name: tuple(each.shape) for name, each in [*net.named_parameters(), *net.named_buffers()]}
    found = {}
    for name, start in zip(names, file["directions/tensor_offset"][...], strict=True):
        size = int(np.prod(shapes[name]))
        found[name] = [
            file[f"directions/{each}"][start : start + size].astype(float).reshape(shapes[name])
            for each in ("center", "alpha")
        ]
    return found


def filters(net, **axes):
    """A check: along these axes every slice of the direction has the norm of the center's; None: it does not move."""
    names = {name.replace(".", "_"): name for name, _ in net.named_parameters()}

    def holds(file):
        rows = rows_of(file, net)
        for key, axis in axes.items():
            center, direction = rows[names[key]]
            if axis is None:
                if direction.any():
                    return f"{names[key]} moves"
                continue
            over = tuple(each for each in range(center.ndim) if each not in np.atleast_1d(axis))
            wanted, norm = (np.sqrt((each**2).sum(over)) for each in (center, direction))
            if not np.allclose(norm, wanted, rtol=1e-5, atol=1e-7):
                return f"{names[key]}: norms {norm.ravel()[:3]}, of the center {wanted.ravel()[:3]}"
        return None

    return holds


def linear(operation, shape):
    return net_of(
        [
            ("weight", nn.Parameter(torch.randn(shape))),
            ("shift", nn.Parameter(torch.randn(8))),
            ("head", nn.Linear(8, 3)),
        ],
        lambda self, x: self.head(torch.tanh(operation(x, self.weight, self.shift))),
    )


def asked(net, data=None, **axes):
    return Asked(net=net, data=vectors() if data is None else data, holds=filters(net, **axes))


@right("GPT-2's Conv1D: addmm with a weight (in, out)")
def gpt2(folder):
    return asked(linear(lambda x, w, b: torch.addmm(b, x, w), (4, 8)), weight=1, shift=None, head_weight=0)


@right("x @ weight")
def matmul(folder):
    return asked(linear(lambda x, w, b: x @ w + b, (4, 8)), weight=1, head_weight=0)


@right("weight @ x.T")
def matmul_left(folder):
    return asked(linear(lambda x, w, b: (w @ x.t()).t() + b, (8, 4)), weight=0)


@right("einsum of (in, out)")
def einsum(folder):
    return asked(linear(lambda x, w, b: torch.einsum("ni,io->no", x, w) + b, (4, 8)), weight=1)


@right("a class ConvNorm of the user's own with a convolution in it")
def conv_norm(folder):
    class ConvNorm(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(4, 1, 3, 3))
            self.norm = nn.BatchNorm2d(4)

        def forward(self, x):
            return self.norm(F.conv2d(x, self.weight, padding=1)).relu()

    net = nn.Sequential(ConvNorm(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    return asked(net, images(), **{"0_weight": 0, "0_norm_weight": None, "3_weight": 0})


@right("frozen layers stay")
def frozen(folder):
    net = mlp()
    net[0].requires_grad_(False)
    return asked(net, **{"0_weight": None, "2_weight": 0})


@right("a fixed table of positions, a Parameter without gradient")
def fixed_table(folder):
    parts = [
        ("positions", nn.Parameter(torch.randn(6, 8), requires_grad=False)),
        ("embed", nn.Embedding(20, 8)),
        ("head", nn.Linear(8, 3)),
    ]
    net = net_of(parts, lambda self, x: self.head(torch.tanh(self.embed(x) + self.positions).mean(1)))
    return asked(net, tokens(), positions=None, embed_weight=0)


@right("a temperature of one element stays")
def temperature(folder):
    parts = [("body", mlp()), ("temperature", nn.Parameter(torch.ones(1) * 2))]
    return asked(net_of(parts, lambda self, x: self.body(x) / self.temperature), temperature=None)


@right("a transposed convolution in groups")
def transposed(folder):
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.ConvTranspose2d(4, 6, 3, groups=2), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(6, 3),
    )  # fmt: skip

    def holds(file):
        center, direction = rows_of(file, net)[
            "2.weight"
        ]  # (4, 3, 3, 3): inputs in two groups, outputs of a group
        for group in range(2):
            for output in range(3):
                pair = [each[2 * group : 2 * group + 2, output] for each in (center, direction)]
                if not np.isclose(*(np.linalg.norm(each) for each in pair), rtol=1e-5):
                    return f"output {output} of group {group}: {[np.linalg.norm(each) for each in pair]}"
        return None

    return Asked(net=net, data=images(), holds=holds)


def same_numbers(net, inner, prefix):
    """A check: the wrapped network has the numbers that the inner one has by itself."""

    def holds(file):
        import tempfile
        from pathlib import Path

        import h5py

        import mpi_landscape

        torch.manual_seed(5)
        path = Path(tempfile.mkdtemp()) / "inner.h5"
        mpi_landscape.landscape(
            inner,
            "cross_entropy",
            vectors(20),
            alpha=(-1, 1.2, 2),
            beta=None,
            output=path,
            compute={"device": "cpu"},
        )
        with h5py.File(path) as plain:
            wanted = rows_of(plain, inner)
        found = rows_of(file, net)
        for name, (_, direction) in wanted.items():
            if not np.array_equal(found[prefix + name][1], direction):
                return f"{prefix}{name} has other random numbers than {name} by itself"
        return None

    return holds


@right("DataParallel's prefix")
def data_parallel(folder):
    inner = mlp()
    net = nn.DataParallel(copy.deepcopy(inner))
    return Asked(net=net, data=vectors(), holds=same_numbers(net, inner, "module."))


@right("wrapped under another attribute")
def wrapped(folder):
    inner = mlp()
    net = net_of([("net", copy.deepcopy(inner))], lambda self, x: self.net(x))
    return Asked(net=net, data=vectors(), holds=same_numbers(net, inner, "net."))


@right("a scale per channel behind a layer normalization")
def layer_scale(folder):
    parts = [("norm", nn.LayerNorm(4)), ("first", nn.Linear(4, 8)), ("head", nn.Linear(8, 3))]
    return asked(
        net_of(parts, lambda self, x: self.head(self.first(self.norm(x)))), norm_weight=None, first_weight=0
    )


@right("a root-mean-square normalization of the user's own")
def rms_norm(folder):
    def forward(self, x):
        hidden = self.first(x)
        hidden = hidden * hidden.square().mean(-1, keepdim=True).add(1e-6).rsqrt() * self.gain
        return self.head(hidden)

    parts = [("first", nn.Linear(4, 8)), ("gain", nn.Parameter(torch.ones(8))), ("head", nn.Linear(8, 3))]
    return asked(net_of(parts, forward), gain=None, first_weight=0)


@right("said by a rule")
def by_rule(folder):
    net = linear(lambda x, w, b: (x[:, :, None] * w).sum(1) + b, (4, 8))
    rules = {"directions": {"rules": [{"tensors": "weight", "kind": "weight", "axis": 1}]}}
    return Asked(net=net, data=vectors(), options=rules, holds=filters(net, weight=1))


@right("attention with one weight for queries, keys and values")
def attention(folder):
    net = net_of(
        [
            ("embed", nn.Embedding(20, 8)),
            ("attention", nn.MultiheadAttention(8, 2, batch_first=True)),
            ("head", nn.Linear(8, 3)),
        ],
        lambda self, x: self.head(self.attention(*[self.embed(x)] * 3)[0].mean(1)),
    )
    return asked(net, tokens(), attention_in_proj_weight=0, attention_out_proj_weight=0)
