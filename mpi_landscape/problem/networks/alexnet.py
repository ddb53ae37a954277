"""AlexNet for small images, bare."""

from collections.abc import Sequence

from torch import nn

from mpi_landscape.problem.sizes import checked_count, checked_size, halved


def alexnet(*, input_size: Sequence[int] = (3, 32, 32), num_classes: int = 10) -> nn.Sequential:
    """Build AlexNet without normalization and dropout, with one linear layer instead of three.

    Source: Krizhevsky (2014), arXiv:1404.5997, one tower: convolutions 11×11/4, 5×5, 3×3, 3×3, 3×3 with 64, 192,
    384, 256, 256 filters, pooling after the first, second and last. Here, as usual for CIFAR-10, padding
    keeps an image of 32×32 pixels from vanishing (8×8 after the first convolution), pooling is over 2×2 pixels,
    and what is left of the image, one pixel, goes straight into the classifier. "Bare" as in Sagun et al. (2018),
    arXiv:1706.04454. Initial parameters are PyTorch's.

    Args:
        input_size: (channels, height, width) of the images.
        num_classes: Number of outputs.

    Returns:
        A network from (N, channels, height, width) to (N, num_classes).
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


def _convolution(in_channels: int, channels: int, size: int, stride: int = 1) -> tuple[nn.Module, nn.Module]:
    return nn.Conv2d(in_channels, channels, size, stride=stride, padding=size // 2), nn.ReLU(inplace=True)


def _pooling() -> nn.MaxPool2d:
    return nn.MaxPool2d(2, ceil_mode=True)
