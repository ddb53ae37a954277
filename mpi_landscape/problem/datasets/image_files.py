"""Labelled images in files, one folder per class, decoded one by one when asked for."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from mpi_landscape.errors import LandscapeError
from mpi_landscape.problem.datasets.images import normalized, per_channel
from mpi_landscape.problem.datasets.variants import Variant, first_labels
from mpi_landscape.wording import reason


class ImageFiles(Dataset[tuple[Tensor, Tensor]]):
    """Labelled image files, decoded at every access; an example is (image / 255 − mean) / std, with its label.

    JPEG leaves the last bit to the decoder: another version of Pillow may give other pixels, and so another
    fingerprint of the data.

    Args:
        paths: One per example.
        labels: (N,) int64.
        decode: From a path to an RGB image of PIL.
        resize: Length that the shorter side is given, in pixels; None leaves the image as it is.
        size: Height and width that are cut from the center then; None leaves the image as it is.
        variant: Its mean and std are those of pixels from 0 to 1.
    """

    # Several threads may read at once.
    thread_safe = True

    def __init__(
        self,
        paths: Sequence[str],
        labels: Tensor,
        *,
        decode: Callable[[str], Any],
        resize: int | None,
        size: int | None,
        variant: Variant,
    ) -> None:
        from torchvision import transforms

        self.paths = paths
        self.labels = labels
        self._decode = decode
        # Bilinear with antialiasing, as the published accuracies of torchvision's networks are measured.
        shrink = [] if resize is None else [transforms.Resize(resize)]
        cut = [] if size is None else [transforms.CenterCrop(size)]
        self._pixels = transforms.Compose([*shrink, *cut, transforms.PILToTensor()])
        self._mean, self._std = per_channel(variant.mean), per_channel(variant.std)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image, label = self.finish(self.stored_item(index))
        return image, label

    def stored_item(self, index: int) -> tuple[Tensor, Tensor]:
        """One example to keep: image (channels, height, width) uint8, label () int64.

        Raises:
            LandscapeError: Its file cannot be decoded.
        """
        path = self.paths[index]
        try:
            pixels = self._pixels(self._decode(path))
        # Decoders raise almost anything: OSError, SyntaxError, ValueError, struct.error.
        except Exception as error:
            raise LandscapeError(
                f"{path} cannot be decoded ({reason(error)}); replace or remove it"
            ) from error
        return pixels, self.labels[index]

    def finish(self, examples: Sequence[Tensor]) -> list[Tensor]:
        """Turn one stored example, or several collated, images and labels on any device, into what indexing gives."""
        pixels, labels = examples
        mean, std = self._mean.to(pixels.device), self._std.to(pixels.device)
        return [normalized(pixels, scale=255.0, mean=mean, std=std), labels]


def class_folders(root: Path, split: str, *, official: bool = False) -> Any:
    """The data set of torchvision for root/split, with `samples`, `targets`, `classes` and `loader`; nothing is decoded.

    Of ImageNet, an official root holds the meta.bin too, which knows its classes.

    Raises:
        LandscapeError: There are no class folders, or one has no image, or is not of ImageNet.
    """
    from torchvision.datasets import ImageFolder, ImageNet

    try:
        return ImageNet(root, split) if official else ImageFolder(root / split)
    except Exception as error:  # FileNotFoundError and, of a damaged meta.bin, almost anything.
        raise LandscapeError(
            f"{root / split} cannot be read as a folder of class folders of images ({reason(error)}); expected "
            f"{root / split}/name_of_class/any_name.jpg"
        ) from error


def image_files(
    contents: Mapping[str, Any], variant: Variant, *, resize: int | None, size: int | None
) -> dict[str, ImageFiles]:
    """Data sets of what `class_folders` found, by split, in an order that goes round the classes."""
    splits = {}
    for split, content in contents.items():
        targets = np.asarray(content.targets, dtype=np.int64)
        order = _round_the_classes(targets)
        labels = first_labels(variant, split, targets[order], num_classes=len(content.classes))
        splits[split] = ImageFiles(
            [content.samples[index][0] for index in order[: len(labels)]],
            torch.from_numpy(labels),
            decode=content.loader,
            resize=resize,
            size=size,
            variant=variant,
        )
    return splits


def _round_the_classes(targets: NDArray[np.int64]) -> NDArray[np.intp]:
    """The order that takes the first of every class, then the second: files come class by class."""
    by_class = np.argsort(targets, kind="stable")
    starts = np.cumsum(np.bincount(targets)) - np.bincount(targets)
    position = np.empty_like(targets)
    position[by_class] = np.arange(len(targets)) - starts[targets[by_class]]
    return np.lexsort((targets, position))
