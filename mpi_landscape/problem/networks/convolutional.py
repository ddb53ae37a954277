"""A small convolutional network without batch normalization, with and without shortcuts."""

from collections.abc import Sequence
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from mpi_landscape.errors import LandscapeError
from mpi_landscape.problem.sizes import checked_count, checked_size
from mpi_landscape.wording import shown

Shortcut = Literal["identity", "none"]


class PlainBlock(nn.Module):
    """A 3×3 convolution and its ReLU, and the identity past both.

    Args:
        channels: Channels of input and output.
        shortcut: "identity" adds the input, "none" does not.
    """

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

    With and without shortcuts it has the same parameters, so one checkpoint fits both.

    Args:
        width: Filters of every convolution.
        blocks: Number of `PlainBlock`, each followed by the maximum of 2×2 pixels.
        shortcut: "identity" or "none".
        input_size: (channels, height, width) of the images.
        num_classes: Number of classes.

    Returns:
        A network from (N, channels, height, width) of any size to (N, num_classes).
    """
    if shortcut not in ("identity", "none"):
        raise LandscapeError(f"shortcut is {shown(shortcut)}; expected identity or none")
    channels, _, _ = checked_size(input_size)
    checked_count(width, "width")
    layers: list[nn.Module] = [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
    for _ in range(checked_count(blocks, "blocks")):
        layers += [PlainBlock(width, shortcut=shortcut), nn.MaxPool2d(2, ceil_mode=True)]
    classifier = nn.Linear(width, checked_count(num_classes, "num_classes"))
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), classifier)
