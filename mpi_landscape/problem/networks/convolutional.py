"""Plain networks of convolutions: AlexNet, a VGG-like one, a small one with and without shortcuts, one for signals."""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mpi_landscape.errors import LandscapeError
from mpi_landscape.problem.sizes import checked_count, checked_counts, checked_size, halved
from mpi_landscape.wording import shown

Shortcut = Literal["identity", "none"]

# Convolutions of each stage of the VGG-like network; a stage ends in pooling.
_STAGES = (2, 2, 3)


def alexnet(*, input_size: Sequence[int] = (3, 32, 32), num_classes: int = 10) -> nn.Sequential:
    """Build AlexNet without normalization and dropout, with one linear layer instead of three.

    Source: Krizhevsky (2014), arXiv:1404.5997, one tower: convolutions 11×11/4, 5×5, 3×3, 3×3, 3×3 with 64,
    192, 384, 256, 256 filters, pooling after the first, second and last. Here, as usual for CIFAR-10, padding
    keeps an image of 32×32 pixels from vanishing (8×8 after the first convolution), pooling is over 2×2
    pixels, and what is left of the image, one pixel, goes straight into the classifier. "Bare" as in Sagun et
    al. (2018), arXiv:1706.04454. Initial parameters are PyTorch's.
    """
    channels, height, width = checked_size(input_size)
    # Stride 4 and the three poolings, each rounded up, are five halvings.
    pixels = halved(height, 5) * halved(width, 5)
    return nn.Sequential(
        *_convolution(channels, 64, 11, stride=4),
        _pooling(),
        *_convolution(64, 192, 5),
        _pooling(),
        *_convolution(192, 384, 3),
        *_convolution(384, 256, 3),
        *_convolution(256, 256, 3),
        _pooling(),
        nn.Flatten(),
        nn.Linear(256 * pixels, checked_count(num_classes, "num_classes")),
    )


class VGG(nn.Module):
    """Seven 3×3 convolutions in three stages, two linear layers; batch normalization after all but the last.

    Source: Li et al. (2018), arXiv:1712.09913, appendix: the first seven convolutions of VGG-16 (Simonyan and
    Zisserman 2015, arXiv:1409.1556, table 1) with 64, 64, 128, 128, 256, 256 and 256 filters, a linear layer
    of 256 units and the classifier. Pooling, biases, initial parameters (PyTorch's) and the names of the
    tensors are those of their published code.
    """

    def __init__(self, *, width: int, input_size: tuple[int, int, int], num_classes: int) -> None:
        super().__init__()
        channels, height, length = input_size
        layers: list[nn.Module] = []
        for stage, convolutions in enumerate(_STAGES):
            for _ in range(convolutions):
                convolution, activation = _convolution(channels, width << stage, 3)
                channels = width << stage
                layers += [convolution, nn.BatchNorm2d(channels), activation]
            layers.append(_pooling())
        pixels = halved(height, len(_STAGES)) * halved(length, len(_STAGES))
        self.features = nn.Sequential(*layers)
        self.fc = nn.Sequential(
            nn.Linear(channels * pixels, channels), nn.BatchNorm1d(channels), nn.ReLU(inplace=True)
        )
        self.classifier = nn.Linear(channels, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, *input_size) to logits (N, num_classes)."""
        output: Tensor = self.classifier(self.fc(torch.flatten(self.features(images), 1)))
        return output


def vgg9(*, width: int = 64, input_size: Sequence[int] = (3, 32, 32), num_classes: int = 10) -> VGG:
    """Build the VGG-like network with `width` filters in the first stage, then two and four times as many."""
    return VGG(
        width=checked_count(width, "width"),
        input_size=checked_size(input_size),
        num_classes=checked_count(num_classes, "num_classes"),
    )


class PlainBlock(nn.Module):
    """A 3×3 convolution and its ReLU; with the shortcut "identity", the input is added."""

    def __init__(self, channels: int, *, shortcut: Shortcut) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.has_shortcut = shortcut == "identity"

    def forward(self, images: Tensor) -> Tensor:
        """(N, channels, height, width) to the same shape."""
        hidden = F.relu(self.conv(images))
        return hidden + images if self.has_shortcut else hidden


def cnn(
    *,
    width: int = 64,
    blocks: int = 3,
    shortcut: Shortcut = "identity",
    input_size: Sequence[int] = (3, 32, 32),
    num_classes: int = 10,
) -> nn.Sequential:
    """Build a small convolutional network: a convolution, blocks with pooling after each, the mean, a linear layer.

    Every convolution has `width` filters. With and without shortcuts ("identity" or "none") the network has
    the same parameters, so one checkpoint fits both.
    """
    if shortcut not in ("identity", "none"):
        raise LandscapeError(f"shortcut is {shown(shortcut)}; expected identity or none")
    channels, _, _ = checked_size(input_size)
    checked_count(width, "width")
    layers: list[nn.Module] = [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
    for _ in range(checked_count(blocks, "blocks")):
        layers += [PlainBlock(width, shortcut=shortcut), _pooling()]
    classifier = nn.Linear(width, checked_count(num_classes, "num_classes"))
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), classifier)


def cnn1d(*, width: int = 25, input_size: Sequence[int] = (1, 40), num_classes: int = 10) -> nn.Sequential:
    """Build a network of three convolutions over signals, each of which halves their length, and a linear layer.

    Source: Greydanus and Kobak (2024), arXiv:2011.14439, the convolutional baseline for MNIST-1D: filters of 5, 3 and 3,
    stride 2, padding 1. Takes (N, channels, length). Initial parameters are PyTorch's.
    """
    sizes = checked_counts(input_size, "input_size")
    if len(sizes) != 2 or sizes[1] < 3:
        raise LandscapeError(
            f"input_size is {shown(list(sizes))}; expected [channels, length], at least 3 long"
        )
    (channels, length), layers = sizes, list[nn.Module]()
    checked_count(width, "width")
    for size in (5, 3, 3):
        layers += [nn.Conv1d(channels, width, size, stride=2, padding=1), nn.ReLU(inplace=True)]
        channels, length = width, (length + 2 - size) // 2 + 1
    classifier = nn.Linear(width * length, checked_count(num_classes, "num_classes"))
    return nn.Sequential(*layers, nn.Flatten(), classifier)


def _convolution(in_channels: int, channels: int, size: int, stride: int = 1) -> tuple[nn.Module, nn.Module]:
    return nn.Conv2d(in_channels, channels, size, stride=stride, padding=size // 2), nn.ReLU(inplace=True)


def _pooling() -> nn.MaxPool2d:
    return nn.MaxPool2d(2, ceil_mode=True)
