"""The VGG-like network of nine layers."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mpi_landscape.problem.sizes import checked_count, checked_size, halved

# Convolutions of each stage; a stage ends in pooling.
_CONVOLUTIONS = (2, 2, 3)


class VGG(nn.Module):
    """Seven 3×3 convolutions in three stages and two linear layers; batch normalization after all but the last.

    Source: Li et al. (2018), arXiv:1712.09913, appendix: the first seven convolutions of VGG-16 (Simonyan and
    Zisserman 2015, arXiv:1409.1556, table 1) with 64, 64, 128, 128, 256, 256 and 256 filters, a linear layer of
    256 units and the classifier. Pooling, biases, initial parameters (PyTorch's) and the names of the tensors
    are those of their published code.

    Args:
        width: Filters of the first stage; the others have two and four times as many.
        input_size: (channels, height, width) of the images.
        num_classes: Number of outputs.
    """

    def __init__(self, *, width: int, input_size: tuple[int, int, int], num_classes: int) -> None:
        super().__init__()
        channels, height, length = input_size
        layers: list[nn.Module] = []
        for stage, convolutions in enumerate(_CONVOLUTIONS):
            for _ in range(convolutions):
                layers += _convolution(channels, width << stage)
                channels = width << stage
            layers.append(nn.MaxPool2d(2, ceil_mode=True))
        pixels = halved(height, len(_CONVOLUTIONS)) * halved(length, len(_CONVOLUTIONS))
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
    """Build the VGG-like network of nine layers.

    Args:
        width: Filters of the first stage.
        input_size: (channels, height, width) of the images.
        num_classes: Number of classes.
    """
    return VGG(
        width=checked_count(width, "width"),
        input_size=checked_size(input_size),
        num_classes=checked_count(num_classes, "num_classes"),
    )


def _convolution(in_channels: int, channels: int) -> list[nn.Module]:
    return [
        nn.Conv2d(in_channels, channels, 3, padding=1),
        nn.BatchNorm2d(channels),
        nn.ReLU(inplace=True),
    ]
