"""The published sets of small images, read by torchvision from their own files and kept in memory as bytes."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mpi_landscape.errors import LandscapeError
from mpi_landscape.problem.datasets.images import ImageDataset, image_dataset
from mpi_landscape.problem.datasets.variants import Statistics, Variant, first_labels, read_variant, varied
from mpi_landscape.wording import reason, shown

_SPLITS = ("train", "test")


@dataclass(frozen=True, kw_only=True)
class SmallImages:
    """What tells one of these sets from another.

    Attributes:
        kind: Its class in torchvision.datasets.
        folder: Where its files are below `root`, as torchvision or the published archive lays them out.
        usual: Mean and standard deviation of the training pixels by channel, which go from 0 to 1.
    """

    kind: str
    folder: str
    usual: Statistics


SETS = {
    # LeCun et al. (1998), "Gradient-based learning applied to document recognition": 60,000 and 10,000 digits of
    # 28×28 pixels. Statistics of all training pixels alike; four digits, as they are usually written.
    "mnist": SmallImages(kind="MNIST", folder="MNIST/raw", usual=((0.1307,), (0.3081,))),
    # Krizhevsky (2009), "Learning multiple layers of features from tiny images": 50,000 and 10,000 photographs of
    # 32×32 pixels in 10 classes. Statistics of the reference code of Li et al. (2018), in bytes there; its
    # checkpoints expect them.
    "cifar10": SmallImages(
        kind="CIFAR10",
        folder="cifar-10-batches-py",
        usual=((125.3 / 255, 123.0 / 255, 113.9 / 255), (63.0 / 255, 62.1 / 255, 66.7 / 255)),
    ),
    # The same in 100 classes; statistics of its own training images.
    "cifar100": SmallImages(
        kind="CIFAR100",
        folder="cifar-100-python",
        usual=((129.3 / 255, 124.1 / 255, 112.4 / 255), (68.2 / 255, 65.4 / 255, 70.4 / 255)),
    ),
    # Xiao, Rasul and Vollgraf (2017), arXiv:1708.07747: 60,000 and 10,000 pictures of clothes, as MNIST.
    "fashion_mnist": SmallImages(
        kind="FashionMNIST", folder="FashionMNIST/raw", usual=((0.2860,), (0.3530,))
    ),
}


@varied
def small_images(
    which: SmallImages, /, *, root: Path, download: bool = False, **variant: Any
) -> dict[str, ImageDataset]:
    """Read one of `SETS`, which is in `root` or may be fetched into it; `variant` is as in `read_variant`.

    Returns:
        "train" and "test", images (channels, height, width) float32 and labels from 0.

    Raises:
        LandscapeError: The files are absent or damaged, or an argument is not valid.
    """
    return _from_torchvision(which, root, download, read_variant(_SPLITS, which.usual, **variant))


def _from_torchvision(
    which: SmallImages, root: Path, download: bool, variant: Variant
) -> dict[str, ImageDataset]:
    kind, folder = which.kind, root / which.folder
    # Here, as its import takes longer than all of digits.
    import torchvision

    read: Callable[..., Any] = getattr(torchvision.datasets, kind)
    if not download and not folder.is_dir():
        raise LandscapeError(
            f"{kind} is not in data.root {shown(str(root))}, which has no folder {which.folder}; set "
            "data.download to true to fetch it, or unpack it there"
        )
    splits = {}
    for split in _SPLITS:
        try:
            content = read(root, train=split == "train", download=download)
        except Exception as error:  # Damaged pickles and failing downloads raise almost anything.
            if download:
                raise LandscapeError(f"{kind} cannot be fetched into {root} ({reason(error)})") from error
            raise LandscapeError(
                f"{kind} in {folder} is incomplete or damaged ({reason(error)}); remove the folder "
                "and set data.download to true, or unpack it again"
            ) from error
        pixels, labels = np.asarray(content.data), np.asarray(content.targets, dtype=np.int64)
        kept = first_labels(variant, split, labels, num_classes=len(content.classes))
        # torchvision keeps the channels last, or has none.
        images = pixels[:, None] if pixels.ndim == 3 else pixels.transpose(0, 3, 1, 2)
        images = np.ascontiguousarray(images[: len(kept)])
        splits[split] = image_dataset(torch.from_numpy(images), kept, scale=255.0, variant=variant)
    return splits
