"""Parts of random networks, each of which does something that a step of the engine could get wrong.

A block maps images (N, 4, 6, 6) to the same shape. Odd blocks have something that an engine must notice; the others are what
networks usually are made of. Everything follows from `draw` and from torch's generator. Nothing is decided at
exactly 0, where the mean of a normalization is up to rounding.
"""

from collections.abc import Callable
from random import Random

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations, parametrize, spectral_norm, weight_norm

CHANNELS, SIZE, WIDTH = 4, 6, 8


class Block(nn.Module):
    """A forward function with what it needs: modules, parameters, buffers, and anything else."""

    def __init__(self, function, **parts):
        super().__init__()
        self.function = function
        for name, part in parts.items():
            if isinstance(part, torch.Tensor) and not isinstance(part, nn.Parameter):
                self.register_buffer(name, part)
            else:
                setattr(self, name, part)

    def forward(self, x):
        return self.function(self, x)


class Doubled(nn.Module):
    """A parametrization: the stored tensor, squashed."""

    def forward(self, stored):
        return 2 * torch.tanh(stored)


def conv(**options):
    return nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, **options)


def norm(draw=None):
    return nn.BatchNorm2d(CHANNELS, affine=draw is None or draw.random() < 0.8)


def scale(size=CHANNELS):
    return nn.Parameter(torch.randn(size))


def wide(x):
    """One number per channel, for images."""
    return x.view(1, -1, 1, 1)


def activation(draw):
    return draw.choice(
        [
            nn.ReLU(),
            nn.ReLU(inplace=True),
            nn.ReLU6(inplace=True),
            nn.SiLU(),
            nn.Hardswish(inplace=True),
            nn.Tanh(),
            nn.GELU(),
            nn.Identity(),
            nn.Dropout(0.5),
        ]
    )


# ---- what networks are made of


def usual(draw):
    return nn.Sequential(conv(bias=draw.random() < 0.5), norm(draw), activation(draw))


def bare(draw):
    return nn.Sequential(conv(), activation(draw))


def depthwise(draw):
    return nn.Sequential(
        conv(groups=CHANNELS, bias=False), norm(draw), activation(draw), nn.Conv2d(CHANNELS, CHANNELS, 1)
    )


def transposed(draw):
    return nn.Sequential(nn.ConvTranspose2d(CHANNELS, CHANNELS, 3, padding=1), norm(draw), activation(draw))


def other_norms(draw):
    kind = draw.choice(
        [
            nn.GroupNorm(2, CHANNELS),
            nn.LayerNorm([CHANNELS, SIZE, SIZE]),
            nn.InstanceNorm2d(CHANNELS, affine=True),
        ]
    )
    return nn.Sequential(conv(), kind, activation(draw))


def residual(draw):
    if draw.random() < 0.5:
        return Block(
            lambda s, x: F.relu(s.second(F.relu(s.first(x))) + x, inplace=True),
            first=nn.Sequential(conv(bias=False), norm()),
            second=nn.Sequential(conv(bias=False), norm()),
        )

    def in_place(s, x):
        out = s.second(F.relu(s.first(x), inplace=True))
        out += x
        return F.relu(out)

    return Block(in_place, first=nn.Sequential(conv(), norm()), second=nn.Sequential(conv(), norm()))


def two_paths(draw):
    return Block(
        lambda s, x: F.relu(s.first(x) + s.norm(s.second(x))), first=conv(), second=conv(), norm=norm(draw)
    )


def concatenated(draw):
    return Block(
        lambda s, x: s.join(torch.cat([F.relu(s.first(x)), s.second(x), x], dim=1)),
        first=conv(),
        second=conv(),
        join=nn.Conv2d(3 * CHANNELS, CHANNELS, 1),
    )


def attention(draw):
    def forward(s, x):
        rows = x.flatten(2).transpose(1, 2)
        return (
            s.attention(rows, rows, rows, need_weights=False)[0].transpose(1, 2).contiguous().view(x.shape)
            + x
        )

    return Block(forward, attention=nn.MultiheadAttention(CHANNELS, 2, batch_first=True))


def encoder(draw):
    layer = nn.TransformerEncoderLayer(CHANNELS, 2, 6, batch_first=True)
    return Block(
        lambda s, x: s.layer(x.flatten(2).transpose(1, 2)).transpose(1, 2).contiguous().view(x.shape),
        layer=layer,
    )


# ---- what a step could get wrong


def sum_in_place_of_what_is_used_again(draw):
    def forward(s, x):
        start = s.first(x)
        kept = start
        start += s.second(x)
        return F.relu(start) + 0.5 * kept if s.after else F.relu(kept) * start

    return Block(forward, first=conv(), second=conv(), after=draw.random() < 0.5)


def sum_onto_the_input(draw):
    def forward(s, x):
        start = F.relu(s.first(x))
        total = start
        total += s.second(start)
        return F.relu(total) + s.third(start)

    return Block(forward, first=conv(), second=conv(), third=conv())


def view_of_a_summand(draw):
    def forward(s, x):
        start = s.first(x)
        part = start[:, :, ::2, ::2]
        total = F.relu(s.second(start) + start)
        return total + F.interpolate(part, size=SIZE)

    return Block(forward, first=conv(), second=conv())


def late_reader_of_a_summand(draw):
    def forward(s, x):
        start = s.first(x)
        other = s.late(start)
        total = start + s.second(x)
        return F.relu(total + other)

    return Block(forward, first=conv(), second=conv(), late=conv())


def input_changed_after_a_convolution(draw):
    def forward(s, x):
        start = s.first(x)
        later = s.second(start)
        start.mul_(0.5)
        return F.relu(later + start)

    return Block(forward, first=conv(), second=conv())


def convolution_onto_its_own_input(draw):
    return Block(lambda s, x: (lambda y: F.relu(y + s.second(y)))(s.first(x)), first=conv(), second=conv())


def added_with_other_shapes(draw):
    return Block(lambda s, x: F.relu(s.conv(x) + s.scale.view(1, -1, 1, 1)), conv=conv(), scale=scale())


def layer_and_norm_apart(draw):
    def forward(s, x):
        before = s.conv(x)
        return F.relu(s.norm(before)) + (before if s.whole else before.mean((2, 3), keepdim=True))

    return Block(forward, conv=conv(), norm=norm(), whole=draw.random() < 0.5)


def changed_before_the_norm(draw):
    def forward(s, x):
        before = s.conv(x)
        before.add_(0.3) if s.whole else before[:, 0].mul_(2)
        return s.norm(before)

    return Block(forward, conv=conv(), norm=norm(), whole=draw.random() < 0.5)


def used_twice(draw):
    what = draw.choice(["layer", "norm", "both"])

    def forward(s, x):
        if what == "layer":
            return F.relu(s.norm(s.conv(x))) + s.conv(x)
        if what == "norm":
            return s.norm(s.norm(s.conv(x)))
        return s.norm(s.conv(F.relu(s.norm(s.conv(x)))))

    return Block(forward, conv=conv(), norm=norm())


def used_by_its_weight(draw):
    def forward(s, x):
        y = F.relu(s.norm(s.conv(x)))
        return y + F.conv2d(x, s.conv.weight, padding=1) if s.weight else y * wide(s.norm.bias)

    return Block(forward, conv=conv(), norm=norm(), weight=draw.random() < 0.5)


def called_past_its_hooks(draw):
    return Block(
        lambda s, x: s.norm(s.conv(x)) + s.norm.forward(s.conv.forward(0.5 * x)), conv=conv(), norm=norm()
    )


def tied(draw):
    block = Block(
        lambda s, x: s.norm(s.first(x)) + s.second(F.relu(x)), first=conv(), second=conv(), norm=norm()
    )
    block.second.weight = block.first.weight
    return block


def parametrized(draw):
    layer = conv()
    how = draw.randrange(4)
    if how == 0:
        layer = weight_norm(layer)
        with torch.no_grad():  # what it makes at first belongs to autograd, and cannot be copied
            layer(torch.zeros(1, CHANNELS, SIZE, SIZE))
    elif how == 1:
        layer = parametrizations.weight_norm(layer)
    elif how == 2:
        layer = spectral_norm(layer)
    else:
        parametrize.register_parametrization(layer, "weight", Doubled())
    return nn.Sequential(layer, norm(draw), activation(draw))


def decided_by_a_parameter(draw):
    how, edge = draw.randrange(6), draw.choice([0.1, 2.0, -2.0])

    def decides(s):
        total = s.scale.sum()
        if how == 0:
            return bool(total > edge)
        if how == 1:
            return total.item() > edge
        if how == 2:
            return sum(s.scale.tolist()) > edge
        if how == 3:
            return float(s.scale.detach().numpy().sum()) > edge
        if how == 4:
            return torch.equal(torch.sign(total - edge), torch.ones(()).to(total))
        return len(torch.nonzero(s.scale > edge)) > 1

    def forward(s, x):
        y = s.norm(s.conv(x))
        return F.relu(y) if decides(s) else y * wide(s.scale)

    return Block(forward, conv=conv(), norm=norm(), scale=scale())


def decided_by_hidden_parameters(draw):
    """The parameter is reached past its attribute, where a trace sees a tensor and no symbol."""

    def forward(s, x):
        hidden = next(p for name, p in s.named_parameters() if name == "scale")
        factor = 1.0 + torch.relu(hidden.sum()) if s.smooth else (2.0 if hidden.sum() > 1 else 1.0)
        return F.relu(s.conv(x)) * factor

    return Block(forward, conv=conv(), scale=scale(), smooth=draw.random() < 0.5)


def chosen_by_a_parameter(draw):
    def forward(s, x):
        index = s.scale.argmax().expand(len(x), 1, SIZE, SIZE)
        return F.relu(s.norm(s.conv(x))) + x.gather(1, index)

    return Block(forward, conv=conv(), norm=norm(), scale=scale())


def decided_by_the_data(draw):
    """The same numbers on either way, which goes past the norm on one of them."""

    def forward(s, x):
        y = s.conv(x)
        if x.mean() > s.edge:
            return F.relu(s.norm(y))
        n = s.norm
        return F.relu(F.batch_norm(y, n.running_mean, n.running_var, n.weight, n.bias, eps=n.eps))

    return Block(forward, conv=conv(), norm=norm(), edge=torch.tensor(draw.choice([-0.1, 0.02, 0.1])))


def routed(draw):
    how = draw.randrange(3)

    def forward(s, x):
        mask = x.mean((1, 2, 3)) > s.edge
        if how == 0:
            out = s.norm(s.conv(x))
            out[mask] = s.other(x[mask])
            return out
        if how == 1:
            return torch.stack(
                [
                    s.norm(s.conv(e[None]))[0] if m else s.conv(e[None])[0]
                    for e, m in zip(x, mask, strict=True)
                ]
            )
        return torch.where(mask[:, None, None, None], s.norm(s.conv(x)), s.other(x))

    return Block(
        forward, conv=conv(), other=conv(), norm=norm(), edge=torch.tensor(draw.choice([-0.3, 0.05, 0.3]))
    )


def in_chunks(draw):
    return Block(
        lambda s, x: torch.cat([F.relu(s.norm(s.conv(each))) for each in x.split(5)]),
        conv=conv(),
        norm=norm(),
    )


def with_hooks(draw):
    layer, statistics = conv(), norm()
    how = draw.randrange(3)
    if how == 0:
        layer.register_forward_hook(lambda module, inputs, output: output * 1.5)
    elif how == 1:
        statistics.register_forward_pre_hook(lambda module, inputs: (inputs[0] + 1,))
    block = nn.Sequential(layer, statistics, nn.ReLU())
    if how == 2:
        block.register_forward_hook(lambda module, inputs, output: output + inputs[0])
    return block


def cached(draw):
    """Keeps what it computed, for itself, within a pass."""

    def forward(s, x):
        s.kept = {"early": s.conv(x)}
        y = F.relu(s.norm(s.kept["early"]))
        return y + s.kept.pop("early") if s.again else y

    return Block(forward, conv=conv(), norm=norm(), again=draw.random() < 0.5)


def with_buffers(draw):
    return Block(
        lambda s, x: F.relu(s.norm(s.conv(x * s.mask))),
        conv=conv(),
        norm=norm(),
        mask=torch.rand(1, CHANNELS, 1, 1),
    )


def viewing(draw):
    return Block(
        lambda s, x: s.conv(x).view(len(x), CHANNELS * SIZE, SIZE).flip(1).view(x.shape) * 1.0, conv=conv()
    )


def by_strides(draw):
    """The weight as it lies in memory, which is another tensor in another order."""

    def forward(s, x):
        return F.relu(s.conv(x)) * s.conv.weight.reshape(-1).tanh()[:CHANNELS].view(1, -1, 1, 1)

    return Block(forward, conv=conv())


IMAGES: dict[str, Callable[[Random], nn.Module]] = {
    each.__name__: each
    for each in (
        usual,
        bare,
        depthwise,
        transposed,
        other_norms,
        residual,
        two_paths,
        concatenated,
        attention,
        encoder,
    )
}
ODD_IMAGES: dict[str, Callable[[Random], nn.Module]] = {
    each.__name__: each
    for each in (
        sum_in_place_of_what_is_used_again,
        sum_onto_the_input,
        view_of_a_summand,
        late_reader_of_a_summand,
        input_changed_after_a_convolution,
        convolution_onto_its_own_input,
        added_with_other_shapes,
        layer_and_norm_apart,
        changed_before_the_norm,
        used_twice,
        used_by_its_weight,
        called_past_its_hooks,
        tied,
        parametrized,
        decided_by_a_parameter,
        decided_by_hidden_parameters,
        chosen_by_a_parameter,
        decided_by_the_data,
        routed,
        in_chunks,
        with_hooks,
        cached,
        with_buffers,
        viewing,
        by_strides,
    )
}
