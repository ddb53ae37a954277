"""Labelled images in memory, normalized the same way every time; and the digits that need no file."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from mpi_landscape.errors import LandscapeError
from mpi_landscape.problem.datasets.variants import Labels, Variant, first_labels, read_variant, varied
from mpi_landscape.problem.sizes import is_count
from mpi_landscape.wording import listed, shown

# Of the 1,442 training examples: interpolation keeps the mean and takes some of the spread.
_DIGITS_STD = {8: 0.376, 16: 0.319, 32: 0.324}


class ImageDataset(Dataset[tuple[Tensor, Tensor]]):
    """Labelled images; an example is (image / scale − mean) / std, with its label.

    Args:
        images: (N, channels, height, width) uint8, or float32 of the same range where interpolated.
        labels: (N,) int64.
        scale: What the largest pixel stands for, 255 for photographs.
        mean: One value per channel, after division by scale.
        std: One value per channel, likewise.

    It keeps what is given, a quarter of the memory of float32, with mean and std as (channels, 1, 1) float32.
    """

    def __init__(
        self, images: Tensor, labels: Tensor, *, scale: float, mean: Sequence[float], std: Sequence[float]
    ) -> None:
        self.images = images
        self.labels = labels
        self.scale = scale
        self.mean = per_channel(mean)
        self.std = per_channel(std)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image = self.images[index]
        return normalized(image, scale=self.scale, mean=self.mean, std=self.std), self.labels[index]

    def stored(self) -> tuple[Tensor, Tensor]:
        """All images (N, channels, height, width), uint8 where they are photographs, and labels (N,) int64, as kept."""
        return self.images, self.labels

    def finish(self, examples: Sequence[Tensor]) -> list[Tensor]:
        """Turn several stored examples, images (n, ...) and labels (n,) on any device, into what indexing gives, collated."""
        images, labels = examples
        mean, std = self.mean.to(images.device), self.std.to(images.device)
        return [normalized(images, scale=self.scale, mean=mean, std=std), labels]


def per_channel(values: Sequence[float]) -> Tensor:
    """One value per channel, laid out to fit an image: (channels, 1, 1) float32."""
    return torch.tensor(values, dtype=torch.float32)[:, None, None]


def normalized(image: Tensor, *, scale: float, mean: Tensor, std: Tensor) -> Tensor:
    """(image / scale − mean) / std, float32, of an image (..., channels, height, width) of pixels from 0 to scale.

    Example:
        >>> half = torch.full((1, 1, 1), 0.5)
        >>> normalized(torch.tensor([[[0, 255]]]), scale=255.0, mean=half, std=half)
        tensor([[[-1.,  1.]]])
    """
    # One new tensor, changed in place: the same bits, a third of the memory traffic. The scale as a tensor: by a number,
    # CUDA multiplies with its reciprocal, and the last bit would depend on where images are normalized.
    divisor = torch.tensor(scale, device=image.device)
    return image.to(torch.float32, copy=True).div_(divisor).sub_(mean).div_(std)


@varied
def digits(*, size: int = 8, channels: int = 1, **variant: Any) -> dict[str, ImageDataset]:
    """Load the 1,797 handwritten digits of 8×8 pixels that scikit-learn brings along.

    Source: Alpaydin and Kaynak (1998), "Optical recognition of handwritten digits", UCI repository; the
    part for tests.
    Split here: of each digit, in the file's order, every fifth is a test example.
    With size 32 and 3 channels they fit networks for CIFAR.

    Args:
        size: Height and width, 8, 16 or 32: interpolated linearly along both axes between the centers of the
            pixels (`align_corners=False`), and constant beyond the outermost.
        channels: 1, or 3 that are the same.
        **variant: Of `read_variant`. One mean (0.305) and std (0.376, after interpolation 0.319 for size 16 and 0.324
            for size 32) for all channels; those of the training split.

    Returns:
        "train" and "test", images (channels, size, size) float32 and labels from 0 to 9.

    Raises:
        LandscapeError: Scikit-learn is not installed, or an argument is not valid.
    """
    _check_choice("size", size, tuple(_DIGITS_STD))
    _check_choice("channels", channels, (1, 3))
    chosen = read_variant(("train", "test"), ((0.305,), (_DIGITS_STD[size],)), **variant)
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise LandscapeError("digits needs scikit-learn; pip install 'mpi_landscape[quickstart]'") from error
    content = load_digits()
    images, labels = content.images.astype(np.uint8)[:, None], content.target.astype(np.int64)
    is_test = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        # Per digit, as the file begins 0, 1, 2, ..., 9, 0, 1, ...: every fifth of all would be a 4 or a 9.
        is_test[np.flatnonzero(labels == label)[4::5]] = True
    splits = {}
    for split, part in (("train", ~is_test), ("test", is_test)):
        kept = first_labels(chosen, split, labels[part], num_classes=10)
        enlarged = _enlarged(images[part][: len(kept)], size, channels)
        splits[split] = image_dataset(enlarged, kept, scale=16.0, variant=chosen)
    return splits


def image_dataset(images: Tensor, labels: Labels, *, scale: float, variant: Variant) -> ImageDataset:
    """Put images and labels together, with a variant's mean and std per channel, or one of each for all channels."""
    repeats = images.shape[1] // len(variant.mean)
    return ImageDataset(
        images, torch.from_numpy(labels), scale=scale, mean=variant.mean * repeats, std=variant.std * repeats
    )


def _check_choice(name: str, value: Any, valid: Sequence[int]) -> None:
    if not is_count(value) or value not in valid:
        raise LandscapeError(f"{name} is {shown(value)}; valid values are {listed(valid)}")


def _enlarged(images: NDArray[np.uint8], size: int, channels: int) -> Tensor:
    enlarged = torch.from_numpy(images)
    if size != images.shape[-1]:
        # Whole numbers up to 16 times 64ths: exact, so the same bits on every machine.
        enlarged = F.interpolate(enlarged.float(), size=(size, size), mode="bilinear", align_corners=False)
    return enlarged if channels == 1 else enlarged.repeat(1, channels, 1, 1)
