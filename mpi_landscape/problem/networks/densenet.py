"""Densely connected networks for small images."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mpi_landscape.errors import LandscapeError
from mpi_landscape.problem.sizes import checked_count, checked_size
from mpi_landscape.wording import listed, shown

# Layers of each dense block: Huang et al. (2017), arXiv:1608.06993, table 1.
_BLOCKS = {121: (6, 12, 24, 16), 169: (6, 12, 32, 32), 201: (6, 12, 48, 32), 264: (6, 12, 64, 48)}
_SMALLEST = 8


class DenseLayer(nn.Module):
    """A 1×1 and a 3×3 convolution, each after batch normalization, whose output joins their input.

    Source: Huang et al. (2017), arXiv:1608.06993, section 3, "bottleneck layers". The names of the
    tensors and the order of the channels, new ones first, are those of Li et al.'s published code.
    """

    def __init__(self, in_channels: int, growth: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, 4 * growth, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(4 * growth)
        self.conv2 = nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        """(N, in_channels, height, width) to (N, growth + in_channels, height, width)."""
        hidden = self.conv1(F.relu(self.bn1(images), inplace=True))
        hidden = self.conv2(F.relu(self.bn2(hidden), inplace=True))
        return torch.cat((hidden, images), 1)


class Transition(nn.Module):
    """Between two dense blocks: a 1×1 convolution after batch normalization, and the mean of 2×2 pixels.

    Source: Huang et al. (2017), arXiv:1608.06993, section 3, "pooling layers".
    """

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(in_channels)
        self.conv = nn.Conv2d(in_channels, channels, 1, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        """(N, in_channels, height, width) to (N, channels, height / 2, width / 2), halves rounded down."""
        return F.avg_pool2d(self.conv(F.relu(self.bn(images), inplace=True)), 2)


class DenseNet(nn.Module):
    """The DenseNet-BC of ImageNet with a first layer for small images: one 3×3 convolution, no pooling.

    Source: Huang et al. (2017), arXiv:1608.06993, table 1, with compression 0.5; first layer: Li et al.
    (2018), arXiv:1712.09913, published code; initial convolutions: He et al. (2015), arXiv:1502.01852,
    equation 10, as in section 4.2 of the former.
    """

    def __init__(
        self, *, blocks: tuple[int, int, int, int], growth: int, in_channels: int, num_classes: int
    ) -> None:
        super().__init__()
        first, second, third, fourth = _widths(blocks, growth)
        self.conv1 = nn.Conv2d(in_channels, 2 * growth, 3, padding=1, bias=False)
        self.dense1 = _block(2 * growth, blocks[0], growth)
        self.trans1 = Transition(first, first // 2)
        self.dense2 = _block(first // 2, blocks[1], growth)
        self.trans2 = Transition(second, second // 2)
        self.dense3 = _block(second // 2, blocks[2], growth)
        self.trans3 = Transition(third, third // 2)
        self.dense4 = _block(third // 2, blocks[3], growth)
        self.bn = nn.BatchNorm2d(fourth)
        self.linear = nn.Linear(fourth, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, in_channels, height, width) of at least 8×8 pixels to logits (N, num_classes)."""
        hidden = self.trans1(self.dense1(self.conv1(images)))
        hidden = self.trans2(self.dense2(hidden))
        hidden = self.trans3(self.dense3(hidden))
        hidden = F.relu(self.bn(self.dense4(hidden)), inplace=True)
        output: Tensor = self.linear(torch.flatten(F.adaptive_avg_pool2d(hidden, 1), 1))
        return output


def densenet(
    *, depth: int, growth: int = 32, input_size: Sequence[int] = (3, 32, 32), num_classes: int = 10
) -> DenseNet:
    """Build a densely connected network for images of at least 8×8 pixels.

    It has 121, 169, 201 or 264 layers with weights, each of which adds `growth` channels to its input.
    """
    blocks = _BLOCKS.get(checked_count(depth, "depth"))
    if blocks is None:
        raise LandscapeError(f"depth is {depth}; expected one of {listed(_BLOCKS)}")
    channels, height, width = checked_size(input_size)
    if min(height, width) < _SMALLEST:
        raise LandscapeError(
            f"input_size is {shown(list(input_size))}; expected at least {_SMALLEST}×{_SMALLEST} pixels, "
            "as a densenet halves them three times"
        )
    return DenseNet(
        blocks=blocks,
        growth=checked_count(growth, "growth"),
        in_channels=channels,
        num_classes=checked_count(num_classes, "num_classes"),
    )


def _widths(blocks: tuple[int, int, int, int], growth: int) -> list[int]:
    """Channels after each dense block; half of them, rounded down, enter the next."""
    widths = []
    channels = 2 * growth
    for layers in blocks:
        channels += layers * growth
        widths.append(channels)
        channels //= 2
    return widths


def _block(in_channels: int, layers: int, growth: int) -> nn.Sequential:
    return nn.Sequential(*(DenseLayer(in_channels + index * growth, growth) for index in range(layers)))
