"""Residual networks for small images, with and without shortcuts."""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mpi_landscape.errors import LandscapeError
from mpi_landscape.problem.sizes import checked_count, checked_size
from mpi_landscape.wording import shown

Shortcut = Literal["projection", "padding", "none"]


class BasicBlock(nn.Module):
    """Two 3×3 convolutions, each followed by batch normalization, and a shortcut past both.

    Source: He et al. (2016), arXiv:1512.03385, figure 2 and section 4.2; without shortcut: Li et al.
    (2018), arXiv:1712.09913, section 5. The names of the tensors are those of the latter's published code.

    Where the shape changes, what stands in for the identity is with "projection" a 1×1 convolution with batch
    normalization (option B), with "padding" every stride-th pixel and channels of zeros (option A); "none"
    leaves all shortcuts out. The stride is that of the first convolution.
    """

    def __init__(self, in_channels: int, channels: int, *, stride: int, shortcut: Shortcut) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut = _shortcut(in_channels, channels, stride, shortcut)

    def forward(self, images: Tensor) -> Tensor:
        """(N, in_channels, height, width) to (N, channels, height / stride, width / stride), halves rounded up."""
        # In place: autograd keeps what a normalization gets, not what it gives, and the memory traffic counts.
        hidden = F.relu(self.bn1(self.conv1(images)), inplace=True)
        hidden = self.bn2(self.conv2(hidden))
        if self.shortcut is not None:
            hidden = hidden + self.shortcut(images)
        return F.relu(hidden, inplace=True)


class PaddingShortcut(nn.Module):
    """The shortcut without parameters: every stride-th pixel, and zeros in the channels that are new.

    Source: He et al. (2016), arXiv:1512.03385, section 3.3, option A; half of the new ones go in front.
    """

    def __init__(self, *, stride: int, new_channels: int) -> None:
        super().__init__()
        self.stride = stride
        self.before = new_channels // 2
        self.after = new_channels - self.before

    def forward(self, images: Tensor) -> Tensor:
        """(N, c, height, width) to (N, c + new_channels, height / stride, width / stride), halves rounded up."""
        thinned = images[:, :, :: self.stride, :: self.stride]
        return F.pad(thinned, (0, 0, 0, 0, self.before, self.after))


class ResNet(nn.Module):
    """The residual network for CIFAR-10: a convolution, three stages of n blocks, the mean, a linear layer.

    Source: He et al. (2016), arXiv:1512.03385, section 4.2; initial convolutions: He et al. (2015),
    arXiv:1502.01852, equation 10, as there.
    """

    def __init__(
        self, *, depth: int, width: int, shortcut: Shortcut, in_channels: int, num_classes: int
    ) -> None:
        super().__init__()
        blocks = (depth - 2) // 6
        self.conv1 = nn.Conv2d(in_channels, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = _stage(width, width, blocks, 1, shortcut)
        self.layer2 = _stage(width, 2 * width, blocks, 2, shortcut)
        self.layer3 = _stage(2 * width, 4 * width, blocks, 2, shortcut)
        self.linear = nn.Linear(4 * width, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, in_channels, height, width) of any size to logits (N, num_classes)."""
        hidden = F.relu(self.bn1(self.conv1(images)), inplace=True)
        hidden = self.layer3(self.layer2(self.layer1(hidden)))
        output: Tensor = self.linear(torch.flatten(F.adaptive_avg_pool2d(hidden, 1), 1))
        return output


def resnet(
    *,
    depth: int,
    width: int = 16,
    shortcut: Shortcut = "projection",
    input_size: Sequence[int] = (3, 32, 32),
    num_classes: int = 10,
) -> ResNet:
    """Build a residual network for small images.

    It has 6n + 2 layers with weights, n blocks in a stage (20, 32, 44, 56, 110, ...), and `width` filters in
    the first stage, then two and four times as many. Li et al. (2018) took the shortcut "projection".
    """
    checked_count(depth, "depth")
    if depth < 8 or depth % 6 != 2:
        raise LandscapeError(
            f"depth is {depth}; expected 6n + 2, such as 8, 20, 32, 44, 56 or 110 "
            "(those of ImageNet are named torchvision/resnet18 and so on)"
        )
    if shortcut not in ("projection", "padding", "none"):
        raise LandscapeError(f"shortcut is {shown(shortcut)}; expected projection, padding or none")
    channels, _, _ = checked_size(input_size)
    return ResNet(
        depth=depth,
        width=checked_count(width, "width"),
        shortcut=shortcut,
        in_channels=channels,
        num_classes=checked_count(num_classes, "num_classes"),
    )


def _stage(in_channels: int, channels: int, blocks: int, stride: int, shortcut: Shortcut) -> nn.Sequential:
    first = BasicBlock(in_channels, channels, stride=stride, shortcut=shortcut)
    rest = [BasicBlock(channels, channels, stride=1, shortcut=shortcut) for _ in range(blocks - 1)]
    return nn.Sequential(first, *rest)


def _shortcut(in_channels: int, channels: int, stride: int, shortcut: Shortcut) -> nn.Module | None:
    if shortcut == "none":
        return None
    if stride == 1 and in_channels == channels:
        return nn.Sequential()
    if shortcut == "padding":
        return PaddingShortcut(stride=stride, new_channels=channels - in_channels)
    return nn.Sequential(
        nn.Conv2d(in_channels, channels, 1, stride=stride, bias=False), nn.BatchNorm2d(channels)
    )
